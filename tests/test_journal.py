"""What a training says while it runs, what it adds up, and how it is told to stop."""

import json
import os
import signal
import types

import pytest

from unlir_jax.runtime import metric_writer, preemption
from unlir_jax.training import meters


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_numbers_are_written_line_by_line(tmp_path):
    said = []
    log = metric_writer.start(tmp_path, 0, 9, say=said.append)
    log.write(1, {"train/loss": 0.5})
    assert lines(tmp_path) == [{"step": 1, "train/loss": 0.5}], "at once"
    with pytest.raises(FloatingPointError, match="train/loss of step 2 is not a fin"):
        log.write(2, {"train/loss": float("nan")})
    log.show(2, "drawn for nobody")
    log.say("a line")
    log.close()
    assert len(lines(tmp_path)) == 1
    assert said == ["a line"]


def test_later_steps_and_a_torn_line_are_dropped(tmp_path):
    rows = [{"step": step, "train/loss": step / 7} for step in range(1, 6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 3, "train/lo')
    log = metric_writer.start(tmp_path, 3, 9)
    log.write(4, {"train/loss": 0.25})
    log.close()
    assert lines(tmp_path) == [*rows[:3], {"step": 4, "train/loss": 0.25}]


def test_tensorboard_gets_the_same(tmp_path):
    from tensorboardX.proto import event_pb2

    log = metric_writer.start(tmp_path, 0, 9, tensorboard=True)
    log.write(3, {"test/accuracy": 0.75})
    log.close()
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    data, found = file.read_bytes(), {}
    while data:
        # A record is its length, a checksum of that, itself, and a checksum.
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        found |= {(event.step, v.tag): v.simple_value for v in event.summary.value}
        data = data[16 + length :]
    assert found == {(3, "test/accuracy"): 0.75}


def test_the_silent_one_keeps_nothing(tmp_path, capsys):
    log = metric_writer.silent()
    log.write(1, {"a": 1.0})
    log.show(1, "a")
    log.say("a")
    log.close()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out


def test_means_go_on_from_their_sums():
    means = meters.Means()
    means.add({"loss": 1.0})
    again = meters.Means(json.loads(json.dumps(means.sums())))
    again.add({"loss": 4.0})
    assert again.take() == {"loss": 2.5}
    assert again.sums() == {"values": {}, "count": 0}


def test_the_clock_leaves_out_the_first_step_and_pauses(monkeypatch):
    now = iter([100.0, 102.0, 104.0, 200.0, 201.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    waiting = types.SimpleNamespace(seconds=50.0)
    clock = meters.Clock()
    assert clock.values() == {"images_per_second": 0.0, "data_wait": 0.0}
    clock.step(10, waiting)
    for waited in (0.5, 1.0):
        waiting.seconds = waited
        clock.step(10, waiting)
    clock.pause()
    clock.step(10, waiting)
    again = meters.Clock(clock.sums())
    # 20 images in 4 seconds, of which 1.5 were waited for.
    assert again.values() == {"images_per_second": 5.0, "data_wait": 0.375}
    waiting.seconds = 1.0
    clock.step(10, waiting)
    assert clock.values() == {"images_per_second": 6.0, "data_wait": 0.5}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_wish_at_first(number):
    before = signal.getsignal(number)
    with preemption.watch() as asked:
        assert asked() == ""
        os.kill(os.getpid(), number)
        assert asked() == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_is_an_order():
    with preemption.watch() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            asked()

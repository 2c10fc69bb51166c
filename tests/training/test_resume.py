"""A training that is stopped and goes on ends as if nothing had happened, bitwise."""

import json
import signal

import pytest

MACHINES = {
    "one device": {"processes": 1, "devices": 1},
    "two processes of two devices": {"processes": 2, "devices": 2},
}
STEPS = 24
each, one_device = (
    pytest.mark.parametrize("machine", machines, indirect=True, scope="module")
    for machines in (list(MACHINES), ["one device"])
)
pytestmark = pytest.mark.process


def numbers(folder):
    """Give all metrics that were written, without those of the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    timed = ("images_per_second", "data_wait")
    return [{n: v for n, v in row.items() if n not in timed} for row in rows]


@pytest.fixture(scope="module")
def machine(request, start, tmp_path_factory):
    """Train without interruption on each machine."""
    setting = MACHINES[request.param]
    folder = tmp_path_factory.mktemp("runs") / "whole"
    for code, text in start(folder, **setting).wait():
        assert code == 0, text
    return setting, folder


def go_on(start, setting, whole, folder):
    """Give the command again, and compare what comes out with the uninterrupted run."""
    (code, text), *rest = start(folder, **setting).wait()
    assert code == 0 and all(other == 0 for other, _ in rest), text
    assert (folder / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()
    assert numbers(folder) == numbers(whole)
    one, other = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for name in ("test/accuracy", "test/loss", "best/step", "weights_sha256"):
        assert one[name] == other[name]
    return text


@each
def test_sigterm_saves_and_the_same_command_goes_on(machine, start, tmp_path):
    setting, whole = machine
    folder = tmp_path / "stopped"
    training = start(folder, **setting)
    training.wait_for_step(5)
    # One process is told; the others have to notice.
    training.processes[-1].send_signal(signal.SIGTERM)
    (code, text), *rest = training.wait()
    assert code == 0 and all(other == 0 for other, _ in rest), text
    assert "all is saved" in text
    assert not (folder / "summary.json").exists()
    step = int(text.split(" at step ")[1].split()[0])
    assert 5 <= step < STEPS
    assert (folder / "checkpoints" / str(step)).is_dir()
    assert f"Going on from step {step} of {STEPS}" in go_on(
        start, setting, whole, folder
    )


@one_device
def test_sigkill_loses_the_steps_since_the_last_checkpoint_only(
    machine, start, tmp_path
):
    setting, whole = machine
    folder = tmp_path / "killed"
    training = start(folder, **setting)
    training.wait_for_checkpoint(4)
    training.wait_for_step(5)
    for process in training.processes:
        process.kill()
    assert all(code != 0 for code, _ in training.wait())
    text = go_on(start, setting, whole, folder)
    step = int(text.split("Going on from step ")[1].split()[0])
    assert step % 4 == 0 and 4 <= step < STEPS


@one_device
def test_a_finished_training_says_so_and_does_nothing(machine, start):
    setting, whole = machine
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    ((code, text),) = start(whole, **setting).wait()
    assert code == 0 and text.startswith("Nothing to do: training is finished")
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

"""Free adversarial training, against a simulation of its algorithm in NumPy."""

import contextlib
import itertools

import jax
import numpy as np
import optax
import pytest
from objectives.adversarial_worlds import LINEAR, ROWS, VARIABLES, batch
from training.conftest import TINY

from unlir_jax import objectives
from unlir_jax.runtime import config, mesh, preemption
from unlir_jax.training import defaults, optim, replays, state, train

EPSILON, TIMES, RATE = 0.05, 2, 0.5
FREE = objectives.adversarial(
    LINEAR, 2, method="free", epsilon=EPSILON, step_size=0.04, replays=TIMES
)


def batches(count):
    """Give different rows, some of which are near the border of the range."""
    for number in range(count):
        rows = batch(low=0.0, high=1.0)
        yield rows | {"image": np.roll(rows["image"], number, axis=0)}


def simulated(count):
    """Follow Algorithm 1 of Shafahi et al. on a linear network, in float64."""
    kernel = VARIABLES["params"]["kernel"].astype(np.float64)
    change = np.zeros((ROWS, 48))
    for rows in batches(count):
        images = rows["image"].reshape(ROWS, -1).astype(np.float64)
        for _ in range(TIMES):
            seen = np.clip(images + change, 0, 1) - 0.5
            odds = np.exp(seen @ kernel)
            wrong = odds / odds.sum(1, keepdims=True) - np.eye(2)[rows["label"]]
            change = change + 0.04 * np.sign(wrong @ kernel.T)
            change = np.clip(change, -EPSILON, EPSILON)
            kernel = kernel - RATE * seen.T @ wrong / ROWS
    return kernel, change


def trained(laid, count):
    rules = optim.rules(VARIABLES["params"], ((".*", {}),))
    optimizer = optim.make(rules, optax.constant_schedule(RATE))
    start = state.create(VARIABLES, rules, optimizer, change=(ROWS, 4, 4, 3))
    update = state.make_update(FREE, optimizer, rules, seed=0, axis_name=laid.axis_name)
    update, now = mesh.compile_update(laid, update), mesh.put_state(laid, start)
    given = replays.batches(
        lambda first: itertools.islice(batches(count), first, None), 0, FREE
    )
    for rows in given:
        now, report = update(now, mesh.put_batch(laid, rows))
        assert np.isfinite(report.values["loss"])
    return mesh.gather(laid, now)


@pytest.mark.parametrize(
    "mode", ["one", pytest.param("jit", marks=pytest.mark.exhaustive), "pmap"]
)
def test_steps_are_those_of_the_algorithm(mode):
    alone = {"devices": jax.devices()[:1]}
    laid = mesh.layout(**alone) if mode == "one" else mesh.layout(mode)
    found = trained(laid, 3)
    kernel, change = simulated(3)
    assert found.step == 3 * TIMES
    np.testing.assert_allclose(found.params["kernel"], kernel, atol=1e-5)
    moved = found.optimizer.change.reshape(ROWS, -1)
    np.testing.assert_allclose(moved, change, atol=1e-6)
    # The change has been cut at the radius, and images at the range.
    cut = np.isclose(np.abs(change), EPSILON)
    assert cut.any() and not cut.all()
    assert np.abs(kernel - VARIABLES["params"]["kernel"]).max() > 0.1


def test_a_batch_is_seen_several_times_wherever_steps_begin():
    closed = []

    def training(first):
        try:
            yield from range(first, 100)
        finally:
            closed.append(first)

    for start in range(7):
        rows = replays.batches(training, start, FREE)
        seen = [next(rows) for _ in range(5)]
        assert seen == [step // TIMES for step in range(start, start + 5)]
        rows.close()
    assert closed == [start // TIMES for start in range(7)]
    plain = objectives.classify(LINEAR, 2)
    assert next(replays.batches(training, 5, plain)) == 5


def test_what_is_said_of_replays():
    settings = defaults.training()
    settings.batch_size = 8
    assert replays.told(settings, FREE, 100, 40) == [
        "replays: 2 steps in a row see one batch, so 100 steps pass over the data 10 "
        "times"
    ]
    assert replays.told(settings, objectives.classify(LINEAR, 2), 100, 40) == []
    settings.optimizer.accumulate = 2
    with pytest.raises(ValueError, match="`optimizer.accumulate`=2 with an objective"):
        replays.told(settings, FREE, 100, 40)


@pytest.mark.exhaustive
def test_a_training_that_is_stopped_within_a_batch_ends_the_same(tmp_path, monkeypatch):
    given = config.load(str(TINY), ["steps=7", "evaluate.every=0"])
    with given.unlocked():
        given.objective = {"name": "adversarial", "method": "free", "replays": 3}
    lines = []
    whole = train.run(given, tmp_path / "whole", say=lines.append).summary
    assert "3 steps in a row see one batch, so 7 steps pass over" in "".join(lines)
    calls = []

    @contextlib.contextmanager
    def watch():
        yield lambda: calls.append(0) or ("SIGTERM" if len(calls) > 3 else "")

    with monkeypatch.context() as patch:
        patch.setattr(preemption, "watch", watch)
        stopped = train.run(given, tmp_path / "parted")
    assert stopped.summary is None and "at step 4 of 7" in stopped.message
    again = train.run(given, tmp_path / "parted").summary
    for name in ("weights_sha256", "test/robust_accuracy", "test/loss"):
        assert again[name] == whole[name]

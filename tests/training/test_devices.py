"""However a batch is dealt out to devices, the same is learnt."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from training.conftest import TINY

from unlir_jax import config, train

# Where rounding alone would grow, as it does at large rates, nothing could be compared:
# at this rate, moving the initial weights by 1e-7 moves the result by about as much.
CALM = ("steps=20", "optimizer.learning_rate=0.001", "evaluate.every=0")


def weights(folder):
    return safetensors.numpy.load_file(folder / "weights.safetensors")


def furthest(one, other):
    assert one.keys() == other.keys()
    return max(np.abs(one[name] - other[name]).max() for name in one)


def settings(*overrides):
    return config.load(str(TINY), [*CALM, *overrides])


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """Train on one device, in a process that has no more."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    overrides = [f"--config.{text}" for text in CALM]
    ((code, text),) = start(folder, *overrides).wait()
    assert code == 0, text
    return weights(folder)


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """Train on the four devices of this process."""
    folder = tmp_path_factory.mktemp("spread") / "run"
    assert jax.device_count() == 4
    assert train.run(settings(), folder).summary["devices"] == 4
    return weights(folder)


def test_four_devices_learn_what_one_learns(alone, spread):
    assert 0 < furthest(alone, spread) < 1e-5


def test_pmap_learns_what_jit_learns(spread, tmp_path):
    train.run(settings("mesh.mode=pmap"), tmp_path / "run")
    assert furthest(spread, weights(tmp_path / "run")) < 1e-6


def test_cut_parameters_learn_what_whole_ones_learn(spread, tmp_path):
    train.run(settings("mesh.shard_above=1000"), tmp_path / "run")
    assert furthest(spread, weights(tmp_path / "run")) < 1e-6


@pytest.mark.slow
def test_two_processes_of_two_devices_learn_what_one_device_learns(
    alone, start, tmp_path
):
    overrides = [f"--config.{text}" for text in CALM]
    training = start(tmp_path / "run", *overrides, processes=2, devices=2)
    for code, text in training.wait():
        assert code == 0, text
    assert 0 < furthest(alone, weights(tmp_path / "run")) < 1e-5


@pytest.mark.slow
def test_mixing_and_smoothing_are_the_same_in_pmap(tmp_path):
    mixed = ("objective.mixup=0.2", "objective.cutmix=1.0", "steps=2")
    for mode in ("jit", "pmap"):
        train.run(settings(*mixed, f"mesh.mode={mode}"), tmp_path / mode)
    assert furthest(weights(tmp_path / "jit"), weights(tmp_path / "pmap")) < 1e-6


def test_a_training_goes_on_with_other_devices(tmp_path, start):
    """And what was begun on one device ends on four, where it would have ended."""
    overrides = [f"--config.{text}" for text in CALM]
    training = start(tmp_path / "run", *overrides)
    training.wait_for_step(9)
    training.processes[0].terminate()
    ((code, text),) = training.wait()
    assert code == 0 and "all is saved" in text
    summary = train.run(settings(), tmp_path / "run").summary
    assert summary["devices"] == 4 and summary["steps"] == 20

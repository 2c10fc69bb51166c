"""However a batch is dealt out to devices, the same is learnt."""

import jax
import pytest
from training import double
from training.conftest import TINY
from training.double import furthest

from unlir_jax.runtime import config
from unlir_jax.training import train

# At large rates a training amplifies whatever moves it.
CALM = (
    *("steps=8", "optimizer.learning_rate=0.001"),
    *("evaluate.every=0", "checkpoint.every=0"),
)


def settings(*overrides):
    return config.load(str(TINY), [*CALM, *overrides])


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """Train in float64 on the four devices of this process, or on others."""
    assert jax.device_count() == 4

    def trained(*overrides, **more):
        folder = tmp_path_factory.mktemp("runs") / "run"
        with pytest.MonkeyPatch.context() as patch:
            return double.weights(folder, settings(*overrides), patch, **more)

    return trained


@pytest.fixture(scope="module")
def alone(learn):
    return learn(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def spread(learn):
    return learn()


@pytest.fixture(scope="module")
def tolerance(alone, learn):
    """Measure how far roundings carry: what the same change of the start does."""
    moved = learn(devices=jax.devices()[:1], moved=double.ROUNDING)
    return furthest(alone, moved)


def test_the_training_is_calm(alone, tolerance):
    """Nothing tips: a change of the start is carried on, and not amplified.

    Of weights and statistics up to 3, it may come out as some times itself.
    """
    assert double.ROUNDING / 10 < tolerance < 100 * double.ROUNDING


def test_four_devices_learn_what_one_learns(alone, spread, tolerance):
    assert 0 < furthest(alone, spread) < tolerance


def test_pmap_learns_what_jit_learns(learn, spread, tolerance):
    assert furthest(spread, learn("mesh.mode=pmap")) < tolerance


def test_cut_parameters_learn_what_whole_ones_learn(learn, spread, tolerance):
    assert furthest(spread, learn("mesh.shard_above=1000")) < tolerance


@pytest.mark.slow
def test_two_processes_of_two_devices_learn_what_one_device_learns(
    alone, start, tmp_path, tolerance
):
    training = start(
        tmp_path / "run",
        *(f"--config.{text}" for text in CALM),
        processes=2,
        devices=2,
        program=(double.__file__,),
        JAX_ENABLE_X64=1,
    )
    for code, text in training.wait():
        assert code == 0, text
    assert 0 < furthest(alone, double.read(tmp_path / "run")) < tolerance


@pytest.mark.slow
def test_mixing_and_smoothing_are_the_same_in_pmap(learn, tolerance):
    mixed = ("objective.mixup=0.2", "objective.cutmix=1.0", "steps=2")
    jit, pmap = (learn(*mixed, f"mesh.mode={mode}") for mode in ("jit", "pmap"))
    assert furthest(jit, pmap) < tolerance


def test_a_training_goes_on_with_other_devices(tmp_path, start):
    """And what was begun on one device ends on four, where it would have ended."""
    training = start(
        tmp_path / "run", *(f"--config.{text}" for text in (*CALM, "steps=20"))
    )
    training.wait_for_step(9)
    training.processes[0].terminate()
    ((code, text),) = training.wait()
    assert code == 0 and "all is saved" in text
    summary = train.run(settings("steps=20"), tmp_path / "run").summary
    assert summary["devices"] == 4 and summary["steps"] == 20

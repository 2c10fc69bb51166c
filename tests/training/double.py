"""Train in float64, where a rounding tips no ReLU; as a program, `unlir train` so.

A rounding of float32 now and then carries an activation of a training over the kink of
a ReLU, and its gradient comes or goes at once: which one, and when, depends on the
devices and on the processor. Roundings of float64 are 1e-16, and no activation of a
short training is that near to a kink.
"""

import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from unlir_jax import cli
from unlir_jax.objectives import network
from unlir_jax.runtime import mesh
from unlir_jax.training import setup, train

LONGEST_SUM = 32 * 32 * 32
"""All pixels of a batch of `tiny.py`, or of one twice as large."""
ROUNDING = LONGEST_SUM * float(np.finfo(np.float64).eps)
"""What another order of that sum changes at most, relative to its terms."""


def preparing(devices=None, moved=0.0):
    """Make `setup.prepare` start in float64, on `devices`, from moved weights.

    Each number is moved up or down by the share `moved` of itself.
    """
    prepare, signs = setup.prepare, np.random.default_rng(0)

    def double(leaf):
        leaf = np.asarray(leaf)
        return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf

    def move(leaf):
        return leaf * (1 + moved * signs.choice([-1.0, 1.0], leaf.shape))

    def prepared(settings):
        found = prepare(settings)
        state = jax.tree.map(double, found.state)
        state = state._replace(params=jax.tree.map(move, state.params))
        laid = found.laid if devices is None else mesh.layout(devices=devices)
        return found._replace(state=state, laid=laid)

    return prepared


def pixels(images):
    """Stand in for `network.pixels`, whose division rounds to float32."""
    return images.astype(np.float64) / 255


def patch(monkeypatch, **more):
    monkeypatch.setattr(setup, "prepare", preparing(**more))
    monkeypatch.setattr(network, "pixels", pixels)


def weights(folder, settings, monkeypatch, **more):
    """Train in this process; give what has been learnt."""
    with monkeypatch.context() as context, jax.enable_x64(True):
        patch(context, **more)
        train.run(settings, folder)
    return read(folder)


def read(folder):
    learnt = safetensors.numpy.load_file(folder / "weights.safetensors")
    assert {leaf.dtype for leaf in learnt.values()} == {np.dtype(np.float64)}
    return learnt


def furthest(one, other):
    assert one.keys() == other.keys()
    return max(np.abs(one[name] - other[name]).max() for name in one)


if __name__ == "__main__":
    patch(pytest.MonkeyPatch())
    sys.exit(cli.main())

"""Halves that a CPU runs on a few images of a batch at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unlir_jax import split
from unlir_jax.core import loops

IMAGES = np.random.default_rng(0).random((5, 224, 224, 3)).astype(np.float32)


class Counted(nn.Module):
    """Tell how many images it sees by adding their number to the maps."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3, name="dense")(images + len(images)).mean((1, 2))


@pytest.mark.parametrize(("cores", "seen"), [(1, 2), (2, 3), (3, 5)])
def test_equal_chunks_are_joined(monkeypatch, cores, seen):
    monkeypatch.setattr(loops, "cores", lambda: cores)
    module = Counted()
    variables = module.init(jax.random.key(0), jnp.asarray(IMAGES))
    model = split.from_linen(module, "dense")
    maps = model.features(variables, jnp.asarray(IMAGES)).maps
    weights = jax.tree.map(np.asarray, variables["params"]["dense"])
    expected = (IMAGES + seen) @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4)
    # Inside another program there are no chunks.
    inside = jax.jit(model.features)(variables, jnp.asarray(IMAGES)).maps
    expected = (IMAGES + 5) @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(inside, expected, rtol=1e-4, atol=1e-4)

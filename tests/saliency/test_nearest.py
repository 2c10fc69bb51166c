"""The combination of maps nearest to a wanted map, against its optimality condition."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.saliency.optimisation import entropic_projection as subject


def draw(cells, filters):
    random = np.random.default_rng(0)
    stack = random.uniform(size=(3, cells, filters)) * random.integers(
        0, 2, (3, cells, filters)
    )
    start = random.normal(size=(3, filters)) - 3
    return stack, start, random.uniform(size=(3, cells))


@pytest.mark.parametrize(("cells", "filters"), [(9, 40), (40, 6)])
@pytest.mark.parametrize("softness", [1e-2, 1e-1])
def test_the_derivative_is_zero_where_it_ends(x64, cells, filters, softness):
    stack, start, target = draw(cells, filters)
    found = subject.nearest(
        *map(jnp.asarray, (stack, start, target)), softness=softness, iterations=40
    )
    residual = np.einsum("bck,bk->bc", stack, np.exp(found)) - target
    pull = np.einsum("bck,bc->bk", stack, residual) / softness
    # Of KL(w | w0) + |A w - t|^2 / (2 softness), by w.
    np.testing.assert_allclose(found - start + pull, 0, atol=1e-8)


def test_a_sum_of_maps_is_found_again(x64):
    stack, start, _ = draw(9, 40)
    target = np.einsum("bck,bk->bc", stack, np.exp(start[::-1]))
    found = subject.nearest(
        *map(jnp.asarray, (stack, start, target)), softness=1e-8, iterations=60
    )
    reached = np.einsum("bck,bk->bc", stack, np.exp(found))
    np.testing.assert_allclose(reached, target, atol=1e-6)


def test_single_precision_and_few_iterations_come_close():
    stack, start, target = (part.astype(np.float32) for part in draw(49, 400))
    found = subject.nearest(*map(jnp.asarray, (stack, start, target)))
    before = np.linalg.norm(np.einsum("bck,bk->bc", stack, np.exp(start)) - target)
    after = np.linalg.norm(np.einsum("bck,bk->bc", stack, np.exp(found)) - target)
    assert np.isfinite(found).all() and after < before / 4

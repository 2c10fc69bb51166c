"""Registers without training, on a transformer whose outliers were planted."""

import jax.numpy as jnp
import numpy as np
import pytest
import small_transformer

from unlir_jax import split, tree
from unlir_jax.models import registers
from unlir_jax.models.swin import Swin
from unlir_jax.saliency import raw_attention

IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 16, 16, 3)), jnp.float32)
PLANTED = (1, 5)
HEIGHT = 300.0


@pytest.fixture(scope="module")
def planted():
    """Give a network in which one neuron alone makes tokens of large norm."""
    module, _ = small_transformer.network(scale=1.0)
    flat = dict(tree.flatten(small_transformer.variables(module)))
    flat = {path: 0.05 * leaf for path, leaf in flat.items()}
    for block in range(2):
        for name in ("norm1", "norm2"):
            flat[f"params/block{block}/{name}/scale"] = np.ones(8, np.float32)
        for name in ("scale1", "scale2"):
            flat[f"params/block{block}/{name}/factor"] = np.ones(8, np.float32)
    expand = flat["params/block1/mlp/expand/kernel"].copy()
    contract = flat["params/block1/mlp/contract/kernel"].copy()
    expand[:, PLANTED[1]] = np.random.default_rng(1).normal(size=8)
    contract[PLANTED[1]] = HEIGHT * np.eye(8)[3]
    flat["params/block1/mlp/expand/kernel"] = expand
    flat["params/block1/mlp/contract/kernel"] = contract
    return module, tree.unflatten(flat)


def last_tokens(module, variables):
    apply = split.attention.of_linen(module.apply, module.leading)
    return np.asarray(apply.run(variables, IMAGES).tokens[-1])


def test_the_neuron_that_makes_outliers_is_found(planted):
    found = registers.find(*planted, IMAGES, threshold=50.0, count=2)
    assert found.neurons[0] == PLANTED and found.scores[0] > 2 * found.scores[1]
    norms = np.linalg.norm(last_tokens(*planted), axis=-1)
    assert found.images == (norms > 50).any(1).sum() > 0


def test_a_register_takes_the_largest_and_patches_have_none(planted):
    """In closed form: the last block adds what the neuron gives to one channel."""
    module, variables = planted
    larger, more = registers.add(module, variables, (PLANTED,))
    assert larger.leading == 2
    before, after = last_tokens(*planted), last_tokens(larger, more)
    assert after.shape == (3, 18, 8)
    assert np.linalg.norm(before[:, 1:], axis=-1).max() > 50
    assert np.linalg.norm(after[:, 2:], axis=-1).max() < 10
    # Without the neuron at all, patches are the same.
    flat = dict(tree.flatten(more))
    flat["params/block1/mlp/contract/kernel"] = np.where(
        np.arange(12)[:, None] == PLANTED[1],
        0,
        flat["params/block1/mlp/contract/kernel"],
    )
    without = last_tokens(larger, tree.unflatten(flat))
    np.testing.assert_allclose(after[:, 2:], without[:, 2:], atol=1e-5)
    given = (after - without)[:, 1, 3] / HEIGHT
    kept = (after - without)[:, 0, 3] / HEIGHT
    # The register has the largest magnitude, of the class token or of a patch.
    assert (np.abs(given) >= np.abs(kept) - 1e-6).all() and (given != 0).all()


def test_moving_by_hand():
    inner = jnp.asarray([[[1.0, 7], [0, 8], [-5, 9], [3, 6]]])
    moved = registers.Moved(((0, 0),), 1, 2)
    found = registers.move(inner, moved)
    np.testing.assert_array_equal(found, [[[1, 7], [-5, 8], [0, 9], [0, 6]]])
    assert registers.move(inner, moved.of(1)) is inner


def test_registers_do_not_lie_in_the_grid(planted):
    module, variables = registers.add(*planted, (PLANTED,), count=3)
    model = split.from_methods(module, "features_at", "head_at", layer="norm")
    assert model.features(variables, IMAGES).maps.shape == (3, 4, 4, 8)
    apply = split.attention.of_linen(module.apply, module.leading)
    model = model._replace(attention=apply)
    found = raw_attention(model)(variables, IMAGES, jnp.asarray([0, 1, 2]))
    assert found.shape == (3, 4, 4) and np.isfinite(found).all()


def test_what_cannot_be_is_refused_by_a_sentence(planted):
    module, variables = planted
    with pytest.raises(ValueError, match="the largest norm of a token of block 1 is"):
        registers.find(*planted, IMAGES, threshold=1e9, count=1)
    with pytest.raises(ValueError, match="expected -2 to 1"):
        registers.find(*planted, IMAGES, threshold=1.0, count=1, block=2)
    with pytest.raises(ValueError, match="2 x 12 neurons"):
        registers.find(*planted, IMAGES, threshold=1.0, count=25)
    with pytest.raises(ValueError, match=r"expected numbers below \(2, 12\)"):
        registers.add(module, variables, ((2, 0),))
    with pytest.raises(ValueError, match="1 register or more"):
        registers.add(module, variables, (PLANTED,), count=0)
    with pytest.raises(ValueError, match="already"):
        registers.add(*registers.add(module, variables, (PLANTED,)), (PLANTED,))
    with pytest.raises(ValueError, match="which has no registers"):
        registers.add(Swin(), variables, (PLANTED,))

"""Attention of people's own transformers, as flax writes them and by hand."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
import small_transformer
import toy
from flax import linen as nn

from unlir_jax import saliency, split

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3)), jnp.float32)
LABELS = jnp.asarray([0, 3])


class Encoder(nn.Module):
    """A block whose attention is flax's own."""

    sown: bool = False

    @nn.compact
    def __call__(self, tokens):
        attend = nn.MultiHeadDotProductAttention(2, name="attention")
        normed = nn.LayerNorm(use_fast_variance=False)(tokens)
        tokens = tokens + attend(normed, sow_weights=self.sown)
        return tokens + nn.Dense(8)(nn.gelu(nn.Dense(12)(tokens)))


class ViT(nn.Module):
    """Patches and a class token, as newcomers write them."""

    sown: bool = False
    block: type[nn.Module] = Encoder

    @nn.compact
    def __call__(self, images):
        maps = nn.Conv(8, (4, 4), (4, 4), name="patches")(images)
        tokens = maps.reshape(len(maps), -1, 8)
        first = self.param("first", nn.initializers.normal(1.0), (1, 1, 8))
        first = jnp.broadcast_to(first, (len(maps), 1, 8))
        tokens = jnp.concatenate([first, tokens], 1)
        for index in range(2):
            tokens = self.block(self.sown, name=f"block{index}")(tokens)
        return nn.Dense(5, name="dense")(tokens[:, 0])


@pytest.fixture(scope="module")
def variables():
    return toy.random_variables(ViT(), IMAGES)


@pytest.fixture(scope="module")
def cut():
    return split.from_linen(ViT(), "block0", tokens=(1, "square"))


@pytest.mark.exhaustive
def test_flax_attention_of_linen_gives_the_weights_that_it_sows(cut, variables):
    expected, state = ViT(sown=True).apply(variables, IMAGES, mutable="intermediates")
    found = jax.jit(cut.attention.run)(variables, IMAGES)
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)
    assert len(found.weights) == 2 and found.weights[0].shape == (2, 2, 17, 17)
    for index, weights in enumerate(found.weights):
        sown = state["intermediates"][f"block{index}"]["attention"]["attention_weights"]
        np.testing.assert_allclose(weights, sown[0], atol=1e-6)


def test_flax_attention_of_nnx_gives_its_weights():
    network = own_networks.nnx_module(own_networks.ViT)
    model, state = split.from_nnx(network, at="blocks/0", tokens=(2, "square"))
    found = jax.jit(model.attention.run)(state, IMAGES)
    np.testing.assert_allclose(found.logits, network(IMAGES), atol=1e-4)
    # The first block's weights by hand, out of its own projections.
    maps = network.patches(IMAGES).reshape(2, 16, 8)
    first = jnp.tile(network.leading[...], (2, 1, 1))
    tokens = jnp.concatenate([first, maps], 1) + network.places[...]
    attend, normed = network.blocks[0].attention, network.blocks[0].norm(tokens)
    query, key = attend.query(normed) / 2, attend.key(normed)
    by_hand = jax.nn.softmax(jnp.einsum("bqhc,bkhc->bhqk", query, key))
    np.testing.assert_allclose(found.weights[0], by_hand, atol=1e-5)
    assert model.attention.leading == 2 and len(found.weights) == 2
    # The user's own network is what it was.
    assert "attend" not in network.blocks[0].attention.attention_fn.__qualname__


@pytest.mark.exhaustive
def test_derivatives_by_flax_attention_are_those_of_differences(cut, variables):
    def total(step):
        added = tuple(step * each for each in moved)
        logits = cut.attention.run(variables, IMAGES, added).logits
        return logits[0, 0] + logits[1, 3]

    found = cut.attention.run(variables, IMAGES)
    random = np.random.default_rng(0)
    moved = [jnp.asarray(random.normal(size=w.shape), w.dtype) for w in found.weights]
    slope = float(jax.grad(total)(0.0))
    step = 1e-2
    difference = float(total(step) - total(-step)) / (2 * step)
    assert abs(slope) > 0.01
    np.testing.assert_allclose(difference, slope, rtol=0.02)


def test_legrad_needs_a_network_that_says_what_a_block_decides(cut, variables):
    explain = saliency.legrad(cut)
    with pytest.raises(ValueError, match="no way to classify the tokens of a block"):
        explain(variables, IMAGES, LABELS)


class Remembered(nn.Module):
    """A block that is computed twice to save memory."""

    sown: bool = False

    @nn.compact
    def __call__(self, tokens):
        return nn.remat(Encoder)(name="inner")(tokens)


@pytest.mark.exhaustive
def test_what_cannot_be_read_is_refused_by_a_sentence(unchecked, cut, variables):
    explain = saliency.raw_attention(cut, block=2)
    with pytest.raises(ValueError, match="has 2 blocks; expected -2 to 1"):
        explain(variables, IMAGES, LABELS)
    for factory in (
        saliency.attention_rollout,
        saliency.generic_attention,
        saliency.transformer_attribution,
    ):
        with pytest.raises(ValueError, match="has 2 blocks; expected 0 to 1"):
            factory(cut, start=2)(variables, IMAGES, LABELS)
        with pytest.raises(ValueError, match="expected the number of a block"):
            factory(cut, start=-1)
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        saliency.raw_attention(cut, heads="means")
    module = ViT(block=Remembered)
    inside = split.from_linen(module, "block0", tokens=(1, "square"))
    explain = saliency.raw_attention(inside)
    with pytest.raises(ValueError, match="attention under a transformation"):
        explain(module.init(jax.random.key(0), IMAGES), IMAGES, LABELS)
    plain = toy.Plain()
    model = split.from_linen(plain, "conv0")
    explain = saliency.attention_rollout(model)
    with pytest.raises(ValueError, match="network without attention that is known"):
        explain(toy.random_variables(plain, IMAGES), IMAGES, LABELS)


class Merging(nn.Module):
    """Two blocks, of which the second sees a quarter of the tokens."""

    @nn.compact
    def __call__(self, images):
        tokens = nn.Conv(8, (4, 4), (4, 4), name="patches")(images)
        tokens = tokens.reshape(len(images), 16, 8)
        tokens = Encoder(name="first")(tokens)
        tokens = Encoder(name="second")(tokens.reshape(len(images), 4, 4, 8).mean(2))
        return nn.Dense(5)(tokens.mean(1))


def test_rollout_of_a_hierarchical_network_is_refused():
    module = Merging()
    model = split.from_linen(module, "second", tokens="square")
    given = toy.random_variables(module, IMAGES), IMAGES, LABELS
    with pytest.raises(ValueError, match=r"hierarchical.*\(16 x 16, 4 x 4\)"):
        saliency.attention_rollout(model)(*given)


@pytest.mark.exhaustive
def test_the_plain_network_is_the_two_halves(cut, variables):
    expected = split.whole(cut)(variables, IMAGES)
    helpers.close(cut.run(variables, IMAGES), expected, atol=1e-5)
    module, model = small_transformer.network(registers=2)
    drawn = small_transformer.variables(module)
    expected = split.whole(model)(drawn, IMAGES)
    helpers.close(model.run(drawn, IMAGES), expected, atol=1e-5)
    found = saliency.legrad(model)(drawn, IMAGES, LABELS)
    assert found.shape == (2, 4, 4) and (found >= 0).all() and found.any()

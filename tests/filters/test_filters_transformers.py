"""Weights of neurons, heads and scales of transformers, ours and people's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from flax import linen as nn
from helpers import refused, same

from unlir_jax import filters, tree
from unlir_jax.models import backbone, calls, convnext, drawing, pretrained, swin, zoo

NAME = "small_filtered"
MODES = ("output", "input", "output+input", "filter", "kronecker", "shift")
SMALL = {
    "swin": swin.Swin(8, (1, 1), (2, 4), window=4, num_classes=5),
    "convnext": convnext.ConvNeXt((1, 1), (8, 12), 0.1, num_classes=5),
}


class Own(nn.Module):
    """A transformer of flax's own bricks, with layer scales as they are often named."""

    @nn.compact
    def __call__(self, images):
        tokens = nn.Conv(12, (8, 8), (8, 8), name="patches")(images)
        tokens = tokens.reshape(len(images), -1, 12)
        normed = nn.LayerNorm(name="norm1")(tokens)
        attend = nn.MultiHeadDotProductAttention(3, qkv_features=6, name="attend")
        tokens = tokens + Scale(name="scale1")(attend(normed))
        inner = nn.gelu(nn.Dense(7, name="up")(nn.LayerNorm(name="norm2")(tokens)))
        tokens = tokens + nn.Dense(12, name="down")(inner)
        return nn.Dense(4, name="classifier")(tokens.mean(1))


class Scale(nn.Module):
    """Multiply channels by learned factors."""

    @nn.compact
    def __call__(self, tokens):
        gamma = self.param("gamma", nn.initializers.ones, tokens.shape[-1:])
        return tokens * gamma.reshape(1, 1, -1)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Load a small DeiT-III out of a file with timm's names."""
    backbone.NETWORKS.pop(NAME, None)
    small.register(NAME, "timm_deit3")
    path = tmp_path_factory.mktemp("ours") / "weights.npz"
    np.savez(path, **small.state("timm_deit3"))
    yield pretrained.load(NAME, path)
    backbone.NETWORKS.pop(NAME, None)


@functools.cache
def own():
    module = Own()
    known = jax.jit(module.init)(jax.random.key(0), small.images())
    random = np.random.default_rng(0)
    return module, jax.tree.map(
        lambda leaf: random.uniform(0.3, 1.2, leaf.shape).astype(np.float32), known
    )


def at_random(weights, seed=1):
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        for name, leaf in weights.items()
    }


def seen(module, variables, functions):
    return np.asarray(
        jax.jit(lambda v: calls.with_inputs(module, v, small.images(), functions))(
            variables
        )
    )


def folded(module, variables, weights):
    """Give logits of the network into which weights are folded, and check the ways."""
    whole = filters.fold(variables, weights)
    same(jax.tree.map(np.asarray, filters.apply(variables, weights)), whole)
    back = filters.unfold(whole, weights)
    for path, leaf in tree.flatten(back).items():
        kept = np.asarray(tree.flatten(variables)[path])
        # Two products are two roundings, and a sum loses what is below its own.
        np.testing.assert_allclose(leaf, kept, rtol=4e-7, atol=2e-7)
    return seen(module, whole, {})


@pytest.mark.parametrize("mode", tiers.by_tier(MODES, {"output", "shift"}))
def test_weights_of_one_are_the_network_itself(ours, mode):
    pairing = filters.pairs(ours)
    weights = filters.init(ours.variables, mode=mode, pairing=pairing)
    same(dict(filters.apply(ours.variables, weights)), dict(ours.variables))
    assert {name.split("/")[0] for name in weights} >= {"block0", "block1", "patches"}
    folded(ours.module, ours.variables, at_random(weights))


def test_weights_of_neurons_multiply_what_the_next_layer_reads(ours):
    layer = "block1/mlp/contract"
    weights = at_random(filters.init(ours.variables, layer, "input"))
    (gate,) = weights.values()
    assert list(weights) == [f"{layer}/input"] and gate.shape == (128,)
    expected = seen(
        ours.module,
        ours.variables,
        {layer: lambda values: values * gate.reshape(1, 1, -1)},
    )
    found = folded(ours.module, ours.variables, weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_weight_of_a_head_multiplies_what_the_head_gives(ours):
    known = filters.heads(ours)
    assert known == {f"block{n}/attention/value": 2 for n in range(2)}
    weights = filters.init(ours.variables, ".*attention.*", "heads", heads=known)
    weights = at_random(weights)
    assert {gate.shape for gate in weights.values()} == {(2,)}
    changes = {}
    for name, gate in weights.items():
        reader = name.replace("value/heads", "output")
        each = np.repeat(gate, 32).reshape(1, 1, -1)
        changes[reader] = lambda values, each=each: values * each
    expected = seen(ours.module, ours.variables, changes)
    found = folded(ours.module, ours.variables, weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, seen(ours.module, ours.variables, {}), atol=1e-3)


def test_gains_are_of_norms_and_layer_scales(ours):
    weights = at_random(filters.init(ours.variables, r"block0/scale\d", "gain"))
    assert set(weights) == {"block0/scale1/gain", "block0/scale2/gain"}
    # A layer scale is linear in what it is given.
    changes = {
        name.removesuffix("/gain"): lambda values, g=gate: values * g.reshape(1, 1, -1)
        for name, gate in weights.items()
    }
    expected = seen(ours.module, ours.variables, changes)
    found = folded(ours.module, ours.variables, weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    norms = filters.init(ours.variables, ".*norm.*", "gain")
    assert set(norms) == {
        "norm/gain",
        *(f"block{n}/norm{k}/gain" for n in range(2) for k in (1, 2)),
    }
    wrong = "selects no norm or layer scale; expected .* block0/norm1"
    refused(wrong, filters.init, ours.variables, "patches", "gain")


@pytest.mark.parametrize("name", list(SMALL))
def test_weights_of_other_transformers(name):
    module = SMALL[name]
    variables = drawing.random_variables(module, zoo.find("cifar_resnet8")[1])
    from unlir_jax.models import channels

    pairing = channels.norms(module)
    layers = {p[7:-7] for p in tree.flatten(variables) if p.endswith("/kernel")}
    assert set(pairing) == layers
    assert pairing["patches"] == "norm0"
    weights = filters.init(variables, mode="output", pairing=pairing)
    assert "norm0/output" in weights and "patches/output" not in weights
    folded(module, variables, at_random(weights))


@pytest.mark.parametrize("mode", (*MODES, "heads", "gain"))
def test_weights_of_peoples_own_transformers(mode):
    module, variables = own()
    pairing = filters.pre_norm(variables)
    weights = filters.init(variables, mode=mode, pairing=pairing)
    same(dict(filters.apply(variables, weights)), dict(variables))
    if mode == "heads":
        assert {n: w.shape for n, w in weights.items()} == {"attend/value/heads": (3,)}
    elif mode == "gain":
        assert {n.split("/")[0] for n in weights} == {"norm1", "norm2", "scale1"}
    else:
        assert "attend/query" in {name.rpartition("/")[0] for name in weights}
    folded(module, variables, at_random(weights))


def test_weights_of_flax_attention_are_of_its_heads():
    module, variables = own()
    for mode, reader in (("heads", "value"), ("input", "out")):
        weights = at_random(filters.init(variables, f"attend/{reader}", mode))
        (gate,) = weights.values()
        whole = np.repeat(gate, 2) if mode == "heads" else gate
        changes = {"attend/out": lambda v, w=whole: v * w.reshape(1, 1, 3, 2)}
        expected = seen(module, variables, changes)
        found = folded(module, variables, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_is_not_known_is_refused(ours):
    known = ours.variables
    refused("pairing.*None, but .*norm.* may follow", filters.init, known, "block0/.*")
    refused("`heads`.*for each of them", filters.init, known, ".*value", "heads")
    wrong = {"block0/attention/value/heads": np.ones(5, np.float32)}
    refused("a number that divides 64 of heads", filters.apply, known, wrong)
    wrong = {"attend/value/heads": np.ones(2, np.float32)}
    refused(r"expected \[3\] of heads", filters.apply, own()[1], wrong)
    refused("layer scale", filters.init, known, "nothing", "gain")


def test_adapters_of_heads_go_through_vmap(ours):
    known = filters.heads(ours)
    weights = filters.init(ours.variables, mode="heads", heads=known)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), weights)
    both = jax.jit(jax.vmap(filters.apply, (None, 0)))(ours.variables, two)
    for place, factor in enumerate((1, 2)):
        alone = filters.apply(
            ours.variables, jax.tree.map(lambda leaf, f=factor: f * leaf, weights)
        )
        for path, leaf in tree.flatten(both).items():
            np.testing.assert_array_equal(leaf[place], tree.flatten(alone)[path])

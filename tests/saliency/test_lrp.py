"""Relevance: what is conserved, and rules by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy
from flax import linen as nn

from unlir_jax import saliency, split
from unlir_jax.saliency.relevance import lrp, rules

IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 16, 16, 3)), jnp.float32)
LABELS = jnp.asarray([0, 1, 2])


class Network(nn.Module):
    """Layers of all kinds: a norm that is folded, curved activations, a sum."""

    @nn.compact
    def __call__(self, images, train=False):
        maps = nn.relu6(4 * nn.Conv(6, (3, 3), (2, 2), name="conv0")(images))
        inner = nn.Conv(6, (3, 3), name="conv1", use_bias=False)(maps)
        inner = nn.BatchNorm(use_running_average=not train, name="norm1")(inner)
        maps = maps + nn.silu(inner)
        maps = nn.max_pool(nn.gelu(nn.Conv(8, (3, 3))(maps)), (2, 2), (2, 2))
        return nn.Dense(5, name="dense")(maps.mean((1, 2)))


@pytest.fixture(scope="module")
def network():
    module = Network()
    model = split.from_linen(module, "conv0")
    return model, toy.random_variables(module, IMAGES)


@pytest.mark.parametrize(
    "composite",
    tiers.by_tier([n for n in lrp.CONVOLUTIONS if n != lrp.BOX], {"epsilon_gamma"}),
)
def test_without_biases_the_map_adds_up_to_the_logit(network, composite):
    model, variables = network
    explain = saliency.lrp(model, composite=composite, bias=False)
    found = explain(variables, IMAGES, LABELS)
    logits = split.whole(model)(variables, IMAGES)[jnp.arange(3), LABELS]
    np.testing.assert_allclose(found.sum((1, 2)), logits, rtol=1e-4)
    lost = saliency.conservation(model)(variables, IMAGES, LABELS, found)
    np.testing.assert_allclose(lost, 0, atol=1e-4 * float(jnp.abs(logits).max()))


def test_what_biases_take_is_lost_and_said(network):
    model, variables = network
    found = saliency.lrp(model)(variables, IMAGES, LABELS)
    lost = saliency.conservation(model)(variables, IMAGES, LABELS, found)
    assert (np.abs(lost) > 1e-3).all()


class Plain(nn.Module):
    """One convolution of 1 x 1, and the mean."""

    @nn.compact
    def __call__(self, images):
        return nn.Conv(2, (1, 1), name="conv")(images).mean((1, 2))


KERNEL = np.asarray([[1.0, 0.5], [-2.0, 1.0], [0.5, -1.0]])
BIAS = np.asarray([0.3, -0.2])
BY_HAND = {
    # Each gives the shares of the inputs x of an output z = Σ x w + b.
    "epsilon": lambda x, w, b: x * w / ((x * w).sum() + b),
    "z_plus": lambda x, w, b: (
        np.maximum(x * w, 0) / (np.maximum(x * w, 0).sum() + max(b, 0))
    ),
    "alpha_beta": lambda x, w, b: (
        2 * np.maximum(x * w, 0) / (np.maximum(x * w, 0).sum() + max(b, 0))
        - np.minimum(x * w, 0) / (np.minimum(x * w, 0).sum() + min(b, 0))
    ),
    "flat": lambda x, w, b: np.full(3, 1 / 3),
    "w_square": lambda x, w, b: w**2 / ((w**2).sum() + b**2),
    # Of the bias nothing is left: what the ends of the box give is subtracted.
    "z_box": lambda x, w, b: (
        (x * w - np.minimum(w, 0)) / (x * w - np.minimum(w, 0)).sum()
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_rule_by_hand(name):
    settings = {"z_box": {"low": (0, 0, 0), "high": (1, 1, 1)}}.get(name, {})
    rule = getattr(rules, name)(**settings)
    model = split.from_linen(Plain(), "conv")
    variables = {"params": {"conv": {"kernel": KERNEL[None, None], "bias": BIAS}}}
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)
    images = np.random.default_rng(1).random((2, 2, 2, 3))
    explain = saliency.lrp(model, composite=saliency.Composite(rule, rule))
    chosen, labels = rule, jnp.asarray([0, 1])
    found = explain(variables, jnp.asarray(images, jnp.float32), labels)
    expected = np.zeros((2, 2, 2))
    for image, row, column in np.ndindex(2, 2, 2):
        x, w, b = images[image, row, column], KERNEL[:, image], BIAS[image]
        expected[image, row, column] = (BY_HAND[name](x, w, b) * (x @ w + b) / 4).sum()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert chosen.stabilizer == 1e-6


@pytest.mark.parametrize("contrastive", [False, True])
def test_excitation_by_hand(contrastive):
    """Of two layers of 1 x 1, of which the first is rectified."""

    class Two(nn.Module):
        @nn.compact
        def __call__(self, images):
            maps = nn.relu(nn.Conv(6, (1, 1), name="conv")(images))
            return nn.Dense(4, name="dense")(maps.mean((1, 2)))

    random = np.random.default_rng(2)
    model = split.from_linen(Two(), "conv")
    first, second = random.normal(size=(3, 6)), random.normal(size=(6, 4))
    first[0] = np.abs(first[0])  # Each unit is excited by something.
    params = {
        "conv": {"kernel": first[None, None], "bias": random.normal(size=6)},
        "dense": {"kernel": second, "bias": random.normal(size=4)},
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    images = random.random((2, 2, 2, 3))
    explain = saliency.excitation_backpropagation(model, contrastive=contrastive)
    labels = jnp.asarray([3, 1])
    found = explain({"params": params}, jnp.asarray(images, jnp.float32), labels)
    active = np.maximum(images @ first + np.asarray(params["conv"]["bias"]), 0)
    expected = np.zeros((2, 2, 2))
    for image, label in enumerate([3, 1]):
        for sign in (1, -1) if contrastive else (1,):
            # Places and units before the mean, each with its share of the label.
            share = active[image] * np.maximum(sign * second[:, label], 0)
            share = sign * share / share.sum()
            terms = images[image][..., None] * np.maximum(first, 0)
            terms = terms / terms.sum(2, keepdims=True)
            expected[image] += (terms * share[:, :, None]).sum((2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum((1, 2)), 0 if contrastive else 1, atol=1e-5)


@pytest.mark.exhaustive
def test_excitation_adds_up_to_one_in_a_network_of_all_kinds(network):
    model, variables = network
    found = saliency.excitation_backpropagation(model)(variables, IMAGES, LABELS)
    plus = saliency.Composite(*2 * [rules.z_plus(bias=False)])
    relevance = saliency.lrp(model, composite=plus)(variables, IMAGES, LABELS)
    logits = split.whole(model)(variables, IMAGES)[jnp.arange(3), LABELS]
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-4)
    expected = relevance / logits[:, None, None]
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


@pytest.mark.exhaustive
def test_gamma_of_nothing_is_epsilon(network):
    model, variables = network
    maps = [
        saliency.lrp(model, composite=saliency.Composite(rule, rules.epsilon()))(
            variables, IMAGES, LABELS
        )
        for rule in (rules.gamma(0.0), rules.epsilon())
    ]
    scale = float(jnp.abs(maps[1]).max())
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-3 * scale)


def test_the_box_belongs_to_its_composite(network):
    model, variables = network
    with pytest.raises(ValueError, match="expected the lowest and highest value"):
        saliency.lrp(model, composite="epsilon_gamma_box")
    with pytest.raises(ValueError, match="and none for others"):
        saliency.lrp(model, box=((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ValueError, match="did you mean 'epsilon_plus'"):
        saliency.lrp(model, composite="epsilon_pluss")
    with pytest.raises(ValueError, match=r"alpha = beta \+ 1"):
        rules.alpha_beta(2, 2)
    box = ((0.0,) * 3, (1.0,) * 3)
    explain = saliency.lrp(model, composite="epsilon_gamma_box", box=box)
    assert np.isfinite(explain(variables, IMAGES, LABELS)).all()


def test_a_network_without_linen_layers_is_refused():
    model = split.from_functions(lambda v, images: images, lambda v, m: m.mean((1, 2)))
    with pytest.raises(ValueError, match="no linear layers that are known"):
        saliency.lrp(model)({}, IMAGES, LABELS)
    with pytest.raises(ValueError, match="has no `run`"):
        bare = split.SplitModel(model.features, model.head)
        saliency.lrp(bare)({}, IMAGES, LABELS)

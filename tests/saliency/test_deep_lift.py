"""DeepLIFT against captum's in float64, and what it adds up to."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformer
import tiers
import toy
from flax import linen as nn

from unlir_jax import saliency, split
from unlir_jax.saliency import differences

FILE = Path(__file__).parents[1] / "golden" / "deep_lift" / "network.npz"
IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3)), jnp.float32)
LABELS = jnp.asarray([0, 3])


class Network(nn.Module):
    """The network of the file, whose one ReLU is used four times."""

    @nn.compact
    def __call__(self, images):
        def conv(maps, index):
            return nn.Conv(6, (3, 3), name=f"conv{index}")(maps)

        def norm(maps, index):
            normed = nn.BatchNorm(use_running_average=True, name=f"norm{index}")
            return normed(maps)

        maps = nn.max_pool(nn.relu(norm(conv(images, 0), 0)), (2, 2), (2, 2))
        maps = maps + nn.relu(norm(conv(maps, 1), 1))
        maps = nn.relu(conv(maps, 2))
        flat = maps.reshape(len(maps), -1)
        return nn.Dense(4, name="dense1")(nn.relu(nn.Dense(8, name="dense0")(flat)))


def loaded(known):
    params, statistics = {}, {}
    for name in ("conv0", "conv1", "conv2", "dense0", "dense1"):
        kernel = known[f"{name}.weight"]
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        params[name] = {"kernel": kernel, "bias": known[f"{name}.bias"]}
    for name in ("norm0", "norm1"):
        params[name] = {"scale": known[f"{name}.weight"], "bias": known[f"{name}.bias"]}
        mean, variance = known[f"{name}.running_mean"], known[f"{name}.running_var"]
        statistics[name] = {"mean": mean, "var": variance}
    return jax.tree.map(jnp.asarray, {"params": params, "batch_stats": statistics})


@pytest.mark.exhaustive
def test_maps_equal_those_of_captum(x64):
    with np.load(FILE) as file:
        known = {key: file[key] for key in file.files}
    variables = loaded(known)
    model = split.from_linen(Network(), "conv1", mean=(0.4,) * 3)
    given = variables, jnp.asarray(known["images"]), jnp.asarray(known["labels"])
    np.testing.assert_allclose(
        split.whole(model)(*given[:2]), known["logits"], atol=1e-12
    )
    for baseline in ("black", "mean"):
        explain = saliency.deep_lift(model, baseline=baseline)
        found = np.asarray(explain(*given))
        difference = np.abs(found - known[baseline]).max()
        assert difference < 1e-12 * np.abs(found).max(), baseline
        error = saliency.completeness(model, baseline=baseline)(*given, found).error
        assert (error < 1e-12).all()


class Curved(nn.Module):
    """Activations, written out or by name, and windows that overlap."""

    @nn.compact
    def __call__(self, images):
        maps = nn.gelu(4 * nn.Conv(6, (3, 3), (2, 2), name="conv")(images))
        maps = nn.max_pool(maps, (3, 3), (2, 2), "SAME")
        gate = nn.sigmoid(nn.Dense(6)(maps.mean((1, 2), keepdims=True)))
        maps = nn.leaky_relu(nn.Conv(6, (3, 3))(maps * gate))
        maps = jnp.maximum(nn.silu(maps), nn.elu(nn.Conv(6, (1, 1))(maps)))
        return nn.Dense(5, name="dense")(nn.softplus(maps).max((1, 2)))


@pytest.mark.parametrize("score", tiers.by_tier(["softmax", "logit", "log_softmax"], 1))
def test_differences_of_a_curved_network_add_up(score):
    module = Curved()
    model = split.from_linen(module, "conv")
    given = toy.random_variables(module, IMAGES), IMAGES, LABELS
    found = saliency.deep_lift(model, score=score)(*given)
    measured = saliency.completeness(model, score=score)(*given, found)
    assert (np.abs(measured.difference) > 1e-3).all()
    np.testing.assert_allclose(measured.total, measured.difference, atol=1e-4)


FORMS = {
    "gated": {"gated": True, "scale": 0.5, "registers": 2},
    "attention": {"class_token": False, "pooled": "attention", "activation": "tanh"},
}


@pytest.mark.parametrize("form", tiers.by_tier(FORMS, 1))
def test_differences_of_a_transformer_add_up(x64, form):
    module, model = small_transformer.network(**FORMS[form])
    variables = small_transformer.variables(module)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    given = variables, jnp.asarray(IMAGES, jnp.float64), LABELS
    found = saliency.deep_lift(model)(*given)
    error = saliency.completeness(model)(*given, found).error
    np.testing.assert_allclose(error, 0, atol=1e-9)


def slope(function, inputs, reference):
    paired = differences.of_pair(function, inputs)
    return jax.grad(lambda given: jnp.sum(paired(given, reference)))(inputs)


def test_rules_by_hand():
    inputs, reference = jnp.asarray([2.0, -1.0, 0.5]), jnp.asarray([-2.0, -3.0, 0.5])
    # Half of the way, none of it, and the plain derivative where nothing differs.
    found = slope(jax.nn.relu, inputs, reference)
    np.testing.assert_allclose(found, [0.5, 0, 1])
    # One function of one value, however it is written; it has no rule of a product.
    found = slope(lambda x: x * x * x, inputs, reference)
    np.testing.assert_allclose(found, [4, 13, 0.75], rtol=1e-6)
    # The Shapley values of two factors.
    other = inputs[::-1]
    found = slope(lambda x: x * x[::-1], inputs, reference)
    before = reference[::-1]
    np.testing.assert_allclose(found, other + before, rtol=1e-6)


def test_a_rise_belongs_to_the_new_maximum_and_a_fall_to_the_old_one():
    """Of ties one entry has it all, and windows that overlap add up."""
    reference = jnp.asarray([[1.0, 0.0, 0.0]])
    for inputs, expected in (
        ([3.0, 2.0, 0.0], [[2, 0, 0]]),
        ([0.5, 2.0, 2.0], [[0, 1, 0]]),
        ([0.5, 0.25, 0.0], [[-0.5, 0, 0]]),
    ):
        given = jnp.asarray([inputs])
        found = slope(lambda x: x.max(1), given, reference) * (given - reference)
        np.testing.assert_allclose(np.sum(found), np.sum(expected))
        windows = slope(
            lambda x: nn.max_pool(x[..., None], (2,), (1,)), given, reference
        )
        total = np.asarray(nn.max_pool(given[..., None], (2,), (1,))).sum()
        total -= np.asarray(nn.max_pool(reference[..., None], (2,), (1,))).sum()
        np.testing.assert_allclose(np.sum(windows * (given - reference)), total)


def test_what_has_no_rule_is_refused_by_a_sentence():
    def sorts(variables, maps):
        return jnp.sort(maps.mean((1, 2)), axis=-1)

    def branches(variables, maps):
        means = maps.mean((1, 2))
        return jnp.where(means[:, :1] > 0.5, means, means[:, ::-1])

    for head, words in ((sorts, "has a `sort`"), (branches, "chooses between values")):
        model = split.from_functions(lambda variables, images: images, head)
        with pytest.raises(ValueError, match=words):
            saliency.deep_lift(model)({}, IMAGES, jnp.asarray([0, 1]))

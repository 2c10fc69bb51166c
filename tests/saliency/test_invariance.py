"""What holds for every method: batches, orders, scales, and no NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_pooling
import small_transformer
import tiers
import toy
from flax import linen as nn

from unlir_jax import saliency, split
from unlir_jax.runtime import mesh
from unlir_jax.saliency import SPECS

LABELS = jnp.asarray([0, 3, 1, 2, 2, 0, 1])
KEY = jax.random.key(0)
# Those of a network that sees nothing attend to all tokens alike.
WITHOUT_LABELS = ("raw_attention", "attention_rollout")
# One of each way to loop over images, masks or steps: dealt out to several devices too.
SPREAD = [name for name, spec in SPECS.items() if spec.representative]


class Curved(nn.Module):
    """A network whose head bends."""

    @nn.compact
    def __call__(self, images):
        found = nn.relu(nn.Conv(6, (3, 3), name="conv")(images))
        found = nn.relu(nn.Conv(5, (3, 3), (2, 2), name="second")(found))
        return nn.Dense(5, name="dense")(jnp.tanh(jnp.mean(found, (1, 2))))


@pytest.fixture(scope="module")
def images(pictures):
    """Give seven small pictures: every test has them, so that each method is compiled
    for few shapes.
    """
    small = pictures[:, ::2, ::2]
    return jnp.asarray(np.concatenate([small, 1 - small[:3]]))


@pytest.fixture(scope="module")
def networks(images):
    module, linear = Curved(), toy.Halves()
    attending, cut = small_transformer.network()
    pooled, streaming = small_pooling.network()
    curved = split.from_linen(module, "conv"), toy.random_variables(module, images)
    return {
        "any": curved,
        "affine": (split.from_methods(linear), toy.random_variables(linear, images)),
        "linen": (
            split.from_linen(module, "conv"),
            toy.random_variables(module, images),
        ),
        "attention": (cut, small_transformer.variables(attending)),
        "pooling": (streaming, small_pooling.variables(pooled)),
    }


def make(name, networks):
    """Make an explainer and its variables; some are defined on few networks."""
    cut, variables = networks[SPECS[name].head]
    return saliency.METHODS[name](cut, **SPECS[name].quick), variables


@pytest.mark.parametrize("name", tiers.by_tier(saliency.METHODS))
def test_a_map_does_not_depend_on_batch_size_order_or_neighbours(
    networks, images, name
):
    explain, variables = make(name, networks)
    together = np.asarray(explain(variables, images, LABELS, key=KEY))
    assert np.isfinite(together).all()
    scale = np.abs(together).max()
    order = np.asarray([6, 2, 0, 5, 1, 4, 3])
    turned = explain(variables, images[order], LABELS[order], key=KEY)
    np.testing.assert_allclose(turned, together[order], atol=1e-5 * scale)
    alone = explain(variables, images[4:5], LABELS[4:5], key=KEY)
    np.testing.assert_allclose(alone[0], together[4], atol=1e-5 * scale)


@pytest.mark.parametrize("name", tiers.by_tier(SPREAD, {"grad_cam"}))
def test_a_map_does_not_depend_on_devices(networks, images, name):
    explain, variables = make(name, networks)
    together = np.asarray(explain(variables, images, LABELS, key=KEY))
    laid = mesh.layout()
    assert laid.mesh.size == 4
    eight = np.arange(8) % 7
    dealt = {"images": np.asarray(images)[eight], "labels": np.asarray(LABELS)[eight]}
    dealt = mesh.put_batch(laid, dealt)
    spread = explain(mesh.put_state(laid, variables), *dealt.values(), key=KEY)
    scale = np.abs(together).max()
    np.testing.assert_allclose(spread, together[eight], atol=1e-5 * scale)


OTHERS = "attention", "pooling"
ORDERED = {"ss_cam", *(name for name in SPECS if SPECS[name].head in OTHERS)}


@pytest.mark.parametrize(
    "name", tiers.by_tier(n for n in saliency.METHODS if n not in ORDERED)
)
def test_order_of_filters_does_not_matter(networks, images, name):
    """The noise of SS-CAM belongs to the number of a filter; tokens have no filters."""
    explain, variables = make(name, networks)
    order = jnp.asarray([3, 1, 5, 0, 2, 4])
    params = dict(variables["params"])
    params["conv"] = jax.tree.map(lambda leaf: leaf[..., order], params["conv"])
    if name == "cam":
        kernel = params["dense"]["kernel"][order]
        params["dense"] = params["dense"] | {"kernel": kernel}
    else:
        kernel = params["second"]["kernel"][:, :, order]
        params["second"] = params["second"] | {"kernel": kernel}
    expected = explain(variables, images, LABELS, key=KEY)
    found = explain({"params": params}, images, LABELS, key=KEY)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


# How a map grows when the score does. Score-CAM's softmax has no such rule.
DEGREES = {n: s.degree for n, s in SPECS.items() if s.degree is not None}


@pytest.mark.parametrize("name", tiers.by_tier(DEGREES))
def test_a_positive_scale_of_the_logits_scales_the_map(networks, images, name):
    explain, variables = make(name, networks)
    params = variables["params"]
    last = "classifier" if SPECS[name].head == "attention" else "dense"
    dense = jax.tree.map(lambda leaf: 4 * leaf, params[last])
    larger = {"params": params | {last: dense}}
    expected = explain(variables, images, LABELS, key=KEY) * 4 ** DEGREES[name]
    found = explain(larger, images, LABELS, key=KEY)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", tiers.by_tier(saliency.METHODS))
def test_a_network_that_sees_nothing_gives_no_nan(networks, images, name):
    explain, variables = make(name, networks)
    blind = jax.tree.map(jnp.zeros_like, variables)
    found = explain(blind, images, LABELS, key=KEY)
    assert jnp.isfinite(found).all()
    if name in WITHOUT_LABELS:
        assert (found == found[:1, :1, :1]).all() and (found > 0).all()
    elif name not in saliency.CONTROLS:
        assert (found == 0).all()


@pytest.mark.parametrize("name", tiers.by_tier(WITHOUT_LABELS, 1))
def test_attention_itself_does_not_depend_on_labels(networks, images, name):
    explain, variables = make(name, networks)
    found, others = (
        np.asarray(explain(variables, images, labels, key=KEY))
        for labels in (LABELS, (LABELS + 1) % 5)
    )
    np.testing.assert_array_equal(found, others)
    assert (np.ptp(found, axis=(1, 2)) > 0).all()


def test_error_of_the_field_too_few_labels_are_refused(unchecked, networks, images):
    for name in saliency.METHODS:
        explain, variables = make(name, networks)
        with pytest.raises(ValueError, match="one class index for each of the 7"):
            explain(variables, images, LABELS[:3], key=KEY)

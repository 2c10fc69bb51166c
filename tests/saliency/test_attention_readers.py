"""Explainers of attention where the last layers read the tokens by one query.

SigLIP pools by attention, and CaiT has class attention. Products are compared with
those of whole matrices, with a row for each token, on timm's own weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
from helpers import refused

from unlir_jax import saliency, split
from unlir_jax.models import (
    backbone,
    cait,
    cutting,
    placing,
    pretrained,
    swin,
    vit,
    xcit,
)
from unlir_jax.saliency.attention import reading
from unlir_jax.split import scores
from unlir_jax.weights import contents, token_names

NETWORKS = {
    "timm_cait": lambda: cait.network(64, 2, 32, heads=2, inner=128, patch_size=8),
    "timm_siglip": lambda: vit.network(
        *("tiny", 8, 32, 1.0), **small.attributes("timm_siglip")
    ),
}
LABELS = jnp.asarray([3])


def built(case):
    """Give a network of a case in float64, its variables and an image."""
    network, arrays = NETWORKS[case](), small.state(case)
    shapes = {name: array.shape for name, array in arrays.items()}
    found = token_names.spelt(
        contents.Contents(shapes, lambda names: {n: arrays[n] for n in names})
    )
    module = network.build(num_classes=10 if case == "timm_cait" else 0)
    variables = placing.fill(module, network, found.read(found.shapes), case, case)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    images = jnp.asarray(small.images(), jnp.float64)
    return cutting.cut(module, network, network.layer), variables, images


def whole(mixed, *, normalise):
    """Multiply matrices of all tokens; the first row is that of what is classified."""
    *blocks, last = [np.asarray(each, np.float64)[0] for each in mixed]
    classes = [last]
    if len(blocks[-1]) == 1:
        classes = [blocks.pop(), last]
    count = len(blocks[0])
    product = np.eye(1 + count)
    for each in (*blocks, *classes):
        matrix = np.zeros((1 + count, 1 + count))
        if len(each) > 1:
            matrix[1:, 1:] = each
        elif each.shape[1] == 1 + count:
            matrix[0] = each
        else:  # Pooling: there is no way around it.
            matrix[0, 1:] = each
            matrix[0, 0] = -1
        matrix += np.eye(1 + count)
        if normalise:
            matrix /= matrix.sum(axis=1, keepdims=True)
        product = matrix @ product
    return product[0, 1:]


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", NETWORKS)
def test_products_are_those_of_whole_matrices(case, x64):
    model, variables, images = built(case)
    given = variables, images, LABELS
    _, weights = small.expected(case)
    ways: list[tuple[reading.Heads, Any]] = [("mean", np.mean), ("max", np.max)]
    for heads, fuse in ways:
        mixed = [fuse(each, axis=1) for each in weights]
        for normalise in (True, False):
            how = {"heads": heads, "normalise": normalise}
            explain = saliency.attention_rollout(model, **how)
            expected = whole(mixed, normalise=normalise)
            found = explain(*given).reshape(-1)
            np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    mixed = [each.mean(axis=1) for each in weights]
    last = mixed[-1][0, 0, -16:]
    found = saliency.raw_attention(model)(*given).reshape(-1)
    np.testing.assert_allclose(found, last, atol=1e-6)
    if case == "timm_siglip":
        found = saliency.raw_attention(model, block=1)(*given).reshape(-1)
        np.testing.assert_allclose(found, last @ mixed[1][0], atol=1e-6)
    explained = scores.resolve("logit")
    attended, slopes = reading.differentiated(model, explained, *given)
    pairs = zip(attended.weights, slopes, strict=True)
    mixed = [np.maximum(a * slope, 0).mean(axis=1) for a, slope in pairs]
    expected = whole(mixed, normalise=False)
    found = saliency.generic_attention(model)(*given).reshape(-1)
    np.testing.assert_allclose(found, expected, atol=1e-9 * expected.max())
    assert expected.max() > 0


@pytest.mark.exhaustive
def test_attention_grad_cam_weighs_the_row_of_the_last_layer(x64):
    for case in NETWORKS:
        model, variables, images = built(case)
        given = variables, images, LABELS
        explained = scores.resolve("logit")
        attended, slopes = reading.differentiated(model, explained, *given)
        weights, slopes = (
            np.asarray(each[-1])[0, :, 0, -16:] for each in (attended.weights, slopes)
        )
        expected = (slopes.mean(axis=1, keepdims=True) * weights).mean(axis=0)
        found = saliency.attention_grad_cam(model)(*given).reshape(-1)
        np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-12)


@pytest.mark.exhaustive
def test_legrad_differentiates_by_what_pools_each_block(x64):
    model, variables, images = built("timm_siglip")
    attention = model.attention
    assert attention is not None and attention.classify is not None
    classify, tokens = attention.classify, attention.run(variables, images).tokens
    step, expected = 1e-5, 0
    shifts = step * jnp.eye(2 * 16, dtype=jnp.float64).reshape(-1, 1, 2, 1, 16)

    for each in tokens:

        def moved(shift, each=each):
            return classify(variables, each, (shift,))[0, LABELS[0]]

        score = jax.jit(jax.vmap(moved))
        slopes = (score(shifts) - score(-shifts)) / (2 * step)
        expected += np.maximum(slopes, 0).reshape(2, 16).mean(axis=0)
    found = saliency.legrad(model)(variables, images, LABELS).reshape(-1)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    one = saliency.legrad(model, blocks=1)(variables, images, LABELS)
    assert 0 < one.sum() < found.sum()


@pytest.mark.exhaustive
def test_legrad_of_class_attention_has_a_score_of_each_block():
    network = load("small_reading", NETWORKS["timm_cait"]())
    images = jnp.asarray(small.images())
    found = saliency.legrad(network.model)(network.variables, images, LABELS)
    assert found.shape == (1, 4, 4) and (found >= 0).all() and found.max() > 0


def load(name, network):
    backbone.NETWORKS.pop(name, None)
    backbone.register(name, network)
    try:
        return pretrained.load(name, "random", seed=1)
    finally:
        del backbone.NETWORKS[name]


@pytest.mark.parametrize(
    "method",
    (
        *("raw_attention", "attention_rollout", "generic_attention"),
        *("attention_grad_cam", "legrad"),
    ),
)
def test_networks_whose_weights_cannot_be_multiplied_are_refused(method):
    for network, wrong in (
        (
            xcit.network(64, 2, 2, 8, 32, inner=64),
            "no attention between them.*1 x 17.*grad_cam",
        ),
        (swin.network(32, (1, 1), (2, 4), 4, 32), "hierarchical.*16 x 16.*grad_cam"),
    ):
        loaded = load("small_refused", network)
        explain = saliency.METHODS[method](loaded.model)
        images = jnp.asarray(small.images())
        refused(wrong, explain, loaded.variables, images, LABELS)


def test_readers_are_last_and_have_one_query():
    assert split.attention.readers([(1, 2, 4, 4), (1, 2, 1, 5), (1, 2, 1, 5)]) == 2
    assert split.attention.readers([(1, 2, 1, 1)]) == 0
    assert split.attention.readers([(1, 2, 1, 4), (1, 2, 4, 4)]) == 0

"""Every score in every family of explainers, on networks known by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import score_worlds as world
import tiers

from unlir_jax import saliency, split
from unlir_jax.split import scores

KEY = jax.random.key(0)
FAST = {"sigmoid", "regression", "region", "references"}
TAKES = [
    name
    for name, factory in saliency.METHODS.items()
    if "score" in inspect.signature(factory).parameters
]
WITHOUT = {
    *("cam", "finer_cam", "eigen_cam", "raw_attention", "attention_rollout"),
    "attention_pooling",
    *saliency.CONTROLS,
}
"""Methods that are defined for a score of their own, or for none."""
FAMILIES = {
    "grad_cam": {},
    "opti_cam": {"steps": 3},
    "score_cam": {},
    "ablation_cam": {},
    "integrated_gradients": {"steps": 4},
    "rise": {"masks": 8, "cells": 2},
    "lime": {"samples": 12, "count": 4, "kind": "grid"},
    "kernel_shap": {"samples": 20, "count": 4, "kind": "grid"},
    "meaningful_perturbation": {"steps": 3, "cells": 2, "jitter": 0},
    "extremal_perturbation": {"steps": 3, "levels": 2},
}


def evidence(shown):
    return float((world.WEIGHTS * shown).sum())


def explain(name, network, known, **settings):
    factory = saliency.METHODS[name]
    explained = factory(network, score=known.score, **settings)
    return explained({}, world.image(), jnp.asarray([known.label]), key=KEY)[0]


def test_all_explainers_take_a_score():
    assert {*TAKES} == {*saliency.METHODS} - WITHOUT


@pytest.mark.parametrize("name", tiers.by_tier(world.KNOWN, FAST))
def test_the_gradient_of_every_score(name):
    """Pixels of ones times `f'(y)` times the weights, by central differences."""
    known = world.KNOWN[name]
    y, step = evidence(1.0), 1e-5
    slope = (known.of(y + step) - known.of(y - step)) / (2 * step)
    found = explain("input_x_gradient", world.NETWORKS[known.network], known)
    np.testing.assert_allclose(found, slope * world.WEIGHTS, atol=1e-5)


@pytest.mark.parametrize("name", tiers.by_tier(world.KNOWN, FAST))
def test_occlusion_of_every_score(name):
    known, clean = world.KNOWN[name], evidence(1.0)
    settings = {"window": 1, "stride": 1, "baseline": "black"}
    found = explain("occlusion", world.NETWORKS[known.network], known, **settings)
    expected = [known.of(clean) - known.of(clean - w) for w in world.WEIGHTS.ravel()]
    np.testing.assert_allclose(np.ravel(found), expected, atol=1e-5)


def scored(known):
    """Make the network whose only output is the score itself."""
    cut, score = world.NETWORKS[known.network], scores.resolve(known.score)
    clean = split.whole(cut)({}, world.image())
    labels = split.regions(score, clean, jnp.asarray([known.label]))

    def head(variables, maps):
        logits = cut.head({}, split.Features(maps, cut.features({}, maps).context))
        own = jnp.broadcast_to(labels, (len(logits), *labels.shape[1:]))
        return score(logits, own)[:, None]

    return split.from_functions(lambda variables, images: images, head)


CASES = [(score, method) for score in ("region", "references") for method in FAMILIES]
CASES += [(score, "opti_cam") for score in world.KNOWN if score not in dict(CASES)]
QUICK = {("region", name) for name in ("grad_cam", "opti_cam", "rise", "lime")}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.exhaustive)
        for case in CASES
    ],
)
def test_a_score_is_the_output_of_a_network_that_ends_with_it(name, method):
    known, settings = world.KNOWN[name], FAMILIES[method]
    found = explain(method, world.NETWORKS[known.network], known, **settings)
    plain = known._replace(score="logit", label=0)
    expected = explain(method, scored(known), plain, **settings)
    scale = np.abs(expected).max()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(scale, 1e-3))


@pytest.mark.parametrize("name", tiers.by_tier(TAKES, {"rise"}))
def test_a_single_output_under_softmax_is_refused(unchecked, name):
    single = split.from_functions(
        lambda variables, images: jax.nn.relu(images),
        lambda variables, maps: maps.mean((1, 2)),
    )
    explained = saliency.METHODS[name](
        single, score="softmax", **saliency.SPECS[name].quick
    )
    with pytest.raises(ValueError, match="'sigmoid'.*or 'logit'"):
        explained({}, world.image(), jnp.asarray([0]), key=KEY)


def test_the_former_name_of_the_setting(unchecked):
    network = world.NETWORKS["two"]
    given = ({}, world.image(), jnp.asarray([0]))
    found = saliency.grad_cam(network, target="margin")(*given)
    expected = saliency.grad_cam(network, score="margin")(*given)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="two names of one setting"):
        saliency.grad_cam(network, target="margin", score="logit")
    steps = saliency.completeness(network, target="logit")
    assert float(steps(*given, found).difference[0]) == pytest.approx(evidence(1.0))


def test_a_region_can_be_a_label_map_of_each_image():
    """Two images, two regions: each gets the map that it gets alone."""
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0, 0] = masks[1, 1, 0] = True
    labels = jnp.where(jnp.asarray(masks), 0, -1)
    explained = saliency.input_x_gradient(world.NETWORKS["dense"], score="region_logit")
    found = explained({}, world.image(2), labels)
    # The places multiply the evidence with 1 and -1.
    np.testing.assert_allclose(found[0], world.WEIGHTS, atol=1e-6)
    np.testing.assert_allclose(found[1], -world.WEIGHTS, atol=1e-6)
    mirrored = saliency.augmented(explained, intensities=(1.0,))(
        {}, world.image(2), labels
    )
    # The place next to it multiplies with 2.
    turned = (world.WEIGHTS + 2 * world.WEIGHTS[:, ::-1]) / 2
    np.testing.assert_allclose(mirrored[0], turned, atol=1e-6)


def test_a_region_inside_jit():
    """The region of a traced image is found as well; an empty one gives NaN."""
    explained = saliency.input_x_gradient(world.NETWORKS["dense"], score="region")
    given = ({}, world.image(), jnp.asarray([0]))
    inside = jax.jit(explained)(*given)
    np.testing.assert_allclose(inside, explained(*given), atol=1e-6)
    nowhere = np.asarray([[True, False], [False, False]])
    label_map = jnp.where(jnp.asarray(nowhere)[None], -1, -1)
    assert np.isnan(jax.jit(explained)({}, world.image(), label_map)).all()

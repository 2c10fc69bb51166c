"""Thresholds that pictures choose for each other, and sanity checks as metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, split
from unlir_jax.metrics.sanity import redrawn as sanity

KEY = jax.random.key(0)
MODEL = split.from_functions(
    lambda v, images: jnp.tanh(images @ v["conv"]["kernel"]),
    lambda v, maps: maps.mean((1, 2)) @ v["dense"]["kernel"],
)


def inputs(count=6, side=12):
    random = np.random.default_rng(0)
    images = random.uniform(size=(count, side, side, 3)).astype(np.float32)
    saliency = random.uniform(size=(count, side, side)).astype(np.float32)
    regions = random.uniform(size=(count, side, side)) < 0.4
    regions[2] = False
    return images, np.zeros(count, np.int32), saliency, regions


VARIABLES = {
    "conv": {"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)))},
    "dense": {"kernel": jnp.asarray(np.random.default_rng(2).normal(size=(5, 4)))},
}


def test_curves_are_those_of_a_slow_loop():
    images, labels, saliency, regions = inputs()
    arguments = VARIABLES, images, labels, saliency, regions
    share = metrics.max_iou(MODEL, thresholds=10)(*arguments)["max_iou_curve"]
    both = metrics.max_f1(MODEL, thresholds=10)(*arguments)["max_f1_curve"]
    assert np.isnan(share[2]).all() and np.isnan(both[2]).all()
    for row in (0, 1, 3):
        values = saliency[row]
        ready = (values - values.min()) / (values.max() - values.min())
        for place in range(10):
            assert place == 0 or np.abs(ready - place / 10).min() > 1e-6
            on, region = ready >= place / 10, regions[row]
            hit = (on & region).sum()
            assert share[row, place] == pytest.approx(hit / (on | region).sum())
            precision, recall = hit / on.sum(), hit / region.sum()
            expected = 2 * precision * recall / max(precision + recall, 1e-9)
            assert both[row, place] == pytest.approx(expected)


def test_each_half_is_cut_where_the_other_is_best(unchecked):
    curves = np.asarray([[1, 0, 0], [0, 0.5, 1], [0, 1, 0], [0, 1, 0.9], [np.nan] * 3])
    found = metrics.at_chosen(curves)
    # Odd places are best at the last threshold, even ones at the first of two equals.
    assert found.thresholds == ((2, 0),)
    np.testing.assert_array_equal(found.values, [0, 0, 0, 0, np.nan])
    peers = metrics.at_chosen(curves, "evaluated")
    assert peers.thresholds == ((1,),)
    np.testing.assert_array_equal(peers.values, [0, 0.5, 1, 1, np.nan])
    with pytest.raises(ValueError, match="`chosen_on`='all'"):
        metrics.at_chosen(curves, "all")


def test_the_mean_is_max_box_accuracy():
    random = np.random.default_rng(3)
    curves = random.uniform(size=(20, 7))
    curves[4] = np.nan
    overlaps = (0.3, 0.5, 0.7)
    mine = metrics.at_chosen(curves, "evaluated", overlaps)
    theirs = metrics.max_box_accuracy(curves, overlaps=overlaps)
    assert np.nanmean(mine.values) == pytest.approx(theirs.accuracy)
    even, odd = curves[::2], curves[1::2]
    halves = metrics.at_chosen(curves, overlaps=overlaps).values
    for own, other, values in ((even, odd, halves[::2]), (odd, even, halves[1::2])):
        expected = metrics.max_box_accuracy(own, other, overlaps=overlaps).accuracy
        assert np.nanmean(values) == pytest.approx(expected)


def of_network(variables, images, labels, *, key=None):
    return MODEL.features(variables, images).maps[..., 0]


def of_pixels(variables, images, labels, *, key=None):
    return images[..., 0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier(metrics.SANITY_METRICS, 1))
def test_sanity_tells_an_edge_detector_from_an_explanation(name):
    images, labels, *_ = inputs()
    fresh = sanity.redraw(VARIABLES, KEY)
    found = {}
    for explain in (of_network, of_pixels):
        saliency = explain(VARIABLES, images, labels)
        metric = metrics.SANITY_METRICS[name](MODEL, explain)
        found[explain] = metric(VARIABLES, images, labels, saliency, fresh)
        alone = metric(VARIABLES, images[3:4], labels[3:4], saliency[3:4], fresh)
        for key, values in alone.items():
            np.testing.assert_allclose(values[0], found[explain][key][3], atol=1e-5)
    np.testing.assert_allclose(found[of_pixels][name], 1, atol=1e-4)
    assert (found[of_network][name] < 0.95).all()
    assert set(found[of_network]) == {name, "ssim", "spearman", "hog"}


@pytest.mark.exhaustive
def test_one_layer_alone_and_all_behind():
    images, labels, *_ = inputs()
    saliency = of_network(VARIABLES, images, labels)
    fresh, order = sanity.redraw(VARIABLES, KEY), ("conv", "dense")
    arguments = VARIABLES, images, labels, saliency, fresh
    settings = {"order": order, "stages": 2, "measure": "spearman"}
    given = MODEL, of_network
    both = metrics.cascading_randomization(*given, **settings)(*arguments)["spearman"]
    conv = metrics.independent_randomization(*given, **settings)(*arguments)["spearman"]
    # The map does not depend on the head: its stage is 1 in both, and the other stage
    # redraws the only layer that counts.
    np.testing.assert_allclose(both, conv, atol=1e-6)
    once = metrics.cascading_randomization(*given, measure="spearman")(*arguments)
    np.testing.assert_allclose(both, (1 + once["spearman"]) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="variables of the same network"):
        metrics.cascading_randomization(*given)(*arguments[:-1], {"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="`stages`=0"):
        metrics.cascading_randomization(*given, stages=0)

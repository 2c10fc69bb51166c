"""Entropy, effective complexity, completeness, monotonicity and average sensitivity."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, saliency, split
from unlir_jax.evaluation import scorers

KEY = jax.random.key(0)
GOLDEN = Path(__file__).parents[1] / "golden" / "quantus" / "quantus.npz"


def linear(weights):
    """Make a network whose logits are linear in the pixels."""
    return split.from_functions(
        lambda variables, images: images,
        lambda variables, maps: maps.reshape(len(maps), -1) @ weights,
    )


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(GOLDEN))


def measured(metric, stored, images="images", maps="maps", labels=None):
    shown = jnp.moveaxis(jnp.asarray(stored[images]), 1, -1)
    labels = jnp.asarray(stored["labels"] if labels is None else labels)
    return {
        name: np.asarray(value)
        for name, value in metric(
            {}, shown, labels, jnp.asarray(stored[maps])[:, 0], key=KEY
        ).items()
    }


def test_entropy_and_effective_complexity_are_those_of_quantus(stored):
    model = linear(stored["weights"].T)
    found = measured(metrics.entropy(model), stored)["entropy"]
    np.testing.assert_allclose(found, stored["entropy"], atol=1e-6)
    found = measured(metrics.effective_complexity(model), stored)
    counts = found["effective_complexity"] * 64
    np.testing.assert_allclose(counts, stored["effective_complexity"], atol=1e-6)


@pytest.mark.parametrize("loop", ["host", "device"])
def test_monotonicity_is_that_of_quantus(stored, loop):
    metric = metrics.monotonicity_correlation(
        linear(stored["weights"].T),
        regions=8,
        draws=1,
        baseline="black",
        score="logit",
        loop=loop,
    )
    found = measured(metric, stored)["monotonicity_correlation"]
    expected = stored["monotonicity_correlation"]
    # The groups of equal pixels in the first map are the sort's.
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)


def test_a_map_is_complete_where_quantus_says_so(stored):
    metric = metrics.completeness(linear(jnp.ones((64, 3))), score="logit")
    found = measured(metric, stored, "whole", "broken", [0, 0])["completeness"]
    assert (found == 0).tolist() == stored["complete"].tolist() == [True, False]
    total = stored["whole"][1].sum()
    assert found[1] == pytest.approx(0.25 / (2 * total + 0.25), rel=1e-5)


def of_map(factory, *maps_, **settings):
    given = jnp.asarray(np.asarray(maps_, np.float32))
    images = jnp.zeros((*given.shape, 3))
    found = factory(linear(jnp.ones((images[0].size, 2))), **settings)(
        {}, images, jnp.zeros(len(given), int), given
    )
    return np.asarray(next(iter(found.values())))


def test_entropy_by_hand():
    one, half = np.zeros((4, 4)), np.zeros((4, 4))
    one[1, 1], half[0, 0], half[3, 3] = -7, 1, -1
    even, nothing = np.ones((4, 4)), np.zeros((4, 4))
    broken = np.full((4, 4), np.nan)
    found = of_map(metrics.entropy, one, half, even, nothing, 1e-30 * half, broken)
    expected = np.log([1, 2, 16, 16, 2, 16])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_effective_complexity_by_hand():
    some = np.asarray([[1, 0.5], [-0.09, 0]])
    found = of_map(metrics.effective_complexity, some, 0 * some, 1 + 0 * some)
    np.testing.assert_allclose(found, [0.75, 0, 1])
    found = of_map(metrics.effective_complexity, some, threshold=0.1)
    np.testing.assert_allclose(found, [0.5])
    with pytest.raises(ValueError, match="`threshold`=1.5; expected 0 or more"):
        metrics.effective_complexity(linear(jnp.ones((1, 1))), threshold=1.5)


def test_methods_that_promise_completeness_keep_it():
    """Input times gradient of a linear network, and integrated gradients of another."""
    random = np.random.default_rng(0)
    weights = jnp.asarray(random.normal(size=(48, 3)), jnp.float32)
    images = jnp.asarray(random.random((2, 4, 4, 3)), jnp.float32)
    labels = jnp.asarray([0, 2])
    model = linear(weights)
    curved = split.from_functions(
        lambda variables, images: images,
        lambda variables, maps: jnp.tanh(maps.reshape(len(maps), -1) @ weights) ** 3,
    )
    for network, explain in (
        (model, saliency.input_x_gradient(model)),
        (curved, saliency.integrated_gradients(curved, steps=300)),
    ):
        found = explain({}, images, labels)
        metric = metrics.completeness(network, score="logit")
        gap = metric({}, images, labels, found)["completeness"]
        np.testing.assert_allclose(gap, 0, atol=5e-3)
        twice = metric({}, images, labels, 2 * found)["completeness"]
        np.testing.assert_allclose(twice, 1 / 3, atol=5e-3)
        for factor in (0, -1):
            wrong = metric({}, images, labels, factor * found)["completeness"]
            np.testing.assert_allclose(wrong, 1, atol=1e-6)


def test_where_the_image_is_its_baseline_only_zeros_are_complete():
    metric = metrics.completeness(linear(jnp.ones((12, 2))), score="logit")
    black = jnp.zeros((2, 2, 2, 3))
    maps_ = jnp.stack([jnp.zeros((2, 2)), jnp.ones((2, 2))])
    found = metric({}, black, jnp.asarray([0, 0]), maps_)["completeness"]
    assert found.tolist() == [0, 1]


@pytest.mark.parametrize("baseline", ["uniform", "black"])
def test_a_map_of_the_weights_is_monotone(baseline):
    """Four groups, whose weight of the score grows tenfold: the order is certain."""
    weights = np.repeat(10.0 ** np.arange(4), 12)[:, None].astype(np.float32)
    model = linear(jnp.asarray(weights) @ jnp.ones((1, 2)))
    settings = {"regions": 4, "draws": 3, "baseline": baseline, "score": "logit"}
    metric = metrics.monotonicity_correlation(model, **settings)
    images = jnp.full((1, 4, 4, 3), 0.9)
    right = jnp.repeat(jnp.arange(1.0, 5), 4).reshape(1, 4, 4)
    for map_, expected in ((right, 1), (-right, 1), (5 - right, -1), (0 * right, 0)):
        found = metric({}, images, jnp.asarray([1]), map_, key=KEY)
        assert found["monotonicity_correlation"][0] == pytest.approx(expected)


def test_impossible_groups_are_refused():
    model = linear(jnp.ones((12, 2)))
    with pytest.raises(ValueError, match="`regions`=1 and `draws`=10; expected 2"):
        metrics.monotonicity_correlation(model, regions=1)
    metric = metrics.monotonicity_correlation(model, regions=5)
    given = {}, jnp.ones((1, 2, 2, 3)), jnp.asarray([0]), jnp.ones((1, 2, 2))
    with pytest.raises(ValueError, match="`regions`=5, but the image has 4 pixels"):
        metric(*given, key=KEY)
    with pytest.raises(ValueError, match="`key`=None"):
        metrics.monotonicity_correlation(model, regions=2)(*given)


def test_the_average_change_of_the_map_is_below_the_largest():
    model = linear(jnp.ones((48, 2)))

    def explain(variables, images, labels, *, key=None):
        return jnp.sum(images, axis=-1)

    images = jax.random.uniform(KEY, (3, 4, 4, 3))
    given = {}, images, jnp.zeros(3, int), explain({}, images, None)
    both = metrics.max_sensitivity(model, explain, samples=8)(*given, key=KEY)
    alone = metrics.average_sensitivity(model, explain, samples=8)(*given, key=KEY)
    np.testing.assert_allclose(
        both["average_sensitivity"], alone["average_sensitivity"], rtol=1e-6
    )
    assert (both["average_sensitivity"] < both["max_sensitivity"]).all()
    one = metrics.max_sensitivity(model, explain, samples=1)(*given, key=KEY)
    np.testing.assert_allclose(one["average_sensitivity"], one["max_sensitivity"])
    # An evaluation makes the maps once for both.
    names = ("max_sensitivity", "average_sensitivity")
    made, _ = scorers.make(model, names, {}, ())
    assert [tuple(each.columns) for each in made] == [names]

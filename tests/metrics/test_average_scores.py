import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, split

LABELS = jnp.asarray([0, 1, 2, 1])


def logit_model(scale=1.0):
    """Classify by the mean colour: logits are known in closed form."""
    return split.from_functions(
        lambda v, images: images, lambda v, maps: scale * maps.mean((1, 2))
    )


def probabilities(images, scale=1.0):
    logits = scale * np.asarray(images, np.float64).mean((1, 2))
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    chosen = exponentials / exponentials.sum(1, keepdims=True)
    return chosen[np.arange(len(chosen)), np.asarray(LABELS)]


@pytest.fixture
def saliency():
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, 7, 7)), jnp.float32)


def test_the_three_formulas(pictures, saliency):
    from unlir_jax import maps

    mask = maps.normalize(jnp.maximum(maps.resize(saliency, (32, 32)), 0))
    p = probabilities(pictures, 5.0)
    o = probabilities(maps.apply_mask(pictures, mask), 5.0)
    found = metrics.average_scores(logit_model(5.0))({}, pictures, LABELS, saliency)
    np.testing.assert_allclose(
        found["average_drop"], np.maximum(p - o, 0) / p, atol=1e-5
    )
    np.testing.assert_array_equal(found["average_increase"], o > p)
    np.testing.assert_allclose(
        found["average_gain"], np.maximum(o - p, 0) / (1 - p), atol=1e-5
    )
    assert (o > p).any() and (o < p).any()


def test_each_metric_gives_its_own_value_only(pictures, saliency):
    model = logit_model()
    together = metrics.average_scores(model)({}, pictures, LABELS, saliency)
    for name in ("average_drop", "average_increase", "average_gain"):
        alone = metrics.METRICS[name](model)({}, pictures, LABELS, saliency)
        assert list(alone) == [name]
        assert (alone[name] == together[name]).all()


def test_a_map_of_ones_is_flat_and_masks_everything(pictures):
    ones = jnp.ones((4, 32, 32))
    found = metrics.average_scores(logit_model(5.0))({}, pictures, LABELS, ones)
    p = probabilities(pictures, 5.0)
    expected = np.maximum(p - 1 / 3, 0) / p
    np.testing.assert_allclose(found["average_drop"], expected, atol=1e-5)


def test_a_mask_of_ones_but_one_pixel_drops_next_to_nothing(pictures):
    ones = jnp.ones((4, 32, 32)).at[:, 0, 0].set(0)
    found = metrics.average_drop(logit_model(5.0))({}, pictures, LABELS, ones)
    assert found["average_drop"].max() < 0.01


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e5])
def test_certain_networks_give_finite_scores(pictures, saliency, scale):
    found = metrics.average_scores(logit_model(scale))({}, pictures, LABELS, saliency)
    for name, values in found.items():
        assert jnp.isfinite(values).all(), name
        assert (values >= 0).all() and (values <= 1).all(), name


def test_gain_is_exact_where_the_network_is_nearly_sure():
    """Float32 rounds p = 1 - exp(-18) to 1: only its logarithms know the gain."""
    images = np.full((1, 2, 2, 2), 0.5, np.float32)
    model = split.from_functions(
        lambda v, x: x,
        lambda v, m: jnp.stack([19 - m[:, 0].mean((1, 2)) * 2, 0 * m[:, 0, 0, 0]], 1),
    )
    # The mask hides the upper row, which holds the logit 1 below its maximum.
    lower = jnp.asarray([[[0.0, 0.0], [1.0, 1.0]]])
    found = metrics.average_scores(model)({}, images, jnp.zeros(1, int), lower)
    rest = 1 / (1 + np.exp([18.0, 19.0]))
    np.testing.assert_allclose(found["average_gain"], 1 - rest[1] / rest[0], rtol=1e-5)
    assert found["average_increase"] == 1


def test_scores_do_not_depend_on_the_batch(pictures, saliency):
    score = metrics.average_scores(logit_model(5.0))
    together = score({}, pictures, LABELS, saliency)
    for index in range(4):
        part = slice(index, index + 1)
        alone = score({}, pictures[part], LABELS[part], saliency[part])
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][index], atol=1e-6)


def test_maps_of_other_images_are_refused(unchecked, pictures, saliency):
    with pytest.raises(ValueError, match="each of the 4 images"):
        metrics.average_drop(logit_model())({}, pictures, LABELS, saliency[:3])
    with pytest.raises(ValueError, match="one"):
        metrics.average_drop(logit_model())({}, pictures, LABELS, saliency[..., None])


def test_runs_inside_jit(pictures, saliency):
    score = metrics.average_scores(logit_model(5.0))
    inside = jax.jit(score)({}, pictures, LABELS, saliency)
    outside = score({}, pictures, LABELS, saliency)
    for name, values in inside.items():
        np.testing.assert_allclose(values, outside[name], atol=1e-6)

"""The field's known errors in metrics, one test each, named after the error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, split
from unlir_jax.metrics.localization import thresholds
from unlir_jax.metrics.sanity import similarity

KEY = jax.random.key(0)
LABELS = jnp.asarray([0, 1, 2, 1])


@pytest.fixture(scope="module")
def model():
    """Classify by the mean colour, and keep all that is shown outside of jit."""
    return split.from_functions(
        lambda v, images: images, lambda v, m: 8 * m.mean((1, 2))
    )


@pytest.fixture
def saliency():
    return np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)


def watched(model):
    """Note every picture that the network is shown."""
    seen = []

    def features(variables, images):
        jax.debug.callback(lambda shown: seen.append(np.asarray(shown)), images)
        return model.features(variables, images)

    return model._replace(features=features), seen


@pytest.mark.exhaustive
def test_quantus_road_crashes_on_colour(model, pictures, saliency):
    """And removes pixels: all channels of 20 per cent of height times width."""
    counted, seen = watched(model)
    metric = metrics.road(counted, percentiles=(20,), noise=0.0)
    metric({}, pictures, LABELS, saliency)
    jax.effects_barrier()
    # In either order.
    assert len(seen) == 2
    for shown in seen:
        removed = (shown != pictures).any(-1).sum((1, 2))
        assert (np.abs(removed - round(0.2 * 1024)) <= 1).all()


@pytest.mark.exhaustive
def test_pytorch_grad_cam_road_noise_is_unseeded(model, pictures, saliency):
    metric = metrics.road(model, percentiles=(50,))
    one, two = (metric({}, pictures, LABELS, saliency, key=KEY) for _ in range(2))
    np.testing.assert_array_equal(one["road"], two["road"])


@pytest.mark.exhaustive
def test_pytorch_grad_cam_road_needs_maps_in_0_1_and_ties_fill_the_mask(
    model, pictures, saliency
):
    """The least relevant were those of 1 - map, and ties emptied or filled the mask."""
    metric = functools.partial(metrics.road(model, percentiles=(30,), noise=0.0), {})
    plain = metric(pictures, LABELS, saliency)
    other = metric(pictures, LABELS, 100 * saliency - 7)
    np.testing.assert_allclose(other["road"], plain["road"], atol=1e-3)
    counted, seen = watched(model)
    binary = np.zeros((4, 32, 32), np.float32)
    binary[:, :4] = 1
    metrics.road(counted, percentiles=(50,), noise=0.0)({}, pictures, LABELS, binary)
    jax.effects_barrier()
    # In either order.
    assert len(seen) == 2
    for shown in seen:
        removed = (shown != pictures).any(-1).sum((1, 2))
        assert (np.abs(removed - 512) <= 1).all()


@pytest.mark.parametrize("name", ["deletion", "aopc_morf"])
def test_quantus_pixel_flipping_flips_single_channel_values(
    model, pictures, saliency, name
):
    counted, seen = watched(model)
    settings = {"patch": 8, "regions": 16}
    if name == "deletion":
        settings = {"steps": 16, "loop": "device"}  # A step of all pictures at a time.
    pictures = 0.1 + 0.9 * pictures  # No value is black from the start.
    metrics.METRICS[name](counted, **settings)({}, pictures, LABELS, saliency)
    jax.effects_barrier()
    assert len(seen) == 17
    for step, shown in enumerate(sorted(seen, key=lambda s: -s.sum())):
        gone = shown == 0
        np.testing.assert_array_equal(gone.all(-1), gone.any(-1))
        assert (gone.any(-1).sum((1, 2)) == 64 * step).all()


@pytest.mark.exhaustive
def test_quantus_pointing_game_counts_an_empty_mask_as_a_hit(model, pictures, saliency):
    regions = np.ones((4, 32, 32), bool)
    regions[1] = False
    for name, factory in metrics.REGION_METRICS.items():
        found = factory(model)({}, pictures, LABELS, saliency, regions)[name]
        assert np.isnan(found).tolist() == [False, True, False, False], name


def test_quantus_pointing_game_counts_any_of_tied_maxima(model, pictures):
    tied = np.zeros((4, 32, 32), np.float32)
    tied[:, 2, 3] = tied[:, 30, 30] = 1
    regions = np.zeros((4, 32, 32), bool)
    regions[:2, 30, 30], regions[2:, 2, 3] = True, True
    metric = metrics.pointing_game(model, tolerance=0)
    found = metric({}, pictures, LABELS, tied, regions)["pointing_game"]
    assert found.tolist() == [0, 0, 1, 1]


def test_protopnext_locates_flat_maps_on_the_diagonal(model, pictures):
    regions = np.broadcast_to(np.eye(32, dtype=bool), (4, 32, 32))
    metric = metrics.pointing_game(model)
    flat = metric({}, pictures, LABELS, np.ones((4, 7, 7)), regions)["pointing_game"]
    assert (flat == 0).all()


@pytest.mark.exhaustive
def test_quantus_weighted_localisation_depends_on_the_batch(model, pictures, saliency):
    regions = np.random.default_rng(1).uniform(size=(4, 32, 32)) < 0.2
    metric = metrics.energy_pointing_game(model)
    whole = metric({}, pictures, LABELS, saliency, regions)["energy_pointing_game"]
    for size in (1, 2, 3):
        some = [array[:size] for array in (pictures, LABELS, saliency, regions)]
        part = metric({}, *some)["energy_pointing_game"]
        np.testing.assert_allclose(part, whole[:size], atol=1e-6)
    assert jnp.isfinite(whole).all() and (whole <= 1).all()


@pytest.mark.parametrize("name", ["average_drop", "complexity", "sparseness"])
def test_quantus_normalises_by_the_maximum_of_the_batch(
    model, pictures, saliency, name
):
    """A map a hundred times as large as its neighbours left nothing of them."""
    metric = metrics.METRICS[name](model)
    scaled = saliency * np.asarray([1, 100, 1, 0.01], np.float32)[:, None, None]
    plain = metric({}, pictures, LABELS, saliency)[name]
    found = metric({}, pictures, LABELS, scaled)[name]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_pytorch_grad_cam_drop_is_not_relative_to_the_clean_score(model, pictures):
    """A mask of zeros leaves a third: the drop is 1 - 1 / (3 p), not p - 1 / 3."""
    p = np.exp(8 * pictures.mean((1, 2)))
    p = (p / p.sum(1, keepdims=True))[np.arange(4), np.asarray(LABELS)]
    flat = np.zeros((4, 7, 7), np.float32)
    found = metrics.average_drop(model)({}, pictures, LABELS, flat)["average_drop"]
    np.testing.assert_allclose(found, np.maximum(0, 1 - 1 / (3 * p)), atol=1e-5)


def test_pytorch_grad_cam_drops_images_where_targets_are_short(
    unchecked, model, pictures, saliency
):
    with pytest.raises(ValueError, match="each of the 4 images"):
        metrics.average_drop(model)({}, pictures, LABELS[:3], saliency)


def test_xplique_average_drop_takes_the_absolute_map(model, pictures, saliency):
    """Negative evidence hides as negative evidence should."""
    metric = metrics.average_drop(model)
    signed = metric({}, pictures, LABELS, saliency)["average_drop"]
    absolute = metric({}, pictures, LABELS, np.abs(saliency))["average_drop"]
    assert (jnp.abs(signed - absolute) > 1e-4).any()


@pytest.mark.parametrize("name", ["insertion", "deletion"])
def test_xplique_deletion_is_of_logits_and_a_mean_only(model, pictures, saliency, name):
    """Areas of logits may be negative and have no bound; ours is one value an image."""
    shifted = model._replace(head=lambda v, f: model.head(v, f) - 1000)
    for one in (model, shifted):
        found = metrics.METRICS[name](one)({}, pictures, LABELS, saliency)[name]
        assert found.shape == (4,) and (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(
        found,
        metrics.METRICS[name](model)({}, pictures, LABELS, saliency)[name],
        atol=1e-3,
    )


def test_xplique_constant_maps_are_perfectly_alike():
    """SSIM of two constant maps was 1, and Spearman's NaN silently 0."""
    flat, ramp = np.ones((1, 48, 48)), np.arange(48.0 * 48).reshape(1, 48, 48)
    for one, other in ((flat, flat), (flat, ramp), (ramp, flat), (0 * flat, flat)):
        found = similarity.similarities(one.astype("f4"), other.astype("f4"))
        assert found["flat"].all()
        assert all((found[name] == 0).all() for name in ("ssim", "spearman", "hog"))


@pytest.mark.exhaustive
def test_opti_cam_code_divides_by_zero_on_flat_maps(model, pictures):
    """No metric is NaN on maps that say nothing."""

    def explain(variables, images, labels, *, key=None):
        return jnp.zeros((len(images), 4, 4))

    def cheap(name, factory):
        patches = "aopc" in name or name == "symmetric_relevance_gain"
        return factory(model, **({"patch": 8} if patches else {}))

    for flat in (0.0, 5.0, np.nan, np.inf):
        maps = np.full((4, 4, 4), flat, np.float32)
        for name, factory in metrics.METRICS.items():
            found = cheap(name, factory)({}, pictures, LABELS, maps, key=KEY)
            assert all(jnp.isfinite(values).all() for values in found.values()), name
        for name, factory in metrics.EXPLAINER_METRICS.items():
            found = factory(model, explain)({}, pictures, LABELS, maps, key=KEY)
            assert all(jnp.isfinite(values).all() for values in found.values()), name


def test_wsol_threshold_is_chosen_on_the_pictures_it_is_evaluated_on():
    """The first column is best on validation, the second on the evaluated part."""
    evaluated = np.asarray([[0.4, 0.9], [0.6, 0.9], [np.nan, np.nan]])
    validation = np.asarray([[0.9, 0.1]])
    peers = thresholds.max_box_accuracy(evaluated, overlaps=(0.5,))
    ours = thresholds.max_box_accuracy(evaluated, validation, overlaps=(0.5,))
    assert peers.accuracy == 1 and peers.chosen_on == "evaluated"
    assert ours.accuracy == 0.5 and ours.chosen_on == "validation"
    assert peers.threshold == (0.5,) and ours.threshold == (0,)
    assert peers.left_out == ours.left_out == 1
    with pytest.raises(ValueError, match="3 thresholds"):
        thresholds.max_box_accuracy(evaluated, np.ones((2, 3)))
    with pytest.raises(ValueError, match="no image with boxes"):
        thresholds.max_box_accuracy(evaluated[2:])


def test_wsol_users_choose_a_threshold_for_each_picture():
    """The best column of each row would give 1; one column for all gives a half."""
    curves = np.asarray([[0.9, 0.1], [0.1, 0.9]])
    assert thresholds.max_box_accuracy(curves, overlaps=(0.5,)).accuracy == 0.5


def test_fake_cam_wins_the_average_drop_and_nothing_else(model, pictures):
    fake = np.ones((4, 32, 32), np.float32)
    fake[:, 0, 0] = 0
    inputs = ({}, pictures, LABELS, fake)
    assert (metrics.average_drop(model)(*inputs)["average_drop"] < 0.01).all()
    assert (metrics.average_gain(model)(*inputs)["average_gain"] < 0.01).all()
    assert (metrics.complexity(model)(*inputs)["complexity"] > 0.99).all()
    assert (metrics.sparseness(model)(*inputs)["sparseness"] < 0.01).all()


def test_pair_saliency_lets_one_lucky_step_lift_the_rest_of_a_curve(model, pictures):
    """Scores that fall again are kept as they are, and count as they are."""
    saliency = np.broadcast_to(np.linspace(1, 0, 32)[None, :, None], (4, 32, 32))
    for name in ("insertion", "deletion"):
        metric = metrics.METRICS[name](model, steps=8)
        found = metric({}, pictures, LABELS, saliency.astype(np.float32))
        steps = np.diff(np.asarray(found[f"{name}_curve"]), axis=1)
        assert ((steps > 0).any(1) & (steps < 0).any(1)).any(), name


def test_pytorch_grad_cam_says_geometric_and_computes_a_harmonic_mean(model, pictures):
    def explain(variables, images, labels, *, key=None):
        return images.mean(-1)

    maps = jnp.asarray(pictures).mean(-1)
    found = metrics.adcc(model, explain)({}, pictures, LABELS, maps)
    parts = [
        found["coherency"],
        *(1 - found[n] for n in ("complexity", "average_drop")),
    ]
    np.testing.assert_allclose(found["adcc"], 3 / sum(1 / p for p in parts), atol=1e-5)

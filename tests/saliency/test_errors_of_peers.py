"""The field's known errors in explainers, one test each, named after the error.

Those of whole families stand with them, as `test_error_of_the_field_…`; metrics have a
file of their own, tests/metrics/test_known_errors.py, and Score-CAM's masks of all
filters at once are in tests/test_memory.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlir_jax import saliency, split
from unlir_jax.core import random_keys
from unlir_jax.metrics.sanity import redrawn as sanity
from unlir_jax.saliency import targets
from unlir_jax.saliency.perturbation.rise import shifted_cells

LABELS = jnp.asarray([0, 3, 1, 2])
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pooled(pictures):
    module = toy.Halves()
    return split.from_methods(module), toy.random_variables(module, pictures)


def test_flax_gradcam_explains_one_image_of_a_batch(pooled, pictures):
    """Three of four maps were 0/0, and a second batch size was a TypeError."""
    cut, variables = pooled
    explain = saliency.grad_cam(cut, rectify=False)
    found = np.asarray(explain(variables, pictures, LABELS))
    assert np.isfinite(found).all() and (np.ptp(found, axis=(1, 2)) > 0).all()
    assert explain(variables, pictures[:3], LABELS[:3]).shape == (3, 32, 32)


def test_captum_averages_the_gradients_of_tokens_and_sums_the_rest():
    """Maps `[batch, tokens, filters]` gave a map of nonsense, and no error."""
    tokens = split.from_functions(
        lambda v, images: images.reshape(len(images), -1, 3),
        lambda v, maps: maps.mean(1),
    )
    images, labels = np.ones((2, 4, 4, 3), np.float32), jnp.asarray([0, 1])
    for name in ("grad_cam", "layer_cam", "ablation_cam", "score_cam", "eigen_cam"):
        with pytest.raises(ValueError, match=r"\(2, 16, 3\); expected maps"):
            saliency.METHODS[name](tokens)({}, images, labels)


def test_pytorch_grad_cam_swallows_index_errors_and_leaves_its_layer_behind(
    pooled, pictures
):
    """What goes wrong inside comes out, and the network is what it was."""
    cut, variables = pooled
    broken = True

    def head(variables, features):
        if broken:
            raise IndexError("of the network's own")
        return cut.head(variables, features)

    explain = saliency.ablation_cam(split.SplitModel(cut.features, head))
    with pytest.raises(IndexError, match="of the network's own"):
        explain(variables, pictures, LABELS)
    broken = False
    found = explain(variables, pictures, LABELS)
    expected = saliency.ablation_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pytorch_grad_cam_s_refined_maps_are_not_scaled_and_others_are_twice():
    """`fuse` scales each map if asked to; else sizes are what they were."""
    sizes = np.asarray([1, 100], np.float32)

    def explain(variables, images, labels, *, key=None):
        return sizes[:, None, None] * images.mean(-1)

    other = functools.partial(explain)
    inputs = (
        {},
        np.random.default_rng(0).random((2, 4, 4, 3)).astype("f4"),
        LABELS[:2],
    )
    raw = explain(*inputs)
    kept = saliency.fuse([explain, other], scaling="none")(*inputs)
    np.testing.assert_allclose(kept, raw, rtol=1e-6)
    scaled = saliency.fuse([explain, other], scaling="range", fusion="product")(*inputs)
    span = np.ptp(raw, axis=(1, 2), keepdims=True)
    expected = ((raw - raw.min((1, 2), keepdims=True)) / span) ** 2
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def test_xplique_takes_whatever_is_no_plain_function_for_a_number(pooled, pictures):
    cut, variables = pooled
    partial = functools.partial(lambda logits, labels: targets.logit(logits, labels))
    found = saliency.hires_cam(cut, target=partial)(variables, pictures, LABELS)
    expected = saliency.hires_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_xplique_s_rise_shifts_all_masks_of_a_batch_alike(pictures):
    """Masks bend at the middles of their cells: with one shift at six columns."""
    own = jnp.broadcast_to(random_keys.per_image(KEY, pictures[:1]), 20)
    drawn = np.asarray(shifted_cells(3, 0.5)((24, 24), jnp.arange(20), own))
    bends = np.abs(np.diff(drawn, 2, axis=2)).max(1) > 1e-4
    assert bends.sum(1).max() <= 6 and bends.any(0).sum() > 12


def test_xplique_s_randomisation_seeds_the_world(pooled):
    _, variables = pooled
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    one, two = (sanity.redraw(variables, KEY) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.exhaustive
def test_opti_cam_code_couples_a_batch_and_divides_by_zero_below_ten_steps(
    pooled, pictures
):
    """Its stop looked at the sum of losses, every `steps // 10` steps."""
    cut, variables = pooled
    explain = saliency.opti_cam(cut, steps=3)
    together = explain(variables, pictures, LABELS)
    alone = explain(variables, pictures[2:3], LABELS[2:3])
    np.testing.assert_allclose(alone[0], together[2], atol=1e-5 * together.max())

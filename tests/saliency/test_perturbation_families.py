"""Methods that hide parts of the image: slow loops, closed forms, and identities."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import saliency, split
from unlir_jax.core import random_keys
from unlir_jax.saliency import gaussian_blur
from unlir_jax.saliency.perturbation import coalitions, segments
from unlir_jax.saliency.perturbation.rise import shifted_cells

KEY = jax.random.key(0)
SIZE = 12
CLASSES = 3
RANDOM = np.random.default_rng(0)
VARIABLES = {
    "linear": jnp.asarray(RANDOM.normal(size=(SIZE, SIZE, 3, CLASSES)), jnp.float32),
    "curved": jnp.asarray(RANDOM.normal(size=(SIZE, SIZE, 3, CLASSES)), jnp.float32),
}
LABELS = jnp.asarray([0, 2, 1, 1, 0])


def features(variables, images):
    """Pass the pixels through: the toy networks are functions of them."""
    del variables
    return images


def linear_head(variables, pixels):
    return jnp.einsum("bhwc,hwck->bk", pixels, variables["linear"]) / SIZE


SEEN = []


def curved_head(variables, pixels):
    jax.debug.callback(lambda: SEEN.append(len(pixels)))
    bent = jnp.einsum("bhwc,hwck->bk", pixels, variables["curved"]) / SIZE
    return linear_head(variables, pixels) + jnp.sin(2 * bent) * bent


LINEAR = split.from_functions(features, linear_head)
CURVED = split.from_functions(features, curved_head, mean=(0.4, 0.5, 0.6))


@pytest.fixture(scope="module")
def images(pictures):
    small = pictures[:, :SIZE, :SIZE]
    return jnp.asarray(np.concatenate([small, 1 - small[:1]]))


def scores(model, images, labels):
    logits = model.head(VARIABLES, model.features(VARIABLES, jnp.asarray(images)))
    return np.asarray(logits)[np.arange(len(labels)), np.asarray(labels)]


def test_occlusion_is_the_slow_loop(images):
    explain = saliency.occlusion(CURVED, window=(5, 4), stride=(3, 4), batch_size=7)
    found = explain(VARIABLES, images, LABELS)
    clean = scores(CURVED, images, LABELS)
    total, times = np.zeros((len(images), SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for top, left in itertools.product((0, 3, 6, 9), (0, 4, 8)):
        place = np.s_[top : top + 5, left : left + 4]
        hidden = np.array(images)
        hidden[:, *place] = (0.4, 0.5, 0.6)
        drop = clean - scores(CURVED, hidden, LABELS)
        total[:, *place] += drop[:, None, None]
        times[place] += 1
    np.testing.assert_allclose(found, total / times, atol=1e-5)


@pytest.mark.exhaustive
def test_rise_is_the_weighted_mean_of_its_masks(images):
    size, masks = (SIZE, SIZE), 10
    found = saliency.rise(LINEAR, masks=masks, cells=3, share=0.4, centered=False)(
        VARIABLES, images[:1], LABELS[:1], key=KEY
    )
    own = jnp.broadcast_to(random_keys.per_image(KEY, images[:1]), masks)
    drawn = np.asarray(shifted_cells(3, 0.4)(size, jnp.arange(masks), own))
    masked = np.asarray(images[0]) * drawn[..., None]
    logits = LINEAR.head(VARIABLES, LINEAR.features(VARIABLES, jnp.asarray(masked)))
    share = np.asarray(jax.nn.softmax(logits))[:, int(LABELS[0])]
    expected = np.einsum("n,nhw->hw", share, drawn) / masks / 0.4
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.mark.exhaustive
def test_rise_tends_to_the_covariance_of_masks_on_a_linear_model(images):
    """`E[f M(u)] - E[f] E[M(u)]` is a sum of covariances of M, times what f adds."""
    cells, share = 3, 0.4
    side = SIZE // cells
    enlarged = (np.arange((cells + 1) * side) + 0.5) * cells / ((cells + 1) * side)
    places = np.clip(enlarged - 0.5, 0, cells - 1)
    weight = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells)))
    along = np.mean([(w := weight[s : s + SIZE]) @ w.T for s in range(side)], axis=0)
    gain = np.einsum(
        "hwc,hwc->hw", images[0], VARIABLES["linear"][..., int(LABELS[0])] / SIZE
    )
    expected = (1 - share) * np.einsum("hu,wv,uv->hw", along, along, gain)
    explain = saliency.rise(
        LINEAR, masks=20000, cells=cells, share=share, target="logit", batch_size=2000
    )
    found = np.asarray(explain(VARIABLES, images[:1], LABELS[:1], key=KEY))[0]
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


def test_lime_finds_the_weights_of_a_model_linear_in_segments(images):
    explain = saliency.lime(
        LINEAR, samples=200, kind="grid", count=9, ridge=0.0, baseline="black"
    )
    found = explain(VARIABLES, images, LABELS, key=KEY)
    cut = np.asarray(segments.grid(images, 9))
    gain = np.einsum("bhwc,hwcb->bhw", images, VARIABLES["linear"][..., LABELS] / SIZE)
    for image in range(len(images)):
        weights = np.bincount(cut[image].ravel(), gain[image].ravel())
        np.testing.assert_allclose(found[image], weights[cut[image]], atol=2e-5)


@pytest.mark.exhaustive
def test_lime_is_ridge_regression_with_an_intercept(images):
    count, samples = 9, 40
    explain = saliency.lime(CURVED, samples=samples, kind="grid", count=count)
    found = explain(VARIABLES, images[:1], LABELS[:1], key=KEY)
    own = random_keys.per_image(KEY, images[:1])
    design = coalitions.coins(samples, 0.25)
    drawn = jax.vmap(design.draw, (0, None, None))
    shown, weight = drawn(jnp.arange(samples), own[0], jnp.ones(count))
    shown = np.concatenate([np.ones((1, count)), shown])
    weight = np.concatenate([np.ones(1), weight])
    cut = np.asarray(segments.grid(images[:1], count))[0]
    colour = np.asarray((0.4, 0.5, 0.6), np.float32)
    mask = shown[:, cut][..., None]
    value = scores(
        CURVED,
        (np.asarray(images[0]) * mask + colour * (1 - mask)).astype(np.float32),
        [int(LABELS[0])] * (samples + 1),
    )
    # An intercept is a column that the penalty spares.
    columns = np.concatenate([shown, np.ones((samples + 1, 1))], 1)
    penalty = np.diag([1.0] * count + [0.0])
    gram = columns.T * weight @ columns + penalty
    expected = np.linalg.solve(gram, columns.T * weight @ value)[:count]
    np.testing.assert_allclose(found[0], expected[cut], atol=2e-5)


def shapley(image, label, cut, colour):
    """Sum over all subsets, as the definition says."""
    count = cut.max() + 1
    rows = list(itertools.product((0, 1), repeat=count))
    masks = np.asarray(rows)[:, cut][..., None]
    shown = (image * masks + colour * (1 - masks)).astype(np.float32)
    value = dict(zip(rows, scores(CURVED, shown, [label] * len(rows)), strict=True))
    found = np.zeros(count)
    for row, segment in itertools.product(rows, range(count)):
        if not row[segment]:
            joined = (*row[:segment], 1, *row[segment + 1 :])
            others = math.comb(count - 1, sum(row))
            found[segment] += (value[joined] - value[row]) / count / others
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["grid", "slic"])
def test_kernel_shap_gives_shapley_values(images, kind):
    explain = saliency.kernel_shap(CURVED, kind=kind, count=6)
    found = np.asarray(explain(VARIABLES, images, LABELS))
    cuts = np.asarray(getattr(segments, kind)(images, 6))
    colour = np.asarray((0.4, 0.5, 0.6))
    for image, label, cut, one in zip(images, LABELS, cuts, found, strict=True):
        _, cut = np.unique(cut, return_inverse=True)
        expected = shapley(np.asarray(image), int(label), cut, colour)
        values = np.bincount(cut.ravel(), one.ravel())
        np.testing.assert_allclose(values, expected, atol=2e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("samples", [3, 301])
def test_kernel_shap_adds_up_whatever_is_drawn(images, samples):
    explain = saliency.kernel_shap(CURVED, samples=samples, count=16)
    found = explain(VARIABLES, images, LABELS, key=KEY)
    nothing = np.broadcast_to(np.float32((0.4, 0.5, 0.6)), images.shape)
    gain = scores(CURVED, images, LABELS) - scores(CURVED, nothing, LABELS)
    np.testing.assert_allclose(np.sum(found, (1, 2)), gain, atol=2e-5)


@pytest.mark.exhaustive
def test_sampled_kernel_shap_is_exact_on_a_model_linear_in_segments(images):
    explain = saliency.kernel_shap(
        LINEAR, samples=100, kind="grid", count=16, baseline="black"
    )
    found = np.asarray(explain(VARIABLES, images, LABELS, key=KEY))
    cut = np.asarray(segments.grid(images, 16))
    gain = np.einsum("bhwc,hwcb->bhw", images, VARIABLES["linear"][..., LABELS] / SIZE)
    for image in range(len(images)):
        expected = np.bincount(cut[image].ravel(), gain[image].ravel())
        values = np.bincount(cut[image].ravel(), found[image].ravel())
        np.testing.assert_allclose(values, expected, atol=2e-5)


@pytest.mark.exhaustive
def test_absent_segments_take_no_part():
    present = jnp.asarray([1.0, 0, 1, 1, 0])
    for design in (coalitions.every(5), coalitions.pairs(5, 64)):
        drawn = jax.vmap(design.draw, (0, None, None))
        shown, weight = drawn(jnp.arange(design.rows), KEY, present)
        assert not np.any(np.asarray(shown)[:, [1, 4]])
        sizes = np.asarray(shown).sum(1)[np.asarray(weight) > 0]
        assert set(sizes) == {1, 2}
    # Three segments: six coalitions of the same weight, (3 - 1) / (3 * 1 * 2).
    _, weight = jax.vmap(coalitions.every(5).draw, (0, None, None))(
        jnp.arange(30), KEY, present
    )
    np.testing.assert_allclose(np.sort(weight)[-6:], 1 / 3, rtol=1e-6)
    assert np.count_nonzero(weight) == 6


def connected(cut):
    """Flood each segment from its first pixel; what it does not reach is apart."""
    for number in np.unique(cut):
        inside = cut == number
        reached = np.zeros_like(inside)
        reached.flat[np.argmax(inside)] = True
        for _ in range(cut.size):
            near = np.pad(reached, 1)
            grown = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
            grown = (grown | reached) & inside
            if (grown == reached).all():
                break
            reached = grown
        if not (reached == inside).all():
            return False
    return True


@pytest.mark.exhaustive
def test_superpixels_are_connected_and_as_many_as_asked(pictures):
    random = np.random.default_rng(1).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    images = jnp.asarray(np.concatenate([pictures, random]))
    cut = np.asarray(segments.slic(images, 20))
    assert (cut == np.asarray(segments.slic(images, 20))).all()
    assert (cut[2:3] == np.asarray(segments.slic(images[2:3], 20))).all()
    for one in cut:
        assert connected(one)
        assert 15 <= len(np.unique(one)) <= 25


def test_superpixels_follow_a_border():
    """The border lies three pixels off the grid's."""
    image = np.zeros((1, 24, 24, 3), np.float32)
    image[:, :, :9] = (0.9, 0.2, 0.1)
    cut = np.asarray(segments.slic(jnp.asarray(image), 16))[0]
    assert not set(cut[:, :9].ravel()) & set(cut[:, 9:].ravel())
    flat = np.asarray(segments.slic(jnp.zeros((1, 24, 24, 3)), 16))[0]
    assert len(np.unique(flat)) == 16 and connected(flat)


def test_cielab_of_known_colours():
    """Values of red and of mid grey, as any colour calculator gives them."""
    colours = jnp.asarray([[1.0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1]])[None]
    expected = [[53.24, 80.09, 67.20], [53.39, 0, 0], [100, 0, 0]]
    np.testing.assert_allclose(segments.lab(colours)[0], expected, atol=0.02)


def test_layout_is_nearly_what_is_asked():
    assert segments.layout((224, 224), 49) == (7, 7)
    assert segments.layout((100, 200), 50) == (5, 10)
    assert math.prod(segments.layout((2, 3), 50)) == 6


FAST = {
    "occlusion": {"window": 4, "stride": 3, "batch_size": 16},
    "rise": {"masks": 30, "cells": 3, "batch_size": 16},
    "lime": {"samples": 60, "count": 9, "kind": "grid", "batch_size": 16},
    "kernel_shap": {"samples": 100, "count": 9, "batch_size": 16},
}
PASSES = {"occlusion": 4 * 4 + 1, "rise": 30, "lime": 60 + 1, "kernel_shap": 100 + 2}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FAST)
def test_a_map_does_not_depend_on_how_many_masks_a_pass_has(images, name):
    explain = saliency.METHODS[name](CURVED, **FAST[name])
    together = np.asarray(explain(VARIABLES, images, LABELS, key=KEY))
    assert together.shape == images.shape[:3] and np.ptp(together) > 0
    few = saliency.METHODS[name](CURVED, **FAST[name] | {"batch_size": 5})
    alone = few(VARIABLES, images[1:2], LABELS[1:2], key=KEY)
    scale = 1e-5 * np.abs(together).max()
    np.testing.assert_allclose(alone[0], together[1], atol=scale)


@pytest.mark.parametrize("name", tiers.by_tier(FAST, {"rise"}))
def test_passes_and_memory_are_what_they_must_be(images, name):
    explain = saliency.METHODS[name](CURVED, **FAST[name])
    jax.effects_barrier()
    SEEN.clear()
    jax.block_until_ready(explain(VARIABLES, images, LABELS, key=KEY))
    jax.effects_barrier()
    least = len(images) * PASSES[name]
    assert max(SEEN) <= 16
    assert least <= sum(SEEN) <= 1.2 * least


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["occlusion", "rise", "lime"])
def test_host_and_device_agree(images, name):
    host, device = (
        np.asarray(
            saliency.METHODS[name](CURVED, **FAST[name], loop=loop)(
                VARIABLES, images, LABELS, key=KEY
            )
        )
        for loop in ("host", "device")
    )
    np.testing.assert_allclose(device, host, atol=1e-5 * np.abs(host).max())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("occlusion", {"window": 0}, "`window`=0; expected 1 pixel or more"),
        ("occlusion", {"window": 3, "stride": 4}, "are never hidden"),
        ("occlusion", {"baseline": "grey"}, "`kind`='grey' is unknown"),
        ("rise", {"masks": 0}, "`masks`=0; expected 1 or more"),
        ("rise", {"share": 1.0}, "`share`=1.0; expected more than 0 and less"),
        ("lime", {"width": 0.0}, "`width`=0.0; expected more than 0"),
        ("lime", {"ridge": -1.0}, "`ridge`=-1.0; expected 0 or more"),
        ("lime", {"samples": 0}, "`samples`=0; expected 1 or more"),
        ("kernel_shap", {"count": 0}, "`count`=0; expected 1 or more"),
        ("kernel_shap", {"kind": "felzenszwalb"}, "`kind`='felzenszwalb' is unknown"),
    ],
)
def test_wrong_settings_are_refused(unchecked, name, settings, message):
    with pytest.raises(ValueError, match=message):
        saliency.METHODS[name](CURVED, **settings)


@pytest.mark.parametrize("name", ["rise", "lime"])
def test_random_methods_ask_for_a_key(images, name):
    with pytest.raises(ValueError, match="`key`=None"):
        saliency.METHODS[name](CURVED, **FAST[name])(VARIABLES, images, LABELS)


SEARCHES = {
    "meaningful_perturbation": {
        **{"steps": 60, "cells": 6, "jitter": 0, "target": "logit"},
        **{"size_weight": 0.2, "deviation": 100.0},
    },
    "extremal_perturbation": {
        **{"areas": (0.25,), "steps": 250, "stride": 37.0, "width": 37.0},
        **{"levels": 2, "deviation": 100.0, "learning_rate": 0.05},
        **{"area_weight": 3.0, "growth": 1.015},
    },
}
PLACE = np.zeros((SIZE, SIZE), bool)
PLACE[2:8, 4:10] = True


def patch_head(variables, pixels):
    """Look at the stripes of a quarter of the image, which a blur wipes out."""
    return jnp.einsum("bhwc,hwck->bk", pixels, variables["patch"])


STRIPES = PLACE * np.where(np.arange(SIZE) % 2, 1.0, -1.0)[None]
PATCH = split.from_functions(features, patch_head)
LOOKS = {"patch": jnp.asarray(STRIPES[:, :, None, None] * np.ones((3, CLASSES)) / 9)}


@pytest.fixture(scope="module")
def stripes():
    image = 0.5 + 0.5 * np.where(np.arange(SIZE) % 2, 1.0, -1.0)
    image = np.broadcast_to(image[None, None, :, None], (2, SIZE, SIZE, 3))
    return jnp.asarray(image * np.asarray([1.0, 0.8])[:, None, None, None], jnp.float32)


@pytest.mark.parametrize("name", tiers.by_tier(SEARCHES, {"meaningful_perturbation"}))
def test_searched_masks_find_the_place_that_the_network_looks_at(stripes, name):
    explain = getattr(saliency, name)(PATCH, **SEARCHES[name])
    labels = jnp.asarray([0, 1])
    found = np.asarray(explain(LOOKS, stripes, labels))
    assert found.min() >= 0 and found.max() <= 1
    # What the map marks carries the score: kept alone, or taken away.
    blurred = gaussian_blur.blur(stripes, 100.0 * SIZE / 224)

    def score(mask):
        shown = stripes * mask[..., None] + blurred * (1 - mask[..., None])
        return np.asarray(patch_head(LOOKS, shown))[:, 0]

    clean, none = score(np.ones_like(found)), score(np.zeros_like(found))
    gain = clean - none
    assert (score(found) - none > 0.7 * gain).all()
    assert (score(1 - found) - none < 0.3 * gain).all()
    if name == "extremal_perturbation":
        np.testing.assert_allclose(found.mean((1, 2)), 0.25, atol=0.08)
    else:
        assert (found.mean((1, 2)) < 0.6).all()
    alone = explain(LOOKS, stripes[1:], labels[1:])
    np.testing.assert_allclose(alone[0], found[1], atol=1e-5)
    blind = jax.tree.map(jnp.zeros_like, LOOKS)
    assert (np.asarray(explain(blind, stripes, labels)) == 0).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "corner", [(19, 19), pytest.param((9, 9), marks=pytest.mark.exhaustive)]
)
def test_an_extremal_perturbation_finds_weak_evidence_anywhere(corner):
    """With the defaults; by ranks of equal pixels it would keep the image's border."""
    side, size, (row, column) = 28, 9, corner
    stripes = np.where(np.arange(side) % 2, 1.0, -1.0)
    place = np.zeros((side, side))
    place[row : row + size, column : column + size] = 1
    # The whole picture scores 1, and a blurred one 0.
    weights = (place * stripes[None])[:, :, None, None] / (1.5 * size**2)
    image = np.broadcast_to(
        0.5 + 0.5 * stripes[None, None, :, None], (1, side, side, 3)
    )
    model = split.from_functions(features, patch_head)
    variables = {"patch": jnp.asarray(weights * np.ones((3, 2)), jnp.float32)}
    explain = saliency.extremal_perturbation(model)
    labels = jnp.zeros(1, jnp.int32)
    found = np.asarray(explain(variables, jnp.asarray(image, jnp.float32), labels))[0]
    np.testing.assert_allclose(found.mean(), 0.1, atol=0.03)
    assert (found * place).sum() / found.sum() > 0.6
    assert found[place > 0].mean() > 0.6


@pytest.mark.exhaustive
def test_jitter_belongs_to_the_image(images):
    explain = saliency.meaningful_perturbation(CURVED, steps=3, cells=4, jitter=2)
    found = np.asarray(explain(VARIABLES, images, LABELS, key=KEY))
    alone = explain(VARIABLES, images[2:3], LABELS[2:3], key=KEY)
    np.testing.assert_allclose(alone[0], found[2], atol=1e-5)

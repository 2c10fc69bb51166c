"""Descriptions of regions by closed forms, and the losses of the heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.data import objects
from unlir_jax.detection import oicr, wsddn
from unlir_jax.parts import clustering
from unlir_jax.weak_detection import (
    class_maps,
    descriptions,
    heads,
    regions,
    settings,
    setup,
)

WINDOWS = {"scales": (0.5, 1.0), "ratios": (1.0,), "step": 1.0, "context": 2.0}
WINDOWS |= {"exponent": 0.5, "attention": 0.5}


def made(method="oicr", everywhere=(False,) * 3, scales=(0.5, 1.0), **own):
    given = settings.weak_detection().to_dict()
    given["method"] = method
    given["wsddn"] |= own
    found = regions.make(WINDOWS | {"scales": scales})
    return heads.make(given, found, 1, everywhere=everywhere), found


def test_a_region_is_described_by_how_it_differs_from_its_surroundings():
    found = regions.make(WINDOWS)
    assert found.windows.tolist()[0] == [0, 0, 500, 500]
    maps = np.zeros((4, 4, 1), np.float32)
    maps[:2, :2] = 1
    described = np.asarray(found.describe(maps))
    # The first window has ones inside and zeros around it, and half of the side.
    np.testing.assert_allclose(described[0], [1.8 * 0.5], atol=1e-6)
    # The second one has zeros inside. Its context is 250 to 1000 by 0 to 750, of which
    # 250 by 500 are ones.
    share = 250 * 500 / (750 * 750 - 500 * 500)
    np.testing.assert_allclose(described[1], [-1.8 * 0.5 * share], atol=1e-6)
    # The whole square has no surroundings.
    np.testing.assert_allclose(described[-1], [1.8 * 0.25], atol=1e-6)


def test_losses_are_those_of_wsddn_and_oicr():
    given, found = made(background=False)
    variables = given.initial(jax.random.key(0))
    maps = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
    present = np.asarray([[True, False, True], [False, False, False]])
    told = given.losses(variables, maps, present, jnp.asarray(0.5))
    first, later = [], []
    for one, there in zip(maps, present, strict=True):
        described = found.describe(one)
        scores = wsddn.region_scores(variables["wsddn"], described)
        first.append(wsddn.image_loss(scores, there))
        stages = oicr.losses(
            oicr.stage_logits(variables["oicr"], described),
            scores,
            there,
            found.overlaps,
            foreground=0.6,
            background=0.1,
            exclusive=True,
            balanced=True,
        )
        # After half of the training the third stage still waits.
        later.append(3 * stages[0] + stages[1])
    np.testing.assert_allclose(told["wsddn"], np.mean(first), rtol=1e-5)
    np.testing.assert_allclose(told["oicr"], np.mean(later), rtol=1e-5)


def test_attention_says_where_a_class_is_that_is_everywhere():
    given, found = made("wsddn", everywhere=(False, True, False))
    variables = given.initial(jax.random.key(0))
    # Attention, the last filter, is high in the upper left window alone.
    maps = np.zeros((4, 4, 2), np.float32)
    maps[:2, :2, 1] = 1
    scores = np.asarray(given.scores(variables, maps))
    outstanding = np.asarray(found.describe(maps[..., 1:]))[:, 0]
    wanted = np.exp(10 * outstanding) / np.exp(10 * outstanding).sum()
    np.testing.assert_allclose(scores[:, 1], wanted, rtol=1e-5)
    assert scores[:, 1].argmax() == 0
    # Without evidence the other classes have a quarter, spread evenly.
    np.testing.assert_allclose(scores[:, 0], 0.25 / len(scores), rtol=1e-5)


def test_attention_is_the_sum_of_positive_activations():
    last = np.zeros((1, 2, 2, 3), np.float32)
    last[0, 0, 0] = 4, 5, -7
    found = np.asarray(descriptions.attention(last, np.zeros((1, 2, 2, 8))))
    # 9, 0, 0, 0 has a mean of 9 / 4 and a variance of 3 / 16 of 81.
    wanted = np.asarray([3, -1, -1, -1]) / np.sqrt(3)
    np.testing.assert_allclose(found.reshape(-1), wanted, rtol=1e-5)
    assert not np.asarray(descriptions.attention(last * 0, last)).any()


def test_a_context_below_one_is_refused():
    with pytest.raises(ValueError, match="`windows.context`=0.5; expected 1 or more"):
        regions.make(WINDOWS | {"context": 0.5})


def test_boxes_around_class_maps_are_scored_by_their_peaks():
    cells = np.zeros((1, 4, 4, 1), np.float32)
    cells[0, 0, 0], cells[0, 3, 3], cells[0, 0, 3] = 4, 3, -8
    layer = {"kernel": np.ones((1, 1), np.float32), "bias": np.full(1, 1 / 16)}
    (found,) = class_maps.detect({"classifier": layer}, cells, np.asarray([[40, 40]]))
    # The mean of all cells and the bias cancel, so that the probability is a half. What
    # is negative has no box, and the second peak has three quarters of the first.
    np.testing.assert_allclose(found.scores, [0.5, 0.375])
    (x0, y0, _, _), (_, _, x1, y1) = found.boxes
    assert (x0, y0, x1, y1) == (0, 0, 40, 40)


def test_scales_are_chosen_without_boxes():
    given = settings.weak_detection()
    assert setup.scales(given, (False, False)) == setup.SMALL
    given.data.path = "street"
    assert setup.scales(given, (False, False)) == setup.ANY
    assert setup.scales(given, (False, True)) == setup.LARGE
    given.windows.scales = (0.3,)
    assert setup.scales(given, (True,)) == (0.3,)


def test_a_network_without_numbers_is_named_with_the_image():
    scenes = objects.scenes("train", 2, image_size=32).images
    blind = descriptions.Eye("layer", 32, lambda images: images[..., :1] * np.nan)
    whitening = clustering.Whitening(*(np.ones(1) for _ in range(3)), 1.0)
    with pytest.raises(FloatingPointError, match="train/00000"):
        descriptions.describe(blind, scenes, whitening, lambda share: None, str)

"""Maps over pictures: sizes, colours at both ends, and what is refused."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from unlir_jax.report import overlay

RED = Image.new("RGB", (224, 224), (200, 40, 40))


def pixels(image):
    return np.asarray(image, float)


@pytest.mark.parametrize(
    ("side", "expected"), [(32, 448), (100, 500), (224, 448), (300, 448), (600, 600)]
)
def test_size_for_people(side, expected):
    picture = Image.new("RGB", (side, side))
    mask = np.zeros((side, side))
    assert overlay.overlay(picture, mask).size == (expected, expected)
    assert overlay.masked(picture, mask).size == (expected, expected)


def test_tiny_pixels_stay_squares():
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), "u1")
    )
    large = np.asarray(overlay.enlarge(picture))
    np.testing.assert_array_equal(large[::14, ::14], np.asarray(picture))
    np.testing.assert_array_equal(large[13::14, 13::14], np.asarray(picture))


def test_nothing_marked_is_grey_and_everything_is_the_last_colour():
    """At 0 only a tenth of the colour is left; at 1, 0.88 of the brightest colour."""
    nothing = pixels(overlay.overlay(RED, np.zeros((224, 224))))[0, 0]
    grey = float(np.asarray(RED.convert("L"))[0, 0])
    np.testing.assert_allclose(
        nothing, 0.9 * grey + 0.1 * np.array([200, 40, 40]), atol=1
    )
    everything = pixels(overlay.overlay(RED, np.ones((224, 224))))[0, 0]
    expected = 0.12 * nothing + 0.88 * 255 * overlay.colours(np.ones(()))
    np.testing.assert_allclose(everything, expected, atol=1)


def test_lightness_grows_with_the_value():
    colours = overlay.colours(np.linspace(0, 1, 64))
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).all()


def test_the_map_lies_where_it_belongs():
    mask = np.zeros((7, 7))
    mask[1, 5] = 1
    shown = pixels(overlay.masked(Image.new("RGB", (224, 224), "white"), mask)).sum(-1)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(row - 1.5 * 64) <= 32 and abs(column - 5.5 * 64) <= 32
    assert shown[300, 100] == 0


def test_masked_is_the_product():
    half = pixels(overlay.masked(RED, np.full((224, 224), 0.5)))
    np.testing.assert_allclose(half[5, 5], [100, 20, 20], atol=1)


def test_legend():
    colours = overlay.legend(5)
    assert len(colours) == 5
    assert colours[0] == "#808080"
    assert all(len(colour) == 7 for colour in colours)


def test_signed_values_end_at_the_99th_percentile_of_magnitudes():
    saliency = np.linspace(-2, 1, 10_000, dtype=np.float32).reshape(1, 100, 100)
    saliency[0, 0, 0] = -50
    found = overlay.signed_values(saliency, (100, 100))[0]
    end = np.percentile(np.abs(saliency), 99)
    np.testing.assert_allclose(found, np.clip(saliency[0] / end, -1, 1), atol=1e-6)
    assert found.min() == -1 and 0.45 < found.max() < 0.55
    # Of a single pixel the percentile is 0, and a flat map has nothing to show.
    dot = np.zeros((2, 20, 20), np.float32)
    dot[0, 3, 3] = -4
    assert overlay.signed_values(dot, (20, 20))[0, 3, 3] == -1
    assert not overlay.signed_values(dot, (20, 20))[1].any()


def test_signs_are_drawn_about_zero():
    """Zero leaves the grey image, and both signs are as strong, in blue and red."""
    values = np.tile(np.repeat(np.float32([-1, 0, 1]), 64), (192, 1))
    shown = pixels(overlay.overlay(RED, values, signed=True))
    below, nothing, above = (shown[224, column] for column in (40, 224, 400))
    plain = pixels(overlay.overlay(RED, np.zeros((192, 192))))[224, 224]
    np.testing.assert_array_equal(nothing, plain)
    assert below[2] > below[0] + 80 and above[0] > above[2] + 80
    half = overlay.colours(np.asarray([-0.5, 0.5]), signed=True)
    full = overlay.colours(np.asarray([-1.0, 1.0]), signed=True)
    assert (half.sum(1) > full.sum(1)).all()
    colours = overlay.legend(5, signed=True)
    assert colours[2] == "#808080" and len(set(colours)) == 5


def test_maps_are_drawn_by_their_kind():
    saliency = np.random.default_rng(0).normal(size=(1, 7, 7)).astype(np.float32)
    plain, signed = (
        overlay.views([RED], saliency, signs)[0] for signs in (None, "relu")
    )
    assert not plain.signed and signed.signed
    mask = overlay.masks(saliency, (224, 224), "relu")[0]
    assert (mask == 0).mean() > 0.2
    np.testing.assert_array_equal(
        pixels(signed.masked), pixels(overlay.masked(RED, mask))
    )
    assert (pixels(plain.overlay) != pixels(signed.overlay)).any()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((1, 7, 7)), "shape"),
        (np.full((7, 7), 2.0), "expected \\[0, 1\\]"),
        (np.full((7, 7), np.nan), "expected \\[0, 1\\]"),
    ],
)
def test_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        overlay.overlay(RED, mask)


def test_colours_are_those_of_matplotlib():
    """Its inferno from 0.3 on, to half a step of 8 bits."""
    values = np.linspace(0, 1, 256)
    expected = matplotlib.colormaps["inferno"](0.3 + 0.7 * values)[:, :3]
    np.testing.assert_allclose(overlay.colours(values), expected, atol=0.5001 / 255)


def test_boxes_are_drawn_where_they_are():
    picture = Image.new("RGB", (64, 32), "red")
    none = np.asarray([[0, 0, -1, -1]])
    found = overlay.framed(picture, (16, 8), np.asarray([[2, 1, 9, 6]]), none)
    pixels = np.asarray(found)
    # Four pixels of the image are one of the boxes; both ends are inside.
    changed = np.argwhere((pixels != (255, 0, 0)).any(-1))
    assert changed.min(0).tolist() == [4, 8] and changed.max(0).tolist() == [27, 39]
    assert pixels[4, 8].tolist() == [255, 255, 255]
    assert pixels[16, 24].tolist() == [255, 0, 0]
    other = np.asarray(
        overlay.framed(picture, (16, 8), none, np.asarray([[2, 1, 9, 6]]))
    )
    assert other[4, 8].tolist() == [0, 229, 255]
    assert np.asarray(picture).reshape(-1, 3).min(0).tolist() == [255, 0, 0]

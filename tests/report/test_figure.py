"""`show`: maps over pictures as one drawing."""

import io

import numpy as np
import pytest
from PIL import Image

import unlir_jax
from unlir_jax.report import overlay

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((2, 16, 24, 3), np.float32)
MAPS = {"grad_cam": RANDOM.random((2, 3, 4)), "mine": np.zeros((2, 1, 1))}


def opened(file):
    with Image.open(file) as image:
        return image.format, image.size


@pytest.fixture(scope="module")
def figure():
    return unlir_jax.show(IMAGES, MAPS, side=120, titles=("<a>", "b"))


def test_a_row_for_each_image_and_a_column_for_each_method(figure):
    # Margins of 12 around, gaps of 12, titles of 26, and 40 for the legend.
    assert figure.image.size == (24 + 3 * 120 + 2 * 12, 24 + 2 * (26 + 80) + 12 + 40)
    assert figure.text == "Grad-CAM and Mine on 2 images."
    wrapped = unlir_jax.show(IMAGES, MAPS, side=120, columns=2).image
    assert wrapped.size == (24 + 2 * 120 + 12, 24 + 4 * (26 + 80) + 3 * 12 + 40)


def test_panels_are_those_of_the_overlay(figure):
    picture = Image.fromarray(np.rint(IMAGES[1] * 255).astype(np.uint8))
    mask = overlay.masks(MAPS["grad_cam"][1:], (16, 24))[0]
    drawn = overlay.overlay(picture, mask)
    assert drawn.size == (24 * 28, 16 * 28)
    left, top = 12 + 120 + 12, 12 + 26 + 80 + 12 + 26
    shown = figure.image.crop((left, top, left + 120, top + 80))
    expected = drawn.resize((120, 80), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))


def test_notebooks_display_it(figure):
    assert opened(io.BytesIO(figure._repr_png_())) == ("PNG", figure.image.size)
    strange = figure._replace(text='"><script>')
    assert strange._repr_html_().startswith('<img src="data:image/png;base64,')
    assert "<script" not in strange._repr_html_()
    assert "Grad-CAM" in repr(figure)


def test_save_replaces_nothing_unless_asked(figure, tmp_path):
    file = figure.save(tmp_path / "a.png")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="exists; expected a new file"):
        figure.save(str(file))
    assert file.read_bytes() == before
    figure._replace(image=Image.new("RGB", (3, 3))).save(file, overwrite=True)
    assert opened(file) == ("PNG", (3, 3))
    assert opened(figure.save(tmp_path / "a.JPG")) == ("JPEG", figure.image.size)
    with pytest.raises(ValueError, match="'.gif'; expected one of .png"):
        figure.save(tmp_path / "a.gif")


def test_one_map_of_a_grey_image_by_itself():
    figure = unlir_jax.show(IMAGES[:1, ..., :1], MAPS["grad_cam"][:1])
    assert figure.text == "Map on 1 image."


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": IMAGES * 255}, "divide"),
        ({"images": IMAGES[..., :2]}, "1 or 3 channels"),
        ({"maps": {}}, "`maps` is empty"),
        ({"maps": MAPS["grad_cam"][:1]}, "each of the 2 images"),
        ({"titles": ["a"]}, "has 1 entries"),
        ({"side": 5}, "expected 96 to 2048"),
        ({"columns": 0}, "`columns`=0"),
    ],
)
def test_what_show_refuses(changed, message, unchecked):
    given = {"images": IMAGES, "maps": MAPS} | changed
    with pytest.raises(ValueError, match=message):
        unlir_jax.show(given.pop("images"), given.pop("maps"), **given)

"""Pictures of every kind become upright 8-bit RGB, or a sentence."""

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import preprocessing

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path, image, **settings):
    image.save(path, **settings)
    return np.asarray(preprocessing.read_image(path))


def test_colour_comes_back(tmp_path):
    for name in ("a.png", "a.bmp", "a.ppm", "a.tif"):
        shown = save(tmp_path / name, Image.fromarray(COLOUR))
        np.testing.assert_array_equal(shown, COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation):
    """A picture turned as its tag says must come back upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(COLOUR)
    stored = image.transpose(undo[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = save(tmp_path / "a.png", stored, exif=exif)
    np.testing.assert_array_equal(shown, COLOUR)


def test_sixteen_bit_grey(tmp_path):
    """65535 is white and 257 k is k; dark pictures are not brightened."""
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    shown = save(tmp_path / "a.png", Image.fromarray(values))
    np.testing.assert_array_equal(shown[..., 0], np.arange(256).reshape(16, 16))
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
    dark = save(tmp_path / "b.png", Image.fromarray((values // 257).astype(np.uint16)))
    assert dark.max() == 1
    tiff = save(tmp_path / "c.tif", Image.fromarray(values))
    np.testing.assert_array_equal(tiff[..., 0], np.arange(256).reshape(16, 16))


def test_grey_and_bilevel(tmp_path):
    grey = Image.fromarray(COLOUR[..., 0])
    shown = save(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(shown, np.repeat(COLOUR[..., :1], 3, axis=-1))
    bilevel = save(tmp_path / "b.png", grey.convert("1"))
    assert set(np.unique(bilevel)) == {0, 255}


def test_transparency_shows_white_paper(tmp_path):
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., 0], image[:2, :, 3], image[2, :, 3] = 200, 255, 51
    shown = save(tmp_path / "a.png", Image.fromarray(image))
    np.testing.assert_array_equal(shown[0, 0], [200, 0, 0])
    # A fifth of red (200, 0, 0) over white.
    np.testing.assert_allclose(shown[2, 0], [244, 204, 204], atol=1)
    np.testing.assert_array_equal(shown[3, 0], [255, 255, 255])


def test_transparent_grey_and_palette(tmp_path):
    grey = Image.merge("LA", [Image.new("L", (4, 4), 90), Image.new("L", (4, 4), 0)])
    assert (save(tmp_path / "a.png", grey) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    shown = save(tmp_path / "b.png", palette, transparency=0)
    np.testing.assert_array_equal(shown[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(shown[1, 1], [10, 20, 30])


def test_cmyk_and_webp(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    shown = save(tmp_path / "a.jpg", cmyk)
    np.testing.assert_allclose(shown[8, 8], [255, 0, 0], atol=6)
    webp = save(tmp_path / "a.webp", Image.fromarray(COLOUR), lossless=True)
    np.testing.assert_array_equal(webp, COLOUR)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    shown = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(shown[0, 0], [255, 0, 0])


def test_refused_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        preprocessing.read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        preprocessing.read_image(tmp_path)
    text = tmp_path / "text.jpg"
    text.write_text("Not an image.")
    empty = tmp_path / "empty.png"
    empty.touch()
    for suffix in ("jpg", "png", "webp", "tif"):
        whole = tmp_path / f"whole.{suffix}"
        noise = RANDOM.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(whole)
        data = whole.read_bytes()
        for share in (0.3, 0.9):
            torn = tmp_path / f"torn.{suffix}"
            torn.write_bytes(data[: int(share * len(data))])
            with pytest.raises(ValueError, match="cannot be read as an image"):
                preprocessing.read_image(torn)
    for path in (text, empty):
        with pytest.raises(ValueError, match="cannot be read as an image"):
            preprocessing.read_image(path)


def test_absurdly_large(tmp_path, monkeypatch):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr(preprocessing, "MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="at most 100"):
        preprocessing.read_image(tmp_path / "a.png")


def test_arrays():
    as_bytes = np.asarray(preprocessing.to_picture(COLOUR))
    np.testing.assert_array_equal(as_bytes, COLOUR)
    as_floats = np.asarray(preprocessing.to_picture(COLOUR / 255))
    np.testing.assert_array_equal(as_floats, COLOUR)
    grey = np.asarray(preprocessing.to_picture(COLOUR[..., :1]))
    np.testing.assert_array_equal(grey, np.repeat(COLOUR[..., :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((3, 4, 5, 3), np.uint8), ValueError, "shape"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, "shape"),
        (np.full((4, 4, 3), 2.0), ValueError, "outside"),
        (np.full((4, 4, 3), np.nan), ValueError, "outside"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "int64"),
        ([[0, 1]], TypeError, "list"),
    ],
)
def test_refused_arrays(picture, error, message, unchecked):
    with pytest.raises(error, match=message):
        preprocessing.to_picture(picture)


@pytest.mark.parametrize("size", [(500, 375), (30, 900), (900, 30), (1, 1), (224, 224)])
def test_framing(size):
    framed = preprocessing.framing(224, 0.875)(Image.new("RGB", size, (9, 8, 7)))
    assert framed.size == (224, 224)
    np.testing.assert_array_equal(np.unique(np.asarray(framed)), [7, 8, 9])


def test_framing_keeps_the_centre():
    """The middle 7/8 of the shorter side: a border of a sixteenth is cut away."""
    image = np.zeros((256, 384, 3), np.uint8)
    image[16:240, 80:304] = 255
    framed = np.asarray(preprocessing.framing(224, 0.875)(Image.fromarray(image)))
    assert (framed == 255).all()


def test_preprocessing_scales():
    array = preprocessing.preprocessing(32, 1.0)(COLOUR)
    assert array.shape == (32, 32, 3)
    assert array.dtype == np.float32
    assert 0 <= array.min() and array.max() <= 1


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match=r"`crop`=1.5"):
        preprocessing.framing(224, 1.5)


def test_imagenet_classes():
    names = preprocessing.imagenet_classes()
    assert len(names) == 1000
    assert (names[0], names[285], names[999]) == (
        "tench",
        "Egyptian cat",
        "toilet tissue",
    )

"""EXIF turns boxes, masks and keypoints with the photo, all eight ways.

What is right is what Pillow makes of pictures of the same box, point and mask.
"""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from unlir_jax.data import folder, geometry, orientation, preprocessing

WIDTH, HEIGHT = 31, 17
BOX = (3, 2, 12, 7)
POINT = (23, 11)
TURNED = range(1, 9)


def exif(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags


def stored():
    """Draw a picture whose every turn is another."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] = 255, 0, 0
    pixels[POINT[1], POINT[0]] = 0, 255, 0
    return pixels


def turned(pixels, value):
    """Let Pillow turn an array as EXIF says."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", exif=exif(value))
    return np.asarray(ImageOps.exif_transpose(Image.open(stream)))


def write(root, value, *, suffix=".png", seen=False, mask_exif=None):
    """Write a photo with its annotations, in stored pixels or in those people see."""
    for name in ("images", "masks"):
        (root / name).mkdir(exist_ok=True)
    image = Image.fromarray(stored())
    image.save(root / "images" / f"a{suffix}", exif=exif(value), **LOSSLESS[suffix])
    mask, x, y = (stored()[..., 0] > 127).astype(np.uint8), *POINT
    box, point = BOX, (x + 0.5, y + 0.5)
    if seen:
        upright = turned(stored(), value)
        mask = (upright[..., 0] > 127).astype(np.uint8)
        rows, columns = np.nonzero(mask)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        point = np.argwhere(upright[..., 1] > 127)[0][::-1] + 0.5
    tags = {"exif": exif(mask_exif)} if mask_exif else {}
    Image.fromarray(mask).save(root / "masks" / "a.png", **tags)
    numbers = ",".join(map(str, box))
    (root / "index.csv").write_text(f"name,x0,y0,x1,y1\na,{numbers}\n")
    numbers = ",".join(map(str, point))
    (root / "parts.csv").write_text(f"name,eye_x,eye_y\na,{numbers}\n")


LOSSLESS = {
    ".png": {},
    ".webp": {"lossless": True},
    ".tif": {},
    ".jpg": {"quality": 100, "subsampling": 0},
}


def check(example, value):
    """Hold all annotations to the pixels that Pillow has turned."""
    image = np.asarray(example["image"])
    upright = turned(stored(), value)
    assert np.abs(image.astype(int) - upright).max() <= 40  # JPEG's error.
    red, green = upright[..., 0] > 127, upright[..., 1] > 127
    np.testing.assert_array_equal(example["mask"], red)
    x0, y0, x1, y1 = example["boxes"][0].astype(int)
    inside = np.zeros_like(red)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(inside, red)
    ((row, column),) = np.argwhere(green)
    np.testing.assert_array_equal(example["keypoints"], [[column + 0.5, row + 0.5, 1]])


@pytest.mark.parametrize("value", TURNED)
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_places_in_stored_pixels_turn(tmp_path, value, suffix):
    write(tmp_path, value, suffix=suffix)
    check(folder.folder(tmp_path, "all").read(0), value)


@pytest.mark.parametrize("value", TURNED)
def test_places_in_the_seen_photo_stay(tmp_path, value):
    write(tmp_path, value, seen=True)
    check(folder.folder(tmp_path, "all", annotations="seen").read(0), value)


@pytest.mark.parametrize("value", TURNED)
def test_a_mask_that_says_how_it_is_turned_is_turned_so(tmp_path, value):
    """Whatever the setting, also where it says that it is upright."""
    for setting, seen, own in (
        ("stored", False, value),
        ("seen", False, value),
        ("stored", True, 1),
    ):
        write(tmp_path, value, seen=seen, mask_exif=own)
        for table in ("index.csv", "parts.csv"):
            (tmp_path / table).unlink()
        example = folder.folder(tmp_path, "all", annotations=setting).read(0)
        red = turned(stored(), value)[..., 0] > 127
        np.testing.assert_array_equal(example["mask"], red)


@pytest.mark.parametrize("value", TURNED)
def test_the_matrix_is_what_pillow_does(value):
    """Through the one function that moves all: a picture, a box and a point."""
    mask = (stored()[..., 0] > 127).astype(np.uint8)
    size = orientation.turned_size((WIDTH, HEIGHT), value)
    matrix = orientation.matrix(value, (WIDTH, HEIGHT))
    example = geometry.opened({"image": stored(), "mask": mask})
    moved = geometry.move(example, matrix, size)
    np.testing.assert_array_equal(moved["mask"], turned(mask, value))
    # Turned twice the other way, places are where they were.
    back = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[value]
    places = {
        "boxes": np.array([BOX], np.float32),
        "keypoints": np.array([[*POINT, 1], [0, 0, 0]], np.float32),
    }
    there = geometry.turn(places, value, (WIDTH, HEIGHT))
    again = geometry.turn(there, back, size)
    for name, expected in places.items():
        np.testing.assert_array_equal(again[name], expected)


def test_the_other_setting_is_named_where_it_would_fit(tmp_path):
    write(tmp_path, 6)
    inside = "9,20,15,30"  # Of 17 x 31 pixels that are seen, not of 31 x 17.
    (tmp_path / "index.csv").write_text(f"name,x0,y0,x1,y1\na,{inside}\n")
    source = folder.folder(tmp_path, "all")
    message = (
        "has 31 x 17 pixels as stored and the box 9, 20, 15, 30; .*`annotations`='seen'"
        ", 17 x 31 pixels, would fit: --config.data.options.annotations=seen"
    )
    with pytest.raises(ValueError, match=message):
        source.read(0)
    (tmp_path / "index.csv").write_text("name,x0,y0,x1,y1\na,3,2,40,40\n")
    with pytest.raises(ValueError, match="'seen', .* does not fit either"):
        folder.folder(tmp_path, "all").read(0)
    (tmp_path / "index.csv").unlink()
    (tmp_path / "parts.csv").write_text("name,eye_x,eye_y\na,5,30\n")
    with pytest.raises(ValueError, match="keypoint 'eye' at 5, 30.* would fit: --con"):
        folder.folder(tmp_path, "all").read(0)
    source = folder.folder(tmp_path, "all", annotations="seen")
    with pytest.raises(ValueError, match="has 31 x 17 pixels; expected 17 x 31 as its"):
        source.read(0)
    write(tmp_path, 6, seen=True)
    for table in ("index.csv", "parts.csv"):
        (tmp_path / table).unlink()
    message = "has 17 x 31 pixels; expected 31 x 17 as its image has stored .*'seen'"
    with pytest.raises(ValueError, match=message):
        folder.folder(tmp_path, "all").read(0)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_without_a_meaning_turn_nothing(tmp_path, value):
    write(tmp_path, value)
    check(folder.folder(tmp_path, "all").read(0), 1)


@pytest.mark.parametrize(
    "broken",
    [
        b"Exif\0\0garbage!",
        b"Exif\0\0",
        b"\0\1",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\2\0\0\0006\0\0\0\0\0\0\0",  # A text.
    ],
)
def test_broken_exif_turns_nothing(tmp_path, broken):
    for suffix in (".jpg", ".png", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.new("RGB", (6, 4), "red").save(path, exif=broken)
        assert preprocessing.read_turned(path)[1] == 1
        assert preprocessing.read_image(path).size == (6, 4)


@pytest.mark.parametrize("value", TURNED)
def test_a_pillow_image_turns_too(tmp_path, value):
    stored_pixels = stored()
    for suffix in (".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(stored_pixels).save(path, exif=exif(value))
        with Image.open(path) as image:
            shown = np.asarray(preprocessing.to_picture(image))
        np.testing.assert_array_equal(shown, turned(stored_pixels, value))


def test_avif_and_its_decoder(tmp_path):
    path = tmp_path / "a.avif"
    try:
        Image.fromarray(stored()).save(path, exif=exif(6), quality=100)
    except (KeyError, ValueError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    assert preprocessing.read_turned(path)[1] == 6
    assert preprocessing.read_image(path).size == (HEIGHT, WIDTH)

"""What a mask says, in whatever file it comes: objects, classes, void."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFilter, ImageOps

from unlir_jax.data import folder, masks, source

VOID = source.VOID
SIDE = 40
WHITE = 65535


def bands(*numbers, side=SIDE):
    """Make squares of these values side by side, 10 wide, on background."""
    values = np.zeros((side, side), np.uint16)
    for place, number in enumerate(numbers):
        values[5:25, 10 * place : 10 * place + 10] = number
    return values


def rimmed(number, void=255):
    """Draw an object in a rim that is not said, as Pascal VOC does."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[8:32, 8:32], values[10:30, 10:30] = void, number
    return values


def disc(scale=8):
    """Draw a disc whose edge is a ramp of at most `scale` ** 2 greys."""
    image = Image.new("L", (SIDE * scale, SIDE * scale))
    ImageDraw.Draw(image).ellipse([5 * scale] * 2 + [31 * scale] * 2, fill=255)
    return np.asarray(image.reduce(scale))


def save(path, values, mode="L", **options):
    values = np.asarray(values)
    if mode == "P":
        image = Image.fromarray(values.astype(np.uint8))
        # As colours of a data set have nothing to do with its numbers.
        image.putpalette([c for k in range(256) for c in (k, 255 - k, 7 * k % 256)])
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(values.astype(np.float32))
    elif mode == "1":
        image = Image.fromarray(values > 0)
    else:
        image = Image.fromarray(values.astype(np.uint8)).convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def read(path, size=(SIDE, SIDE), **options):
    mask = masks.read_mask(path, size, **options)
    assert mask.dtype == np.uint8
    return mask


CLEAR = {
    "nothing": (bands(0), bands(0)),
    "an object in white": (bands(255), bands(1)),
    "an object in any number": (bands(3), bands(3)),
    "an object in a large number": (bands(200), bands(200)),
    "an image that is one part": (np.full((SIDE, SIDE), 2), np.full((SIDE, SIDE), 2)),
    "parts": (bands(1, 2, 9), bands(1, 2, 9)),
    "classes above 127": (bands(12, 150), bands(12, 150)),
    "classes and void": (rimmed(15), rimmed(15)),
    "the first class and void": (rimmed(1), rimmed(1)),
    "a class above 127 and void": (rimmed(181), rimmed(181)),
    "two classes and void": (bands(9, 200, 255), bands(9, 200, VOID)),
    "a class that fills the image": (
        np.where(rimmed(7), 7, 255),
        np.where(rimmed(7), 7, 255),
    ),
}


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA", "I;16"])
@pytest.mark.parametrize("name", CLEAR)
def test_values_mean_the_same_in_every_kind_of_file(tmp_path, name, mode):
    stored, expected = CLEAR[name]
    path = save(tmp_path / "mask.png", stored, mode)
    np.testing.assert_array_equal(read(path), expected)


def test_one_bit_and_floating_point(tmp_path):
    path = save(tmp_path / "mask.png", bands(255), "1")
    np.testing.assert_array_equal(read(path), bands(1))
    np.testing.assert_array_equal(read(path, kind="classes"), bands(1))
    path = save(tmp_path / "mask.tiff", rimmed(15), "F")
    np.testing.assert_array_equal(read(path), rimmed(15))
    save(path, bands(1) / 3, "F")
    with pytest.raises(ValueError, match="no whole numbers from 0 to 65535"):
        read(path)


RAMPS = {
    "a smooth edge": disc(),
    "an edge of three greys": disc(2),
    "a blurred edge": np.asarray(
        Image.fromarray(disc()).filter(ImageFilter.GaussianBlur(3))
    ),
}


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_is_an_object_cut_at_its_middle(tmp_path, name, mode):
    path = save(tmp_path / "mask.png", RAMPS[name], mode)
    np.testing.assert_array_equal(read(path), RAMPS[name] > 127)
    with pytest.raises(ValueError, match="edge of an object has, but others are read"):
        read(path, told="classes")


def test_a_ramp_of_16_bits(tmp_path):
    path = save(tmp_path / "mask.png", disc().astype(np.uint16) * 257, "I;16")
    np.testing.assert_array_equal(read(path), disc() > 127)
    save(path, bands(WHITE), "I;16")
    np.testing.assert_array_equal(read(path), bands(1))
    save(path, np.where(rimmed(15) == 255, np.uint16(WHITE), rimmed(15)), "I;16")
    np.testing.assert_array_equal(read(path, ignore=WHITE), rimmed(15))


@pytest.mark.parametrize("quality", [20, 60, 90])
def test_ringing_of_jpeg_is_no_class(tmp_path, quality):
    true = bands(255, 0, 255) > 0
    lossy = save(tmp_path / "mask.jpg", 255 * true, quality=quality)
    with Image.open(lossy) as image:
        values = np.asarray(image)
    again = save(tmp_path / "mask.png", values)
    assert len(np.unique(values)) > 2
    for path in (lossy, again):
        mask = read(path)
        assert set(np.unique(mask)) == {0, 1} and (mask != true).mean() < 0.01
    np.testing.assert_array_equal(read(lossy), read(again))
    with pytest.raises(ValueError, match="is a JPEG, whose values are no numbers of"):
        read(lossy, kind="classes")


def test_a_faint_jpeg_is_asked_for(tmp_path):
    path = save(tmp_path / "mask.jpg", bands(100))
    for kind in ("auto", "object"):
        with pytest.raises(ValueError, match="is a JPEG up to 1.., which is not white"):
            read(path, kind=kind)


ASKED = {
    "all white": (
        np.full((SIDE, SIDE), 255),
        "255 may be an object or void; exp",
    ),
    "levels of agreement": (bands(51, 102, 204, 255), "may be levels or classes; exp"),
    "a trimap of mattes": (rimmed(255, 128), "0, 128 and 255, which may be levels or"),
    "no background": (bands(1) + 1, "1 and 2 and no background, which is 0"),
    "a trimap of pets": (bands(2, 1) + 1, "1, 2 and 3 and no background, which is 0"),
    "few greys": (
        np.where(np.eye(SIDE), 90, bands(255)),
        "an object's edge or classes",
    ),
    "a grey object": (np.where(np.eye(SIDE), 75, bands(150)), "an object's edge or cl"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_cannot_be_told_is_asked_for(tmp_path, name):
    stored, sentence = ASKED[name]
    path = save(tmp_path / "mask.png", stored)
    with pytest.raises(ValueError, match=sentence) as caught:
        read(path)
    assert "data.options.mask=object, classes or trimap" in str(caught.value)
    assert "data.options.ignore=" in str(caught.value) and "\n" not in str(caught.value)


SETTLED = [
    (np.full((SIDE, SIDE), 255), "object", 255, np.ones((SIDE, SIDE))),
    (np.full((SIDE, SIDE), 255), "classes", 255, np.full((SIDE, SIDE), VOID)),
    (bands(255), "object", 255, bands(1)),
    (bands(255), "classes", 255, bands(VOID)),
    (bands(255), "object", None, bands(1)),
    (bands(51, 102, 204, 255), "object", 255, bands(0, 0, 1, 1)),
    (rimmed(255, 128), "object", 128, rimmed(1)),
    (rimmed(255, 128), "auto", 128, rimmed(1)),
    (rimmed(15, 254), "auto", 254, rimmed(15)),
    (rimmed(15, 100), "classes", 100, rimmed(15)),
    (bands(7), "object", 255, bands(1)),
    (bands(1) + 1, "classes", 255, bands(1) + 1),
    (bands(3, 9), "classes", 0, np.where(bands(3, 9), bands(3, 9), VOID)),
    (bands(3, 9), "classes", None, bands(3, 9)),
    (bands(2, 1) + 1, "trimap", 255, np.asarray([9, 1, 0, VOID])[bands(2, 1) + 1]),
]


@pytest.mark.parametrize(("stored", "kind", "ignore", "expected"), SETTLED)
def test_settings_say_what_values_do_not(tmp_path, stored, kind, ignore, expected):
    path = save(tmp_path / "mask.png", stored)
    np.testing.assert_array_equal(read(path, kind=kind, ignore=ignore), expected)
    values = masks.part_values(stored, kind=kind, ignore=ignore)
    np.testing.assert_array_equal(values, expected)


REFUSED = [
    (
        rimmed(1),
        "object",
        255,
        "as classes have, but `mask` is 'object'; expect",
    ),
    (bands(1, 2), "object", None, "as classes have, but `mask` is 'object'; expected"),
    (
        bands(75, 255),
        "classes",
        None,
        "the class 255; expected classes up to 254, or `",
    ),
    (bands(75, 255), "classes", 0, "the class 255; expected classes up to 254, or `ig"),
    (bands(0, 1, 2), "trimap", 255, "values from 0 to 2; expected 1 for the object, 2"),
    (
        bands(1),
        "parts",
        255,
        "`mask`='parts' is unknown; expected one of .'auto', 'object'",
    ),
    (
        bands(1),
        "auto",
        -1,
        "`ignore`=-1; expected the value of void, 0 to 65535",
    ),
    (bands(1), "auto", 1.5, "`ignore`=1.5; expected the value of void"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("stored", "kind", "ignore", "sentence"), REFUSED)
def test_settings_that_the_values_contradict(tmp_path, stored, kind, ignore, sentence):
    path = save(tmp_path / "mask.png", stored)
    with pytest.raises(ValueError, match=sentence):
        read(path, kind=kind, ignore=ignore)


def test_wrong_masks(tmp_path):
    path = save(tmp_path / "mask.png", bands(1)[:20])
    with pytest.raises(ValueError, match="has 40 x 20 pixels; expected 20 x 40 as its"):
        read(path, (20, 40))
    with pytest.raises(
        FileNotFoundError, match="no.png' does not exist; expected an i"
    ):
        read(tmp_path / "no.png")
    cut = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 9, (SIDE, SIDE))
    cut.write_bytes(save(tmp_path / "noise.png", noise).read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut.png' cannot be read as an image"):
        read(cut)
    Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(path)
    with pytest.raises(ValueError, match="is coloured; expected grey values or a pal"):
        read(path)
    for values in (bands(999), bands(3, 999)):
        save(path, values, "I;16")
        with pytest.raises(ValueError, match="16 bits"):
            read(path)
        with pytest.raises(ValueError, match="the class 999; expected classes up to 2"):
            read(path, kind="classes")


def test_a_shape_in_the_transparency(tmp_path):
    """Everything is white, and what is shown is the object."""
    alpha = bands(255).astype(np.uint8)
    both = np.stack([np.full_like(alpha, 255), alpha], -1)
    path = tmp_path / "mask.png"
    Image.fromarray(both, "LA").save(path)
    with pytest.raises(ValueError, match="transparent where its values are above 0"):
        read(path)
    # Where both say the same, nothing is lost.
    Image.fromarray(np.stack([alpha, alpha], -1), "LA").save(path)
    np.testing.assert_array_equal(read(path), bands(1))


def test_a_palette_in_which_white_comes_first(tmp_path):
    """Encoders order palettes as they like: black is then 1."""
    path = tmp_path / "mask.png"
    for palette, fits in (([255] * 3 + [0] * 3, False), ([0] * 3 + [255] * 3, True)):
        image = Image.fromarray(bands(1).astype(np.uint8))
        image.putpalette(palette)
        image.save(path)
        if fits:
            np.testing.assert_array_equal(read(path), bands(1))
            continue
        with pytest.raises(ValueError, match="in which black is not number 0"):
            read(path)


def test_grey_of_four_bits(tmp_path):
    """Pillow multiplies its 16 levels by 17, which are then no numbers of classes."""

    def chunk(kind, data):
        checked = kind + data
        return (
            struct.pack(">I", len(data))
            + checked
            + struct.pack(">I", zlib.crc32(checked))
        )

    values = bands(1, 2, 15).astype(np.uint8)
    rows = values[:, ::2] << 4 | values[:, 1::2]
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 4, 0, 0, 0, 0)
    path = tmp_path / "mask.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(read(path, kind="classes"), values)
    with pytest.raises(ValueError, match="of less than 8 bits a pixel; expected"):
        read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_turns_with_its_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = rimmed(15)[:, :35]
    stored[12, 12] = 3
    plain = save(tmp_path / "plain.png", stored)
    own = save(tmp_path / "own.png", stored, exif=exif)
    with Image.open(own) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    size = expected.shape[::-1]
    np.testing.assert_array_equal(read(plain, size, orientation=orientation), expected)
    # Its own goes first.
    np.testing.assert_array_equal(read(own, size, orientation=1), expected)


def data_set(tmp_path, *stored, root="data"):
    root = tmp_path / root
    for number, values in enumerate(stored):
        size = np.asarray(values).shape[::-1]
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / "images" / f"{number:02}.png")
        save(root / "masks" / f"{number:02}.png", values)
    return root


def found(root, **options):
    opened = folder.folder(root, "all", **options)
    return [opened.read(index)["mask"] for index in range(opened.size)]


def test_a_data_set_has_one_convention(tmp_path):
    """What 255 beside 0 alone means, the other masks tell."""
    lone, full = bands(255), np.full((SIDE, SIDE), 255)
    root = data_set(tmp_path, rimmed(15), rimmed(3), lone, bands(4))
    for mask, expected in zip(
        found(root), (rimmed(15), rimmed(3), bands(VOID), bands(4)), strict=True
    ):
        np.testing.assert_array_equal(mask, expected)
    root = data_set(tmp_path, lone, full, bands(0), root="objects")
    for mask, expected in zip(found(root), (bands(1), full > 0, bands(0)), strict=True):
        np.testing.assert_array_equal(mask, expected)
    root = data_set(tmp_path, disc(), bands(3), root="ramps")
    np.testing.assert_array_equal(found(root)[1], bands(1))


CONTRADICTIONS = {
    "a ramp and classes": (
        (disc(), rimmed(15)),
        "00.png' .* object has, but mask",
    ),
    "mostly white": (
        (bands(255), bands(0, 255), rimmed(15)),
        "void, but mask .*02",
    ),
    "white and a number": (
        (bands(255), bands(1)),
        "an object or void, but mask",
    ),
    "white alone": ((np.full((9, 9), 255),) * 2, "has the values 255, and 255 may be"),
    "trimaps": ((bands(2, 1) + 1,) * 2, "1, 2 and 3 and no background"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_data_sets_that_leave_open_what_they_are_are_refused(tmp_path, name):
    stored, sentence = CONTRADICTIONS[name]
    root = data_set(tmp_path, *stored)
    with pytest.raises(ValueError, match=sentence) as caught:
        folder.folder(root, "all")
    assert str(caught.value).startswith("Mask ")
    assert "data.options.mask=" in str(caught.value)


def test_a_mask_that_was_not_looked_at_cannot_turn_the_meaning(tmp_path):
    many = [bands(255)] * masks.LOOKED_AT + [rimmed(15)]
    opened = folder.folder(data_set(tmp_path, *many), "all")
    np.testing.assert_array_equal(opened.read(3)["mask"], bands(1))
    with pytest.raises(ValueError, match=r"16.png' .* but others are read as `mask`"):
        opened.read(masks.LOOKED_AT)


def test_settings_of_a_folder(tmp_path):
    root = data_set(tmp_path, bands(2, 1) + 1)
    (mask,) = found(root, mask="trimap")
    np.testing.assert_array_equal(mask, np.asarray([9, 1, 0, VOID])[bands(2, 1) + 1])
    root = data_set(tmp_path, rimmed(15, 100), root="classes")
    (mask,) = found(root, mask="classes", ignore=100)
    np.testing.assert_array_equal(mask, rimmed(15))


def test_salient_objects_are_objects(shared):
    """Every one of 300, as the greys of its file say."""
    root = shared / "data/ecssd"
    opened = folder.folder(root, "all")
    for index in range(0, opened.size, 10):
        stem = opened.name(index).split("/")[-1].split(".")[0]
        with Image.open(root / "masks" / f"{stem}.png") as image:
            true = np.asarray(image.convert("L")) > 127
        np.testing.assert_array_equal(opened.read(index)["mask"], true)

"""Bit depth: white is a value of the file's type, not of the picture."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import folder, levels, preprocessing

LEVELS = np.arange(256).reshape(16, 16)


def tiff(values, bits, kind, packed=None):
    """Write an uncompressed grey TIFF; kind 1 unsigned, 2 signed, 3 floating point."""
    data = values.tobytes() if packed is None else packed
    rows, columns = values.shape
    tags = (
        *((256, 3, columns), (257, 3, rows), (258, 3, bits), (259, 3, 1), (262, 3, 1)),
        *(
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, rows),
            (279, 4, len(data)),
            (339, 3, kind),
        ),
    )
    entries = b"".join(
        struct.pack("<HHI", tag, width, 1)
        + (struct.pack("<HH", value, 0) if width == 3 else struct.pack("<I", value))
        for tag, width, value in tags
    )
    end = struct.pack("<I", 0)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + end


def twelve_bits():
    """Pack two values into three bytes, as cameras do."""
    values = np.round(LEVELS * (4095 / 255)).astype(int)
    packed = bytearray()
    for a, b in values.reshape(-1, 2):
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    return tiff(values, 12, 1, bytes(packed))


def saved(values, suffix):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, suffix)
    return stream.getvalue()


def pgm(top, plain=False):
    values = np.round(LEVELS * (top / 255)).astype(int)
    if plain:
        return b"P2 16 16 %d\n" % top + " ".join(map(str, values.ravel())).encode()
    return (
        b"P5 16 16 %d\n" % top + values.astype(">u2" if top > 255 else "u1").tobytes()
    )


SAME = {
    "bytes.png": saved(LEVELS.astype(np.uint8), "PNG"),
    "sixteen.png": saved((LEVELS * 257).astype(np.uint16), "PNG"),
    "sixteen.tif": saved((LEVELS * 257).astype(np.uint16), "TIFF"),
    "twelve.tif": twelve_bits(),
    "unsigned.tif": tiff(LEVELS.astype("<u4"), 32, 1),
    "signed.tif": tiff(LEVELS.astype("<i4"), 32, 2),
    "signed_short.tif": tiff(LEVELS.astype("<i2"), 16, 2),
    "floating.tif": tiff(LEVELS.astype("<f4"), 32, 3),
    "ten.pgm": pgm(1023),
    "twelve.pgm": pgm(4095, plain=True),
    "sixteen.pgm": pgm(65535),
    "odd.pgm": pgm(1020),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_levels_look_the_same(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SAME[name])
    shown = np.asarray(preprocessing.read_image(path))
    np.testing.assert_array_equal(shown, np.repeat(LEVELS[..., None], 3, axis=-1))


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<f4"])
def test_a_dark_picture_stays_dark(tmp_path, kind):
    """A pixel has the level that it has beside a white one."""
    bits, form = {"<u2": (16, 1), "<i4": (32, 2), "<f4": (32, 3)}[kind]
    scale = 257 if kind == "<u2" else 1
    dark, bright = np.full((4, 4), 9), np.full((4, 4), 9)
    bright[0, 0] = 255
    for name, values in (("dark", dark), ("bright", bright)):
        data = tiff((values * scale).astype(kind), bits, form)
        (tmp_path / f"{name}.tif").write_bytes(data)
        shown = np.asarray(preprocessing.read_image(tmp_path / f"{name}.tif"))
        assert shown[3, 3].tolist() == [9, 9, 9]
    brightest = preprocessing.read_image(tmp_path / "dark.tif", white_level="maximum")
    assert (np.asarray(brightest) == 255).all()


def floats(path, values):
    path.write_bytes(tiff(np.asarray(values, "<f4").reshape(1, -1), 32, 3))
    return path


def test_shares_of_white_are_asked_for(tmp_path):
    path = floats(tmp_path / "a.tif", [0, 0.2, 0.6])
    with pytest.raises(
        ValueError, match=r"floating point from 0 to 0.6, .*_level`=1 o"
    ):
        preprocessing.read_image(path)
    for white, expected in ((1, [0, 51, 153]), ("1", [0, 51, 153]), (255, [0, 0, 1])):
        shown = preprocessing.read_image(path, white_level=white)
        assert np.asarray(shown)[0, :, 0].tolist() == expected
    # Black is black under any scale.
    assert not np.asarray(preprocessing.read_image(floats(path, [0, 0]))).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, np.nan], "not finite"),
        ([1, np.inf], "not finite"),
        ([-3, 9], "floating point from -3 to 9, but white is 255"),
        (
            [0, 4000],
            "from 0 to 4000, but white is 255; .*--config.data.options.white_l",
        ),
    ],
)
def test_refused_values(tmp_path, values, message):
    path = floats(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=message) as caught:
        preprocessing.read_image(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_integers_above_255_are_asked_for(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(np.array([[0, 512, 1023]], "<i4"), 32, 2))
    with pytest.raises(ValueError, match="integers from 0 to 1023, but white is 255"):
        preprocessing.read_image(path)
    with pytest.raises(ValueError, match="--config.data.white_level"):
        preprocessing.read_image(path)
    shown = preprocessing.read_image(path, white_level=1023)
    assert np.asarray(shown)[0, :, 0].tolist() == [0, 128, 255]
    path.write_bytes(tiff(np.array([[-1, 7]], "<i4"), 32, 2))
    with pytest.raises(ValueError, match="integers from -1 to 7"):
        preprocessing.read_image(path)


@pytest.mark.parametrize("white", [0, -1, np.nan, "bright", "inf"])
def test_white_levels_that_are_none(white):
    with pytest.raises(ValueError, match="`white_level`=.*expected a number above 0"):
        levels.check_white_level(white)


def test_twelve_bits_in_sixteen(tmp_path):
    """Only the person knows that a camera leaves four bits empty."""
    (tmp_path / "x").mkdir()
    values = np.array([[0, 2048, 4095]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x" / "a.png")
    by_type, told = (
        folder.folder(tmp_path, "all", white_level=white) for white in ("auto", "4095")
    )
    assert np.asarray(by_type.read(0)["image"])[0, :, 0].tolist() == [0, 8, 16]
    assert np.asarray(told.read(0)["image"])[0, :, 0].tolist() == [0, 128, 255]
    # Features of the one are not those of the other.
    assert by_type.fingerprint() != told.fingerprint()
    with pytest.raises(ValueError, match="`white_level`='dark'"):
        folder.folder(tmp_path, "all", white_level="dark")


def test_sixteen_bits_of_colour_and_of_nothing(tmp_path):
    """Pillow keeps the upper 8 bits of colours; one grey value may mean nothing."""
    values = (LEVELS[:1] * 257).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG", transparency=257 * 3)
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    shown = np.asarray(preprocessing.read_image(tmp_path / "a.png"))
    expected = np.where(LEVELS[0] == 3, 255, LEVELS[0])
    np.testing.assert_array_equal(shown[0, :, 0], expected)
    rows = b"".join(
        b"\0" + np.repeat(row * 257 + 200, 3).astype(">u2").tobytes()
        for row in LEVELS[:2]
    )
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 16, 2, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part))
        + name
        + part
        + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    )
    (tmp_path / "a.png").write_bytes(data)
    shown = np.asarray(preprocessing.read_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(
        shown[..., 1], LEVELS[:2] + (LEVELS[:2] % 256 + 200 > 255)
    )


def test_pillow_images_of_many_bits():
    """Who no longer knows its file counts by its type."""
    image = Image.fromarray(LEVELS.astype(np.int32))
    np.testing.assert_array_equal(
        np.asarray(preprocessing.to_picture(image))[..., 0], LEVELS
    )
    opened = Image.open(io.BytesIO(pgm(4095)))
    np.testing.assert_array_equal(
        np.asarray(preprocessing.to_picture(opened))[..., 0], LEVELS
    )
    stretched = Image.fromarray(np.asarray(opened))
    with pytest.raises(ValueError, match="integers from 0 to 65535, but white is 255"):
        preprocessing.to_picture(stretched)

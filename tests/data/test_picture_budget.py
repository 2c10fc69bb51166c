"""What reading a picture takes follows from the size of its file."""

import io
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import (
    augmentation,
    budget,
    decoding,
    levels,
    orientation,
    pipeline,
    preprocessing,
    resizing,
    source,
    strips,
)

RANDOM = np.random.default_rng(0)
SMALL = budget.Budget(0)
NONE = budget.Budget(-(budget.FREE // budget.RATIO))


def noise(*shape):
    return Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8))


def turned(number):
    exif = Image.Exif()
    exif[274] = number
    return exif


def flat(path, mode="RGB", size=(3700, 3700), **options):
    Image.new(mode, size, 7 if len(mode) == 1 else None).save(path, **options)


READ = """
    import resource, sys
    from PIL import Image
    import numpy as np
    from unlir_jax.data import augmentation, preprocessing

    Image.init()
    frame = preprocessing.framing(64, 0.875)
    changes = [augmentation.evaluation(64, 0.875), augmentation.build("resize", 64)]
    changes += [augmentation.build("random_resized_crop|flip", 64)]
    random = np.random.default_rng(0)

    def read(path):
        frame(path)
        image = preprocessing.read_image(path)
        for change in changes:
            change({"image": image, "label": 0}, random)

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    read(sys.argv[1])
    before = peak()
    for path in sys.argv[2:]:
        try:
            read(path)
        except ValueError as error:
            assert "UNLIR_JAX_MOST_PIXELS=" in str(error), error
        print(path, peak() - before)
"""


@pytest.mark.process
def test_small_files_take_little_memory(tmp_path):
    """Every kind of conversion, just within its budget or beyond; narrow pictures."""
    noise(30, 30, 3).save(tmp_path / "first.png")
    flat(tmp_path / "rgb.png")
    flat(tmp_path / "turned.jpg", exif=turned(6))
    flat(tmp_path / "alpha.png", "RGBA")
    flat(tmp_path / "grey.tif", "F", compression="tiff_lzw")
    flat(tmp_path / "sixteen.png", "I;16")
    flat(tmp_path / "progressive.jpg", size=(2600, 2600), progressive=True)
    flat(tmp_path / "lossless.webp", size=(1800, 1800), lossless=True)
    flat(tmp_path / "bits.tif", "1", (12_000, 12_000), compression="group4")
    for length in (2_000, 20_000, 60_000, 500_000):
        flat(tmp_path / f"high{length}.png", "L", (1, length))
        flat(tmp_path / f"wide{length}.png", "L", (length, 1))
    flat(tmp_path / "rows.tif", "I;16", (4, 1 << 20), compression="tiff_lzw")
    files = sorted(path for path in tmp_path.iterdir() if path.stem != "first")
    command = [sys.executable, "-c", textwrap.dedent(READ), tmp_path / "first.png"]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert len(lines) == len(files)
    most = max(path.stat().st_size for path in files)
    assert most < 800_000
    for name, peak in lines:
        assert int(peak) <= (64 << 20) + 8 * most, (name, int(peak))


def test_what_is_refused_says_what_decides(tmp_path, monkeypatch):
    flat(tmp_path / "a.png", size=(5000, 4000))
    message = (
        r"Image '.*a\.png' of [\d,]+ bytes has 5000 x 4000 = 20,000,000 pixels, which "
        "take 80 MB; expected at most 8 times its bytes and 64 MB, or UNLIR_JAX_MOST_"
        r"PIXELS=20000000 in the environment \(200,000,000 where nothing is set\)"
    )
    with pytest.raises(ValueError, match=message):
        preprocessing.read_image(tmp_path / "a.png")
    monkeypatch.setenv(decoding.SETTING, "20000000")
    assert preprocessing.read_image(tmp_path / "a.png").size == (5000, 4000)


def test_ordinary_photos_are_read(tmp_path):
    """Twelve megapixels in 3 MB, upright or not, and 24 in 8."""
    for name, size, exif in (
        ("a", (4032, 3024), turned(6)),
        ("b", (4032, 3024), turned(1)),
        ("c", (6000, 4000), turned(8)),
    ):
        path = tmp_path / f"{name}.jpg"
        Image.new("RGB", size).save(path, exif=exif)
        with path.open("ab") as stream:
            stream.write(bytes(size[0] * size[1] // 4))
        width, height = preprocessing.read_image(path).size
        assert (width > height) == (name == "b")


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
@pytest.mark.parametrize("room", [SMALL, NONE])
def test_turned_by_strips(monkeypatch, number, mode, room):
    monkeypatch.setattr(strips, "STRIP", 100)
    image = noise(37, 23, 4).convert("RGB").convert(mode)
    expected = orientation.upright(image, number)
    found = strips.upright(image, number, room)
    assert (found.mode, found.size) == (expected.mode, expected.size)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "I", "F", "1"])
@pytest.mark.parametrize("room", [SMALL, NONE])
def test_converted_by_strips(monkeypatch, mode, room):
    def image():
        made = Image.merge("RGBA", [band.copy() for band in bands])
        return made.convert("L").convert(mode) if mode in "IF1" else made.convert(mode)

    bands = noise(37, 23, 4).split()
    whole = levels.to_rgb(image())
    monkeypatch.setattr(strips, "STRIP", 100)
    found = levels.to_rgb(image(), budget=room)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(whole))


@pytest.mark.parametrize("size", [(5, 400), (400, 5), (3, 3000), (3000, 3), (1, 900)])
@pytest.mark.parametrize("how", preprocessing.INTERPOLATIONS)
def test_cut_before_it_is_enlarged(monkeypatch, size, how):
    """What is seen is the same, but for the roundings between Pillow's two passes."""
    # Of middling values, as what overshoots is cut off between the passes.
    image = noise(size[1], size[0], 3).point([64 + v // 2 for v in range(256)] * 3)
    resampling = preprocessing.INTERPOLATIONS[how]
    target = preprocessing.framed_size(size[0], size[1], 28, 0.875)
    left, top = (round((side - 28) / 2) for side in target)
    whole = image.resize(target, resampling).crop((left, top, left + 28, top + 28))
    monkeypatch.setattr(resizing, "FEW", 1)
    found = preprocessing.framing(28, 0.875, how)(image)
    change = augmentation.evaluation(28, 0.875, how)
    other = change({"image": image, "label": 0}, np.random.default_rng(0))["image"]
    difference = np.abs(np.asarray(found, int) - np.asarray(whole, int))
    # Where the nearest pixel is a tie, either is right.
    assert np.quantile(difference, 0.98) <= (2 if how != "nearest" else 0)
    np.testing.assert_array_equal(np.asarray(found), other)


def test_what_belongs_to_a_narrow_picture_follows_it(monkeypatch):
    example = {"image": noise(400, 5, 3), "label": 0}
    example |= {"mask": RANDOM.integers(0, 9, (400, 5)).astype(np.uint8)}
    example |= {"boxes": np.array([[1, 190, 4, 205]], np.float32)}
    example |= {"keypoints": np.array([[2, 199, 1]], np.float32)}
    change = augmentation.evaluation(28, 0.875)
    whole = change(example, np.random.default_rng(0))
    monkeypatch.setattr(resizing, "FEW", 1)
    found = change(example, np.random.default_rng(0))
    for name in ("boxes", "keypoints"):
        np.testing.assert_allclose(found[name], whole[name], atol=1e-3)
    assert (found["mask"] == whole["mask"]).mean() > 0.98


def chunk(kind, data):
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def test_what_is_unpacked_at_opening(tmp_path):
    """Texts of PNG; a PNG in an icon that is larger than the icon says."""
    stream = io.BytesIO()
    noise(8, 8, 3).save(stream, "PNG")
    png = stream.getvalue()
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000)))
    (tmp_path / "a.png").write_bytes(png[:33] + text * 40 + png[33:])
    with pytest.raises(ValueError, match=r"a\.png' holds 40 compressed texts"):
        preprocessing.read_image(tmp_path / "a.png")
    large = io.BytesIO()
    Image.new("1", (9000, 9000)).save(large, "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, large.tell(), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + large.getvalue()
    (tmp_path / "a.ico").write_bytes(icon)
    with pytest.raises(ValueError, match=r"a\.ico' of .* has 9000 x 9000"):
        preprocessing.read_image(tmp_path / "a.ico")


def test_programs_are_no_pictures(tmp_path):
    noise(8, 8, 3).save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match="it is EPS, which is not read"):
        preprocessing.read_image(tmp_path / "a.eps")


ERRORS = [RuntimeError("x"), NotImplementedError(), MemoryError(), struct.error("x")]
ERRORS += [ValueError("bad"), RecursionError(), ZeroDivisionError(), AssertionError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_picture_never_stops_a_job(tmp_path, monkeypatch, error):
    noise(20, 20, 3).save(tmp_path / "good.png")
    noise(20, 20, 3).save(tmp_path / "bad.gif")

    def broken(self):
        raise error

    def read(index):
        path = tmp_path / ("good.png", "bad.gif")[index]
        return {"image": preprocessing.read_image(path), "label": 0}

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.load_prepare", broken)
    of = source.Source(read, 2, ("a",), str)
    settings = {"batch_size": 2, "image_size": 16, "crop": 1.0, "threads": 1}
    (batch,) = pipeline.evaluation(of, **settings)
    assert batch["weight"].tolist() == [1, 0]
    message = r"bad\.gif' cannot be read as an image \(\w+"
    with pytest.raises(ValueError, match=message):
        read(1)

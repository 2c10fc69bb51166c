"""One limit of pixels, and files whose decoder or suffix is missing."""

import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import decoding, folder, image_files, preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".ppm", ".jp2", ".tga")


def picture(path):
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("limit", [500, 299, 100])
def test_the_limit_of_pillow_is_not_ours(tmp_path, monkeypatch, suffix, limit):
    """600 pixels: above Pillow's limit, twice and six times above it."""
    expected = np.asarray(preprocessing.read_image(picture(tmp_path / f"a{suffix}")))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = preprocessing.read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.asarray(found), expected)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("limit", [100, 5000, None])
def test_our_limit_is_in_our_words(tmp_path, monkeypatch, suffix, limit):
    path = picture(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(preprocessing, "MOST_PIXELS", 599)
    message = (
        r"a\.\w+' has 30 x 20 = 600 pixels; expected at most 599, or "
        "UNLIR_JAX_MOST_PIXELS=600 in the environment."
    )
    with pytest.raises(ValueError, match=message):
        preprocessing.read_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv(decoding.SETTING, "600")
    assert preprocessing.read_image(path).size == (30, 20)
    monkeypatch.setenv(decoding.SETTING, "many")
    with pytest.raises(ValueError, match="UNLIR_JAX_MOST_PIXELS='many' in the envir"):
        preprocessing.read_image(path)


def test_far_above_both_limits(tmp_path, monkeypatch):
    """WebP's plugin asks for Pillow's limit before it tells its size."""
    path = picture(tmp_path / "a.webp")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    monkeypatch.setattr(preprocessing, "MOST_PIXELS", 100)
    message = r"has (30 x 20|more than twice as many pixels as 100).*UNLIR_JAX_MOST_PIX"
    with pytest.raises(ValueError, match=message):
        preprocessing.read_image(path)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_threads_put_the_limit_back(tmp_path, monkeypatch):
    paths = [picture(tmp_path / f"a{suffix}") for suffix in SUFFIXES * 4]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    faults = []

    def read():
        for path in paths:
            try:
                preprocessing.read_image(path)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and Image.MAX_IMAGE_PIXELS == 100


def test_a_small_picture_leaves_the_limit_alone(tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png")
    seen = []
    monkeypatch.setattr(
        decoding.levels, "white_of", lambda image: seen.append(Image.MAX_IMAGE_PIXELS)
    )
    limit = Image.MAX_IMAGE_PIXELS
    preprocessing.read_image(path)
    assert seen == [limit] and limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "it is HEIC, which Pillow .* converted",
        ),
        (b"\xff\x0a\0\0", "it is JPEG XL, which Pillow"),
        (b"nothing at all", "no known format"),
    ],
)
def test_formats_that_cannot_be_read(tmp_path, data, message):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"cannot be read as an image .*{message}"):
        preprocessing.read_image(path)


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.avif"
    path.write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avif")
    without = {k: v for k, v in Image.OPEN.items() if k != "AVIF"}
    monkeypatch.setattr(Image, "OPEN", without)
    monkeypatch.setattr(Image, "ID", list(without))
    monkeypatch.setattr(Image, "init", lambda: False)
    monkeypatch.setattr(Image, "preinit", lambda: None)
    with pytest.raises(ValueError, match="it is AVIF, which Pillow .* a newer Pillow"):
        preprocessing.read_image(path)


@pytest.mark.parametrize(
    "suffix", "avif AVIF jfif jpe JPEG mpo jp2 j2k pbm pnm tga webp tiff".split()
)
def test_suffixes_of_pictures(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").touch()
    assert len(image_files.find_pictures([str(tmp_path)]).files) == 1


@pytest.mark.parametrize("suffix", ["jfif", "jpe"])
def test_other_names_of_jpeg(tmp_path, suffix):
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", "JPEG")
    source = folder.folder(tmp_path, "all")
    assert source.read(0)["image"].size == (30, 20)


def test_files_left_out_are_counted_once(tmp_path):
    picture(tmp_path / "a.png")
    for name in (
        "b.HEIC",
        "c.heic",
        "d.mov",
        "e",
        "README",
        "f.csv",
        "g.txt",
        ".h.raw",
    ):
        (tmp_path / name).touch()
    words = r"4 files .* left out, .*: \.heic \(2\), \.mov \(1\), none \(1\); images"
    with pytest.warns(UserWarning, match=words) as caught:
        found = image_files.find_pictures([str(tmp_path)])
    assert len(caught) == 1 and len(found.files) == 1
    with pytest.warns(UserWarning, match=words) as caught:
        source = folder.folder(tmp_path, "all")
    assert len(caught) == 1 and source.notices == (str(caught[0].message),)


def test_usual_company_is_no_news(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("index.csv.txt", "notes.md", "a.xml", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).touch()
    (tmp_path / "masks").mkdir()
    picture(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "odd.raw").touch()
    assert folder.folder(tmp_path, "all").notices == ()


def test_files_left_out_of_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "x").mkdir(parents=True)
        picture(tmp_path / split / "x" / "a.png")
    (tmp_path / "test" / "x" / "b.heic").touch()
    assert folder.folder(tmp_path, "train").notices == ()
    with pytest.warns(UserWarning, match=r"1 file .* left out, .*\.heic \(1\)"):
        folder.folder(tmp_path, "test")


def test_broken_files_of_every_format_are_refused(tmp_path):
    """Pillow's plugins break in many ways: AVIF's raises RuntimeError."""
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "AVIF", "JPEG2000"):
        stream = io.BytesIO()
        try:
            Image.fromarray(PIXELS).save(stream, kind)
        except (KeyError, ValueError, OSError):
            continue  # This Pillow cannot write it.
        for _ in range(40):
            data = bytearray(stream.getvalue())
            for place in random.integers(0, min(len(data), 300), 4):
                data[place] = random.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    preprocessing.decode_bytes(bytes(data), "Image 'x'")
                except ValueError as error:
                    assert "Image 'x'" in str(error)

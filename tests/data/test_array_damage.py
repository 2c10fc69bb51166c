"""Arrays and tables that claim much, or are damaged: a sentence that names the file."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import arrays, folder


def header(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.encode() + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


def array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


GOOD = array(np.zeros((4, 6, 6), np.uint8))
LABELS = array(np.array([0, 1, 0, 1]))


def written(path, images=GOOD, labels=LABELS):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", images)
        file.writestr("labels.npy", labels)
    return path


@pytest.mark.parametrize(
    "images",
    [
        b"",
        GOOD[:40],
        GOOD[:-1],
        header((2**40, 6, 6)),
        header((2**62, 6, 6)),
        header((-4, 6, 6)),
        header("(" * 90),
        header((4, 6, 6), "|O") + b"\x80\x04cos\nsystem\n.",
        b"\x93NUMPY\x09\0",
    ],
)
@pytest.mark.parametrize("which", ["images", "labels"])
def test_damaged_arrays(tmp_path, images, which):
    path = written(tmp_path / "a.npz", **{which: images})
    with pytest.raises(ValueError, match=r"a\.npz"):
        arrays.npz(path, "all")


@pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY", b"\x80\x04."])
def test_damaged_files(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.npz' cannot be read"):
        arrays.npz(tmp_path / "a.npz", "all")


def test_every_byte_of_a_file(tmp_path):
    data = written(tmp_path / "a.npz").read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        (tmp_path / "a.npz").write_bytes(changed)
        try:
            arrays.npz(tmp_path / "a.npz", "all")
        except ValueError as error:
            assert "a.npz" in str(error)


def test_arrays_far_larger_than_their_file(tmp_path):
    path = written(tmp_path / "a.npz", header((10_000, 100, 100)) + bytes(10**8))
    with pytest.raises(ValueError, match=r"bytes holds arrays of 100,000,\d+"):
        arrays.npz(path, "all")


def test_floating_point_is_rounded_as_ever(tmp_path):
    values = np.random.default_rng(0).random((4, 6, 6, 3), np.float32)
    path = written(tmp_path / "a.npz", array(values))
    read = arrays.npz(path, "all").read
    found = np.stack([read(index)["image"] for index in range(4)])
    np.testing.assert_array_equal(found, np.round(values * 255).astype(np.uint8))


def test_a_fingerprint_of_what_is_in_the_file(tmp_path):
    one = arrays.npz(written(tmp_path / "a.npz"), "all")
    again = arrays.npz(written(tmp_path / "b.npz"), "all")
    other = arrays.npz(
        written(tmp_path / "c.npz", array(np.ones((4, 6, 6), np.uint8))), "all"
    )
    assert one.fingerprint is not None and again.fingerprint is not None
    assert other.fingerprint is not None
    assert one.fingerprint() == again.fingerprint(times=False) != other.fingerprint()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\n" + "a\n" * 300_000, "has more than .* rows, but only 600,005 bytes"),
        ("path\n" + "a" * 200_000, "field larger than field limit"),
        ("path\n\0\n", "index.csv"),
        (",".join(["a"] * 50_000), "has two columns 'a'"),
    ],
)
def test_tables_that_claim_much(tmp_path, text, message):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        folder.folder(tmp_path, "all")

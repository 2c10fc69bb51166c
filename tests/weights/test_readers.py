import errno
import hashlib
import io
import json
import os
import pathlib
import random
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from unlir_jax.weights import budget, readers

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torch_files"
DTYPES = (
    "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool "
    "complex64"
).split()


def example():
    arrays = {
        name: (np.arange(6).reshape(2, 3) % 2).astype(name) for name in DTYPES
    } | {
        "bfloat16": np.linspace(-1, 1, 6).astype(ml_dtypes.bfloat16).reshape(2, 3),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    return arrays


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype, name
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == np.asarray(expected[name], order="C").tobytes(), name
        assert array.flags.c_contiguous and array.flags.writeable, name


def npz_of(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(array, **changes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    data = stream.getvalue()
    for old, new in changes.values():
        assert old in data and len(old) == len(new)
        data = data.replace(old, new)
    return data


def safetensors_of(path, header: dict | bytes, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_the_content_decides_and_not_the_name(tmp_path):
    arrays = {"w": np.arange(3.0), "b": np.zeros((2, 2), np.float16)}
    readers.write_safetensors(tmp_path / "a.npz", arrays)
    np.savez(tmp_path / "b.npz", **arrays)
    (tmp_path / "b.npz").rename(tmp_path / "b.pth")
    assert_same(readers.read(tmp_path / "a.npz"), arrays)
    assert_same(readers.read(str(tmp_path / "b.pth")), arrays)
    for layout in ("zip", "legacy"):
        copy = tmp_path / f"{layout}.safetensors"
        copy.write_bytes((GOLDEN / f"plain_{layout}.pth").read_bytes())
        assert len(readers.read(copy)) == 15


def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    readers.write_safetensors(path, example(), {"network": "tiny", "é": "ü"})
    assert_same(readers.read(path), example())
    assert readers.read_metadata(path) == {"network": "tiny", "é": "ü"}


@pytest.mark.parametrize("length", range(112, 145))
def test_safetensors_of_any_header_length(tmp_path, length):
    """A header of 128 bytes begins the file with the byte that begins a pickle."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    path = safetensors_of(tmp_path / "w", header.ljust(length).encode(), b"\x05")
    assert_same(readers.read(path), {"w": np.array([5], np.uint8)})


def test_writing_takes_any_layout_and_byte_order(tmp_path):
    base = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "transposed": base.T,
        "reversed": base[::-1],
        "big": base.astype(">f4"),
        "fortran": np.asfortranarray(base),
        "number": np.float32(2.5),
    }
    readers.write_safetensors(tmp_path / "w", arrays)
    expected = {name: np.asarray(array, "<f4") for name, array in arrays.items()}
    assert_same(readers.read(tmp_path / "w"), expected)
    assert readers.read_metadata(tmp_path / "w") == {}


def test_jax_arrays_can_be_written(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    readers.write_safetensors(tmp_path / "w", {"w": jnp.ones(3, jnp.bfloat16)})
    assert_same(readers.read(tmp_path / "w"), {"w": np.ones(3, ml_dtypes.bfloat16)})


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "w.safetensors"
    readers.write_safetensors(path, {"w": np.zeros(2)})
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        readers.write_safetensors(path, {"w": np.ones(2)})
    assert path.read_bytes() == before
    readers.write_safetensors(path, {"w": np.ones(2)}, overwrite=True)
    assert_same(readers.read(path), {"w": np.ones(2)})
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    readers.write_safetensors(path, {"w": np.zeros(2)})

    def fail(_):
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ValueError, match="no space .* bytes free .*the disk is full"):
        readers.write_safetensors(path, {"w": np.ones(2)}, overwrite=True)
    assert_same(readers.read(path), {"w": np.zeros(2)})
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_written_files_have_the_usual_permissions(tmp_path):
    readers.write_safetensors(tmp_path / "w", {"w": np.zeros(2)})
    (tmp_path / "other").write_bytes(b"")
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "match"),
    [
        ({}, None, ValueError, "empty"),
        ({"w": np.array(["a"])}, None, ValueError, "dtype <U1"),
        ({"w": np.array([None])}, None, ValueError, "dtype object"),
        ({"w": np.zeros(1, complex)}, None, ValueError, "dtype complex128"),
        ({"__metadata__": np.zeros(1)}, None, ValueError, "reserved"),
        ({3: np.zeros(1)}, None, TypeError, "arrays"),
        ({"w": np.zeros(1)}, {"a": 1}, TypeError, "metadata"),
        ({"w": np.zeros(1)}, {1: "a"}, TypeError, "metadata"),
    ],
)
def test_what_cannot_be_written(tmp_path, arrays, metadata, error, match):
    with pytest.raises(error, match=match):
        readers.write_safetensors(tmp_path / "w", arrays, metadata)
    assert not os.listdir(tmp_path)


def test_where_nothing_can_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "absent" / "w"):
        with pytest.raises(ValueError, match="folder that exists"):
            readers.write_safetensors(path, {"w": np.zeros(1)}, overwrite=True)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "match"),
    [
        ({"w": ENTRY}, bytes(7), "cannot be read"),
        ({"w": ENTRY | {"shape": [2**62]}}, bytes(8), "cannot be read"),
        ({"w": ENTRY | {"shape": [3]}}, bytes(8), "cannot be read"),
        ({"w": ENTRY | {"data_offsets": [8, 0]}}, bytes(8), "cannot be read"),
        (
            {"w": ENTRY | {"dtype": "F4", "shape": [16]}},
            bytes(8),
            "type F4, .* F8_E4M3",
        ),
        ({"w": ENTRY | {"dtype": "X"}}, bytes(8), "cannot be read"),
        ({}, b"", "no arrays"),
        (b"{" + b'"a":[' * 5000, b"", "cannot be read"),
        (b"{]", b"", "cannot be read"),
    ],
)
def test_damaged_safetensors(tmp_path, header, data, match):
    path = safetensors_of(tmp_path / "w", header, data)
    with pytest.raises(ValueError, match=match):
        readers.read(path)


def test_safetensors_header_longer_than_the_file(tmp_path):
    for length in (100, 10**8):
        (tmp_path / "w").write_bytes(struct.pack("<Q", length) + b'{"w": ')
        with pytest.raises(ValueError, match="cut short"):
            readers.read(tmp_path / "w")
    (tmp_path / "w").write_bytes(struct.pack("<Q", 2**62) + b'{"w": ')
    with pytest.raises(ValueError, match="unknown format"):
        readers.read(tmp_path / "w")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = example()
    arrays.pop("bfloat16")
    arrays["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    arrays["complex128"] = np.ones(2, complex)
    save(tmp_path / "w.npz", **arrays)
    assert_same(readers.read(tmp_path / "w.npz"), arrays)


def test_npz_of_another_byte_order_and_version(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(3, dtype=">i4"), version=(2, 0))
    path = npz_of(tmp_path / "w", big=stream.getvalue())
    assert_same(readers.read(path), {"big": np.arange(3, dtype="<i4")})


class Loud:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran"),)


def test_npz_of_objects_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", w=np.array([Loud()]))
    with pytest.raises(ValueError, match="'w.npy' holds no numbers"):
        readers.read("w.npz")
    assert os.listdir(tmp_path) == ["w.npz"]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (npy(np.zeros(2), a=(b"(2,), }", b"(9,), }")), r"claims the shape \(9,\)"),
        (npy(np.zeros(1234), a=(b"(1234,)", b"(9**9,)")), "header.*damaged"),
        (npy(np.zeros(2), a=(b"False", b"0    ")), "header.*damaged"),
        # With two ways to read each of these numbers, a search takes years.
        (npy(np.zeros(2), a=(b"), }" + b" " * 50, b" 3" * 27)), "damaged"),
        (npy(np.zeros(2))[:-1], "claims the shape"),
        (npy(np.zeros(2)) + b"x", "claims the shape"),
        (npy(np.zeros(2))[:40], "header.*damaged"),
        (npy(np.array(["text"])), "no numbers"),
        (npy(np.zeros(2, [("a", "f4")])), "no numbers"),
        (b"", "header.*damaged"),
        (b"\x93NUMPY\x01\x00", "header.*damaged"),
    ],
)
def test_damaged_npz(tmp_path, data, match):
    with pytest.raises(ValueError, match=match):
        readers.read(npz_of(tmp_path / "w.npz", w=data))


def test_npz_of_bfloat16_points_to_safetensors(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.ones(2, ml_dtypes.bfloat16))
    with pytest.raises(ValueError, match="lacks bfloat16"):
        readers.read(tmp_path / "w.npz")


def test_npz_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "FREE_BYTES", 2**16)
    np.savez_compressed(tmp_path / "w.npz", w=np.zeros(2**20))
    with pytest.raises(ValueError, match="claim .* more than the"):
        readers.read(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (npy(np.zeros(2)), "without a name"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"hello", "unknown format"),
        (b"PK\x03\x04", "damaged or cut short"),
        (b"\x80\x02N.", "cannot be read as PyTorch"),
    ],
)
def test_files_of_another_format(tmp_path, data, match):
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match) as caught:
        readers.read(path)
    assert "weights.bin" in str(caught.value) and "safetensors" in str(caught.value)


@pytest.mark.parametrize(
    "function", [readers.read, readers.read_metadata, readers.sha256]
)
def test_missing_file_and_folder(tmp_path, function):
    with pytest.raises(FileNotFoundError, match="absent.*does not exist; expected"):
        function(tmp_path / "absent")
    with pytest.raises(ValueError, match="is no file; expected"):
        function(tmp_path)


def test_metadata_of_another_format(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.zeros(2))
    with pytest.raises(ValueError, match="has no metadata"):
        readers.read_metadata(tmp_path / "w.npz")
    with pytest.raises(ValueError, match="cannot be read"):
        readers.read_metadata(safetensors_of(tmp_path / "w", b"{]"))


def test_sha256(tmp_path):
    (tmp_path / "w").write_bytes(b"abc" * 100_000)
    expected = hashlib.sha256(b"abc" * 100_000).hexdigest()
    assert readers.sha256(tmp_path / "w") == expected


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_cut_and_damaged_files_raise_only_value_errors(tmp_path, kind):
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.arange(4, dtype=np.int8)}
    path = tmp_path / "w"
    if kind == "npz":
        np.savez(tmp_path / "w.npz", **arrays)
        (tmp_path / "w.npz").rename(path)
    else:
        readers.write_safetensors(path, arrays, {"a": "b"})
    data = path.read_bytes()
    for part in range(0, len(data), max(1, len(data) // 20)):
        path.write_bytes(data[:part])
        with pytest.raises(ValueError):
            readers.read(path)
    generator = random.Random(kind)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            readers.read(path)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float8_e4m3fn", "F8_E4M3"),
        ("float8_e4m3fnuz", "F8_E4M3FNUZ"),
        ("float8_e5m2", "F8_E5M2"),
        ("float8_e5m2fnuz", "F8_E5M2FNUZ"),
        ("bfloat16", "BF16"),
    ],
)
def test_small_floats_are_read_by_the_types_of_the_header(tmp_path, dtype, name):
    """`safetensors.flax` writes them; its NumPy reader raises KeyError for float8."""
    kind = np.dtype(getattr(ml_dtypes, dtype))
    values = np.linspace(-2, 2, 6).astype(kind)
    header = {"w": {"dtype": name, "shape": [2, 3], "data_offsets": [0, values.nbytes]}}
    found = readers.read(safetensors_of(tmp_path / "a", header, values.tobytes()))
    assert found["w"].dtype == kind and found["w"].flags.writeable
    np.testing.assert_array_equal(
        found["w"].astype(np.float32), values.reshape(2, 3).astype(np.float32)
    )

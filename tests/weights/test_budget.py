"""No file of weights takes more memory or work than its own size allows."""

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from unlir_jax.weights import averages, readers, selection
from unlir_jax.weights.contents import Contents

PROTOCOL = b"\x80\x02"
FREE_MEGABYTES = 64
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n%s\n"
    b"X\x01\0\0\x000X\x03\0\0\0cpuJ%stQK\0J%s\x85K\x01\x85tR"
)


def number(value):
    return struct.pack("<i", value)


def tensor(kind=b"FloatStorage", stored=1, taken=1):
    return TENSOR % (kind, number(stored), number(taken))


def torch_zip(path, program, storage=b"", packed=True):
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", storage)


def text(value):
    return b"X" + number(len(value)) + value


def pairs(count):
    return b"".join(text(b"%06d" % place) + b"N\x86" for place in range(count))


def named(count, value):
    entries = (text(b"%06d" % place) + value for place in range(count))
    return PROTOCOL + b"}(" + b"".join(entries) + b"u."


PICKLES = {
    "copies of a size": PROTOCOL
    + (b"](" + b"N" * 100_000 + b"eq\x00ctorch\nSize\nq\x01(")
    + (b"h\x01h\x00\x85R" * 6_000 + b"t."),
    "copies of a dict": PROTOCOL
    + (b"](" + pairs(4_000) + b"eq\x00ccollections\nOrderedDict\nq\x01(")
    + (b"h\x01h\x00\x85R" * 20_000 + b"t."),
    "empty lists": PROTOCOL + b"(" + b"]" * 20_000_000 + b"t.",
    "empty dicts": PROTOCOL + b"(" + b"}" * 6_000_000 + b"t.",
    "empty sets": b"\x80\x04(" + b"\x8f" * 6_000_000 + b"t.",
    "tuples in each other": PROTOCOL + b"N" + b"\x85" * 7_000_000 + b".",
    "marks": PROTOCOL + b"(" * 7_000_000 + b".",
    "memo": b"\x80\x04N" + b"\x94" * 7_000_000 + b".",
    "steps that keep nothing": PROTOCOL + b"N" + b"20" * 3_500_000 + b".",
    "a text": PROTOCOL + text(b"a" * 30_000_000) + b".",
    "a text of wide letters": PROTOCOL
    + text("\U0001f600".encode() + b"a" * 15_000_000),
    "long names": PROTOCOL
    + (b"}(" + tensor() + b"q\x04" + text(b"a" * 1_000_000) + b"q\x05" + b"001(")
    + (b"".join(text(b"%05d" % n) + b"}h\x05h\x04s" for n in range(5_000)) + b"u."),
    "many names": named(90_000, tensor()),
    "views": named(3_000, tensor(stored=250_000, taken=250_000)),
}


def test_numbers_of_one_hash_are_no_keys(tmp_path):
    """2^61 - 1 is 0 for a dict: 80,000 multiples would be compared with each other."""
    keys = (
        b"\x8a\x0a" + ((2**61 - 1) * (n + 1)).to_bytes(10, "little") for n in range(9)
    )
    program = PROTOCOL + b"}(" + b"".join(key + b"N" for key in keys)
    torch_zip(tmp_path / "f.pth", program + text(b"w") + tensor() + b"u.", bytes(4))
    assert list(readers.read(tmp_path / "f.pth")) == ["w"]
    with pytest.raises(ValueError, match=r"first entries: none"):
        torch_zip(tmp_path / "g.pth", program + b"u.")
        readers.read(tmp_path / "g.pth")
    place = str(2**61 - 1).encode()
    torch_zip(tmp_path / "h.pth", b"(dp" + place + b"\n.")
    with pytest.raises(ValueError, match="memo is absurd"):
        readers.read(tmp_path / "h.pth")


def test_many_tensors_of_one_storage_of_truth_values(tmp_path):
    """Only the values of the tensor are decoded, not all of the storage each time."""
    program = named(300, tensor(b"BoolStorage", stored=400_000))
    storage = np.random.default_rng(0).integers(0, 256, 400_000, np.uint8)
    torch_zip(tmp_path / "f.pth", program, storage.tobytes())
    found = readers.read(tmp_path / "f.pth")
    assert len(found) == 300
    assert all(array.dtype == bool and array.shape == (1,) for array in found.values())


def many_entries(path, count):
    """Write a directory of many entries, all of which are one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", b"")
    front = stream.getvalue().partition(b"PK\x01\x02")[0]
    entry = struct.Struct("<4s4B4HL2L5H2L")
    fixed = (b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0)
    directory = b"".join(entry.pack(*fixed) + b"%06d" % n for n in range(count))
    end = (b"PK\x05\x06", 0, 0, count & 65535, count & 65535)
    end = struct.pack("<4s4H2LH", *end, len(directory), len(front), 0)
    path.write_bytes(front + directory + end)


def safetensors(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def write_archives(folder):
    """Write files that are not small, or that may be read."""
    many_entries(folder / "entries.pth", 300_000)
    np.savez_compressed(folder / "zeros.npz", a=np.zeros(20_000_000, np.float32))
    np.savez_compressed(folder / "fewer zeros.npz", a=np.zeros(4_000_000, np.float32))
    np.savez(folder / "tiny.npz", **{f"{n}": np.zeros(0) for n in range(4_000)})
    empty = {f"{n}": EMPTY for n in range(200_000)}
    safetensors(folder / "empty.safetensors", empty)
    fewer = {f"{n}": EMPTY for n in range(15_000)}
    safetensors(folder / "fewer empty.safetensors", fewer)
    safetensors(folder / "name.safetensors", {"." * 10_000_000: ONE}, bytes(4))
    said = {f"{n}": "" for n in range(2_000_000)}
    safetensors(folder / "said.safetensors", {"__metadata__": said, "a": ONE}, bytes(4))
    spaces = json.dumps({"a": ONE}).encode() + b" " * 30_000_000
    safetensors(folder / "spaces.safetensors", spaces, bytes(4))
    # As they lie in the file: nothing is packed.
    torch_zip(
        folder / "lists.pth", PROTOCOL + b"(" + b"]" * 900_000 + b"t.", b"", False
    )
    torch_zip(
        folder / "steps.pth", PROTOCOL + b"N" + b"20" * 450_000 + b".", b"", False
    )


# In a process of its own: it measures memory, and has no checks of types at each call.
READ_ALL = """
import json, pathlib, resource, sys
from unlir_jax.weights import readers

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

def read(path):
    before = peak()
    try:
        readers.read(path)
        told = ""
    except ValueError as error:
        told = str(error)
    return path.stem, (told, path.stat().st_size >> 20, peak() - before)

files = pathlib.Path(sys.argv[1]).iterdir()
files = sorted(files, key=lambda path: path.stat().st_size)
readers.read(files.pop(0))
print(json.dumps(dict(map(read, files))))
"""


def read_all(folder):
    """Read the files of a folder: what is said of each, its megabytes, those taken."""
    np.savez(folder / "first.npz", a=np.zeros(1))
    command = [sys.executable, "-c", READ_ALL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]
    return json.loads(done.stdout)


@pytest.mark.exhaustive
def test_a_small_pickle_that_stands_for_much_is_refused(tmp_path):
    for name, program in PICKLES.items():
        storage = bytes(1_000_000) if name == "views" else b""
        torch_zip(tmp_path / f"{name}.pth", program, storage)
    found = read_all(tmp_path)
    assert len(found) == len(PICKLES)
    for name, (told, size, took) in found.items():
        assert size == 0 and took <= FREE_MEGABYTES, (name, took)
        assert f"{name}.pth" in told and "expected" in told and len(told) < 500
        because = ("allow", "MB in memory", "at most 64", "has 1,000,000 characters")
        assert any(text in told for text in because), told


@pytest.mark.exhaustive
def test_peak_memory_follows_from_the_size_of_the_file(tmp_path):
    write_archives(tmp_path)
    found = read_all(tmp_path)
    for name, (told, size, took) in found.items():
        assert took <= FREE_MEGABYTES + 8 * size, (name, took)
        assert not told or ("expected" in told and len(told) < 500)
    read = {name for name, (told, *_) in found.items() if not told}
    assert read == {"fewer zeros", "tiny", "fewer empty", "spaces"}


@pytest.mark.exhaustive
def test_what_is_ordinary_is_read(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(2_000_000, np.float32))
    assert readers.read(tmp_path / "w.npz")["a"].size == 2_000_000
    torch_zip(tmp_path / "w.pth", named(500, tensor()), bytes(4))
    assert len(readers.read(tmp_path / "w.pth")) == 500
    settings = PROTOCOL + b"}(" + text(b"losses") + b"](" + b"K\x01" * 50_000 + b"e"
    torch_zip(tmp_path / "w.pth", settings + text(b"w") + tensor() + b"u.", bytes(4))
    assert len(readers.read(tmp_path / "w.pth")) == 1


def test_names_of_many_points_are_looked_at_from_their_end():
    layouts = {"theirs": {"conv": "conv"}}
    expected = ["params/conv/kernel"]
    names = {"." * 900 + f"{n}.x": (1,) for n in range(200)} | {"m.conv.weight": (1,)}
    contents = Contents(names, lambda wanted: {})
    found = selection.select(contents, expected, layouts, source="w.pth")
    assert found.key == "m"
    assert averages.averaged_holder("." * 10_000 + "ema.x") == "." * 10_000 + "ema"
    assert averages.averaged_holder("a.ema_conv1") == "ema_…"
    assert averages.averaged_holder("state_dict_ema/conv.weight") == "state_dict_ema"


def test_hundreds_of_networks_are_asked_for_by_key():
    names = {f"{n}.conv.weight": (1,) for n in range(300)}
    contents = Contents(names, lambda wanted: {name: np.zeros(1) for name in wanted})
    layouts = {"theirs": {"conv": "conv"}}
    with pytest.raises(ValueError, match="holds 300 networks.*expected weights_key"):
        selection.select(contents, ["params/conv/kernel"], layouts, source="w.pth")

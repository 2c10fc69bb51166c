import io
import os
import pathlib
import pickle
import random
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from unlir_jax.weights import budget, inert_pickle, readers, torch_tensors
from unlir_jax.weights.budget import Budget

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torch_files"
MAGIC = 0x1950A86A20F9469CFC6C
LAYOUTS = ("zip", "legacy")


class Named:
    """Pickles as the global `module.name`, or as a call of it."""

    def __init__(self, module, name, arguments=None, state=None):
        self.module, self.name = module, name
        self.arguments, self.state = arguments, state


class StorageId(tuple):
    """Pickles as a persistent id."""


class Pickler(pickle._Pickler):
    """Writes opcodes that name objects which are not there."""

    def persistent_id(self, obj):
        return tuple(obj) if isinstance(obj, StorageId) else None

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, Named):
            return super().save(obj, save_persistent_id)
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        if obj.arguments is not None:
            super().save(obj.arguments)
            self.write(pickle.REDUCE)
        if obj.state is not None:
            super().save(obj.state)
            self.write(pickle.BUILD)


def pickled(value, protocol=2) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def write(path, layout, program, storages=None):
    """Write a file of either layout around the bytes of a pickle."""
    storages = {"0": np.arange(6, dtype="<f4")} if storages is None else storages
    if layout == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("any/data.pkl", program)
            for key, values in storages.items():
                archive.writestr(f"any/data/{key}", values.tobytes())
        return path
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    data = pickled(MAGIC) + pickled(1001) + pickled(system) + program
    data += pickled(list(storages))
    for values in storages.values():
        data += struct.pack("<q", values.size) + values.tobytes()
    path.write_bytes(data)
    return path


def storage(layout, kind="FloatStorage", key="0", length=6, view=None):
    identity = ("storage", Named("torch", kind), key, "cuda:0", length)
    return StorageId(identity if layout == "zip" else (*identity, view))


def tensor(layout, offset=0, shape=(2, 3), strides=(3, 1), **kwargs):
    arguments = (storage(layout, **kwargs), offset, shape, strides, False, {})
    return Named("torch._utils", "_rebuild_tensor_v2", arguments)


def read_value(tmp_path, layout, value, storages=None):
    return readers.read(write(tmp_path / "file.pth", layout, pickled(value), storages))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype, name
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].tobytes(), name
        assert array.flags.c_contiguous and array.flags.writeable, name


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as archive:
        arrays = {}
        for key, array in archive.items():
            if key.endswith("_bits"):
                key, array = key.removesuffix("_bits"), array.view(ml_dtypes.bfloat16)
            arrays[key] = array
    return arrays


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["plain", "checkpoint"])
def test_files_of_pytorch_are_read_to_the_bit(name, layout):
    prefix = "state_dict/module." if name == "checkpoint" else ""
    full = {prefix + short: array for short, array in golden(name).items()}
    with readers.open_file(GOLDEN / f"{name}_{layout}.pth") as file:
        # The optimiser's buffers and counters lie beside.
        names = [name for name in file.arrays.shapes if name.startswith(prefix)]
        assert_same(file.arrays.read(names), full)


def test_late_dtypes_and_protocol_4():
    found = readers.read(str(GOLDEN / "late_zip.pth"))
    name = "float8_as_float32"
    assert found[name].dtype == ml_dtypes.float8_e4m3fn
    found[name] = found[name].astype(np.float32)
    assert_same(found, golden("late"))


def test_whole_model_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"Linear.*model\.state_dict\(\)"):
        readers.read(GOLDEN / "whole_model_zip.pth")


def test_arrays_of_one_storage_are_copies():
    found = readers.read(GOLDEN / "plain_zip.pth")
    found["every_second"][:] = -1
    np.testing.assert_array_equal(found["first_half"], np.arange(5))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shape_offset_and_strides(tmp_path, layout):
    value = {
        "all": tensor(layout),
        "transposed": tensor(layout, shape=(3, 2), strides=(1, 3)),
        "part": tensor(layout, offset=4, shape=(2,), strides=(1,)),
        "one": tensor(layout, offset=5, shape=(1,), strides=(2**60,)),
        "scalar": tensor(layout, offset=3, shape=(), strides=()),
        "empty": tensor(layout, offset=99, shape=(0, 5), strides=(5, 1)),
        "old": Named(
            "torch._utils",
            "_rebuild_tensor",
            (storage(layout), 0, Named("torch", "Size", ([6],)), (1,)),
        ),
    }
    base = np.arange(6, dtype=np.float32)
    expected = {
        "all": base.reshape(2, 3),
        "transposed": base.reshape(2, 3).T,
        "part": base[4:],
        "one": base[5:],
        "scalar": base[3],
        "empty": np.zeros((0, 5), np.float32),
        "old": base,
    }
    assert_same(read_value(tmp_path, layout, value), expected)


def test_legacy_part_of_a_storage(tmp_path):
    part = tensor("legacy", shape=(2,), strides=(1,), view=("v", 3, 2))
    found = read_value(tmp_path, "legacy", {"w": part})
    np.testing.assert_array_equal(found["w"], [3, 4])
    bad = tensor("legacy", shape=(2,), strides=(1,), view=("v", 5, 2))
    with pytest.raises(ValueError, match="lies outside"):
        read_value(tmp_path, "legacy", {"w": bad})
    far = tensor("legacy", shape=(3,), strides=(1,), view=("v", 3, 2))
    with pytest.raises(ValueError, match="reaches value 2"):
        read_value(tmp_path, "legacy", {"w": far})


@pytest.mark.parametrize("dtype", ["<f4", "<i8", "<c8"])
def test_big_endian_zip(tmp_path, dtype):
    kinds = {"<f4": "FloatStorage", "<i8": "LongStorage", "<c8": "ComplexFloatStorage"}
    values = np.arange(1, 7).astype(dtype) * (1 + 2j if dtype == "<c8" else 1)
    values = values.astype(dtype)
    big = values.astype(np.dtype(dtype).newbyteorder(">"))
    path = write(
        tmp_path / "big.pth",
        "zip",
        pickled({"w": tensor("zip", kind=kinds[dtype])}),
        {"0": big},
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("any/byteorder", "big")
    np.testing.assert_array_equal(readers.read(path)["w"], values.reshape(2, 3))


def test_deflated_zip_is_read(tmp_path):
    with (
        zipfile.ZipFile(GOLDEN / "plain_zip.pth") as source,
        zipfile.ZipFile(tmp_path / "d.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert_same(readers.read(tmp_path / "d.pth"), golden("plain"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_names_say_in_which_dict_a_tensor_lies(tmp_path, layout):
    inner = {"w": tensor(layout)}
    value = {
        "model": {"state_dict": inner, "epoch": 3},
        "optimizers": [{"state": {0: {"exp_avg": tensor(layout)}}}],
        "ema": {"shadow_params": [tensor(layout), tensor(layout)]},
        "b": tensor(layout),
        7: tensor(layout),
    }
    path = write(tmp_path / "file.pth", layout, pickled(value))
    with readers.open_file(path) as file:
        found = file.arrays
        assert list(found.shapes.items()) == [
            ("model/state_dict/w", (2, 3)),
            ("optimizers/0/state/0/exp_avg", (2, 3)),
            ("b", (2, 3)),
        ]
        assert found.unnamed == {"ema/shadow_params": 2, "": 1}
        values = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(found.read(["b"])["b"], values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dicts_that_repeat_each_other_without_end_are_bounded(tmp_path, layout):
    """A pickle of 100 bytes may hold a dict of itself, or two of two of two …"""
    inner = {"w": tensor(layout)}
    for _ in range(30):
        inner = {"a": inner, "b": inner}
    assert len(read_value(tmp_path, layout, inner | {"w": tensor(layout)})) == 1
    many = {str(number): {"w": tensor(layout)} for number in range(3)}
    many |= {f"again{number}": many["0"] for number in range(20)}
    with pytest.raises(ValueError, match="one dict more than"):
        read_value(tmp_path, layout, many)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({}, "no tensors by name.*none"),
        ({"epoch": 3, "loss": 0.5}, "'epoch', 'loss'"),
        ([1, 2], "no dict"),
        (tensor("zip"), "no dict"),
        ({3: tensor("zip")}, "is no text"),
        (
            {"w": Named("numpy._core.multiarray", "_reconstruct", ())},
            "NumPy array and no tensor",
        ),
    ],
)
def test_files_without_weights(tmp_path, value, match):
    with pytest.raises(ValueError, match=match):
        read_value(tmp_path, "zip", value)


class Runs:
    """Runs a command where it is unpickled by the standard library."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(mark: pathlib.Path) -> dict[str, bytes]:
    command = f"touch {mark}"
    stack_global = (
        b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93."
    )
    getattr_trick = (
        b"\x80\x02cbuiltins\ngetattr\n(cbuiltins\n__import__\n(X\x02\x00\x00\x00ostR"
        b"X\x06\x00\x00\x00systemtR(X"
        + struct.pack("<I", len(command))
        + command.encode()
        + b"tR."
    )
    return {
        "system": pickle.dumps({"w": Runs(os.system, command)}, 2),
        "system_5": pickle.dumps({"w": Runs(os.system, command)}, 5),
        "eval": pickle.dumps(Runs(eval, f"open({str(mark)!r}, 'w')"), 2),
        "exec_0": pickle.dumps(Runs(exec, f"open({str(mark)!r}, 'w')"), 0),
        "getattr": getattr_trick,
        "dotted": stack_global,
        "dotted_torch": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        "nested": b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x00\x85R.",
        "inst": b"(X"
        + struct.pack("<I", len(command))
        + command.encode()
        + b"ios\nsystem\n.",
        "obj": b"\x80\x02(cbuiltins\nset\nX\x01\x00\x00\x00ao.",
        "extension": b"\x80\x02\x82\x01.",
        "build_on_builder": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X"
        b"\x05\x00\x00\x00buildK\x01sb.",
        "build_slots": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X"
        b"\x05\x00\x00\x00buildK\x01s\x86b.",
        "call_a_dtype": b"\x80\x02ctorch\nfloat32\n)R.",
        "call_a_text": b"\x80\x02X\x01\x00\x00\x00a)R.",
        "indirect_call": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n"
        b"(X\x02\x00\x00\x00osNN)tR.",
        "stack_empty": b"\x80\x020.",
        "no_mark": b"\x80\x02t.",
        "mark_below": b"\x80\x02K\x01(\x85.",
        "memo_missing": b"\x80\x02h\x07.",
        "memo_huge": b"\x80\x02Nr\xff\xff\xff\xff.",
        "bytes_huge": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fx.",
        "text_huge": b"\x80\x02X\xff\xff\xff\xffx.",
        "frame_huge": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
        "buffer": b"\x80\x05\x97.",
        "protocol": b"\x80\x63N.",
        "unknown_opcode": b"\x80\x02\xff.",
        "bad_escape": b"S'\\z'\n.",
        "long_number": b"I" + b"9" * 5000 + b"\n.",
        "append_to_text": b"\x80\x02X\x01\x00\x00\x00aNa.",
        "set_on_list": b"\x80\x02]NNs.",
        "odd_dict": b"\x80\x02(Nd.",
        # A tuple of two of itself, 60 deep: hashing it as a key would never end.
        "deep_key": b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
        "deep_tuple": b"\x80\x02})" + b"\x85" * 20_000 + b"Ns.",
        "deep_list": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        "no_stop": b"\x80\x02N",
        "nothing": b"",
    }


NAMED = {
    "system": "system",
    "eval": "builtins.eval|__builtin__.eval",
    "getattr": "builtins.__import__",
    "dotted": "collections.OrderedDict.__init__.__globals__",
    "nested": "torch.storage._load_from_bytes",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", list(hostile(pathlib.Path())))
def test_hostile_pickles_do_nothing(tmp_path, layout, name):
    mark = tmp_path / "ran"
    before = dict(torch_tensors.GLOBALS)
    path = write(tmp_path / "bad.pth", layout, hostile(mark)[name])
    with pytest.raises(ValueError, match=NAMED.get(name)) as caught:
        readers.read(path)
    assert "bad.pth" in str(caught.value) and len(str(caught.value)) < 600
    assert not mark.exists()
    assert torch_tensors.GLOBALS == before


def test_hostile_pickles_are_hostile(tmp_path):
    """The command does run where the standard library loads the same bytes."""
    mark = tmp_path / "ran"
    pickle.loads(hostile(mark)["system"])
    assert mark.exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**64},
        {"offset": True},
        {"offset": "0"},
        {"strides": (3, 2)},
        {"strides": (-3, 1)},
        {"strides": (2**62, 1)},
        {"strides": (3,)},
        {"shape": (2, 4)},
        {"shape": (2, -3)},
        {"shape": (2**62, 2**62)},
        {"shape": (2**62, 2**62), "strides": (0, 0)},
        {"shape": (2**40,), "strides": (0,)},
        {"shape": (1,) * 65, "strides": (1,) * 65},
        {"shape": (0, 2**62), "strides": (1, 1)},
        {"shape": [2, 3]},
        {"shape": (2.0, 3.0)},
        {"length": 7, "offset": 1},
        {"length": 2**62},
        {"length": -6},
        {"length": "6"},
        {"kind": "DoubleStorage"},
        {"key": "1"},
        {"key": "../0"},
        {"key": 0},
    ],
)
def test_tensors_outside_their_bytes(tmp_path, layout, change):
    if layout == "legacy" and change == {"kind": "DoubleStorage"}:
        change = {"kind": "DoubleStorage", "length": 3}
    with pytest.raises(ValueError):
        read_value(tmp_path, layout, {"w": tensor(layout, **change)})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "identity",
    [
        ("storage",),
        ("storage", "FloatStorage", "0", "cpu", 6),
        ("storage", Named("torch", "float32"), "0", "cpu", 6),
        ("module", Named("torch", "Size"), "file", "source"),
        (),
        ("other", 1, 2, 3, 4),
    ],
)
def test_persistent_ids_of_the_wrong_form(tmp_path, layout, identity):
    value = {"w": Named("torch._utils", "_rebuild_tensor_v2", (StorageId(identity), 0))}
    with pytest.raises(ValueError):
        read_value(tmp_path, layout, value)


@pytest.mark.parametrize("text", [b"P1\n.", b"\x80\x02X\x01\x00\x00\x00aQ."])
def test_persistent_ids_that_are_texts(tmp_path, text):
    with pytest.raises(ValueError, match="no storage"):
        readers.read(write(tmp_path / "f.pth", "zip", text))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_views_of_one_storage_are_bounded(tmp_path, layout):
    """200 views of 4 MB would need 800 MB from a file of 4 MB."""
    values = np.zeros(2**20, "<f4")
    view = {"shape": (2**20,), "strides": (1,), "length": 2**20}
    value = {str(number): tensor(layout, **view) for number in range(200)}
    with pytest.raises(ValueError, match="tensors need .* more than the size"):
        read_value(tmp_path, layout, value, {"0": values})


def test_legacy_storages_that_do_not_fit(tmp_path):
    program = pickled({"w": tensor("legacy")})
    path = write(tmp_path / "f.pth", "legacy", program)
    data = path.read_bytes()
    size = struct.pack("<q", 6)
    for wrong in (7, 2**60, -1):
        path.write_bytes(data.replace(size, struct.pack("<q", wrong)))
        with pytest.raises(ValueError, match="too short"):
            readers.read(path)
    for keys in ({"1": np.zeros(6, "<f4")}, {}):
        write(path, "legacy", program, keys)
        with pytest.raises(ValueError):
            readers.read(path)


def test_legacy_storage_of_two_dtypes(tmp_path):
    value = {
        "a": tensor("legacy"),
        "b": tensor("legacy", kind="DoubleStorage", length=3),
    }
    with pytest.raises(ValueError, match="two dtypes"):
        read_value(tmp_path, "legacy", value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([], "0 entries"),
        ([("data.pkl", b"N.")], "0 entries"),
        ([("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], "2 entries"),
        ([("a/data.pkl", b"N."), ("a/data.pkl", b"N.")], "two entries"),
        ([("a/data.pkl", b"N."), ("a/constants.pkl", b"N.")], "TorchScript"),
        ([("a/data.pkl", b"N."), ("a/code/x.py", b"")], "TorchScript"),
        ([("a/data.pkl", b"N."), ("a/byteorder", b"middle")], "byte order"),
    ],
)
def test_zip_archives_of_the_wrong_form(tmp_path, entries, match):
    path = tmp_path / "f.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=match):
        readers.read(path)


def test_zip_of_another_method(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.pth", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/data.pkl", pickled({}))
    with pytest.raises(ValueError, match="not packed by deflate"):
        readers.read(tmp_path / "f.pth")


def test_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "FREE_BYTES", 2**16)
    with zipfile.ZipFile(tmp_path / "f.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickled({"w": tensor("zip", length=2**18)}))
        archive.writestr("a/data/0", bytes(2**20))
    with pytest.raises(ValueError, match="claim .* more than the"):
        readers.read(tmp_path / "f.pth")


def test_damaged_storage_is_noticed(tmp_path):
    path = write(tmp_path / "f.pth", "zip", pickled({"w": tensor("zip")}))
    values = np.arange(6, dtype="<f4").tobytes()
    path.write_bytes(path.read_bytes().replace(values, bytes(24)))
    with pytest.raises(ValueError, match="data/0.*damaged"):
        readers.read(path)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b"hello", "begins with"),
        (b"PK\x03\x04 and no more", "damaged or cut short"),
        (pickle.dumps({"a": 1}), "did not write"),
        (pickled(MAGIC) + pickled(1002), "protocol"),
        (pickled(MAGIC), "cut short|damaged|exhausted"),
        (b"\0" * 257 + b"ustar" + b"\0" * 250, "tar layout"),
    ],
)
def test_files_of_another_kind(tmp_path, data, match):
    (tmp_path / "f.pth").write_bytes(data)
    with pytest.raises(ValueError, match=match):
        readers.read(tmp_path / "f.pth")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        readers.read(tmp_path / "f.pth")
    with pytest.raises(ValueError, match="is no file"):
        readers.read(tmp_path)


@pytest.mark.parametrize("name", ["plain", "checkpoint"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cut_files(tmp_path, name, layout):
    data = (GOLDEN / f"{name}_{layout}.pth").read_bytes()
    for part in [*(len(data) * number // 20 for number in range(20)), len(data) - 1]:
        (tmp_path / "f.pth").write_bytes(data[:part])
        with pytest.raises(ValueError):
            readers.read(tmp_path / "f.pth")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["plain", "checkpoint"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_raise_only_value_errors(tmp_path, name, layout, seed):
    data = (GOLDEN / f"{name}_{layout}.pth").read_bytes()
    generator = random.Random(f"{name} {layout} {seed}")
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        (tmp_path / "f.pth").write_bytes(damaged)
        try:
            found = readers.read(tmp_path / "f.pth")
        except ValueError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.mark.parametrize("name", ["plain", "checkpoint"])
def test_damaged_pickles_raise_only_value_errors(tmp_path, name):
    """Behind a sound checksum, where damage of the archive does not hide them."""
    with zipfile.ZipFile(GOLDEN / f"{name}_zip.pth") as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    (pickle_name,) = (entry for entry in entries if entry.endswith("/data.pkl"))
    generator = random.Random(name)
    for _ in range(300):
        damaged = bytearray(entries[pickle_name])
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:
            for entry, content in entries.items():
                archive.writestr(entry, damaged if entry == pickle_name else content)
        try:
            readers.read(tmp_path / "f.pth")
        except ValueError:
            continue


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_the_standard_library_reads_them(protocol):
    value = {
        "list": [1, -1, 255, 256, 65536, -(2**31), 2**40, 2**70, 0.5, None],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), True, False),
        "texts": ["", "é", "x" * 300, "line\nfeed \\ back"],
        "nested": {"a": {"b": [{}]}, 3: "three", None: 0, 2.5: 1},
    }
    data = pickle.dumps(value, protocol)
    globals_ = torch_tensors.GLOBALS
    found = inert_pickle.load(
        io.BytesIO(data), globals_, torch_tensors.make_storage, Budget(len(data))
    )
    assert found == pickle.loads(data) == value

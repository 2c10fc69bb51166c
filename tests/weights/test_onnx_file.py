"""Arrays of ONNX files: written here by the format's rules, byte by byte."""

import ml_dtypes
import numpy as np
import pytest

from unlir_jax.weights import onnx_file, readers

CODES = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16, "int64": 7}
GRID = np.arange(9 * 4, dtype=np.float32).reshape(1, 9, 4)
FIRST = np.full((1, 1, 4), -1, np.float32)
KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """Write a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, array, *more, packed=False):
    dims = (
        field(1, b"".join(map(varint, array.shape)))
        if packed
        else b"".join(field(1, side) for side in array.shape)
    )
    kind = field(2, CODES[array.dtype.name])
    return dims + kind + field(8, name) + field(9, array.tobytes()) + b"".join(more)


def node(kind, name, *inputs, output="", scopes=""):
    named = b"".join(field(1, each) for each in inputs)
    pair = field(1, "pkg.torch.onnx.name_scopes") + field(2, scopes)
    told = field(9, pair) if scopes else b""
    return (
        named
        + field(2, output or f"{name}_out")
        + field(3, name)
        + field(4, kind)
        + told
    )


def model(*tensors, nodes=()):
    graph = b"".join([field(1, each) for each in nodes])
    graph += field(2, "main") + b"".join(field(5, each) for each in tensors)
    return field(1, 7) + field(2, "pytorch") + field(7, graph) + field(8, b"")


def read(folder, data):
    file = folder / "weights.onnx"
    file.write_bytes(data)
    return readers.read(file)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", CODES)
def test_initialisers_are_read(tmp_path, dtype, packed):
    array = KERNEL.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    found = read(tmp_path, model(tensor("layer.weight", array, packed=packed)))
    assert list(found) == ["layer.weight"] and found["layer.weight"].dtype == dtype
    np.testing.assert_array_equal(found["layer.weight"], array)


def test_a_folded_weight_has_the_name_of_its_module(tmp_path):
    nodes = [
        node("Add", "/trunk/layer.0/mlp/fc1/Add", "trunk.layer.0.mlp.fc1.bias", "x"),
        node("MatMul", "/trunk/layer.0/mlp/fc1/MatMul", "x", "onnx::MatMul_12"),
        node("Concat", "/trunk/embeddings/Concat_1", "onnx::Concat_7", "grid"),
        node("Reshape", "/trunk/embeddings/Reshape", "onnx::Reshape_9", "shape"),
        node("MatMul", "MatMul_3", "x", "onnx::MatMul_13"),
    ]
    arrays = {
        "onnx::MatMul_12": KERNEL,
        "trunk.layer.0.mlp.fc1.bias": KERNEL[0],
        "onnx::Reshape_9": GRID,
        "onnx::Concat_7": FIRST,
        "onnx::MatMul_13": KERNEL,
    }
    found = read(tmp_path, model(*(tensor(*a) for a in arrays.items()), nodes=nodes))
    expected = {
        "trunk.layer.0.mlp.fc1.bias": KERNEL[0],
        "trunk.layer.0.mlp.fc1.weight": KERNEL.T,
        "onnx::MatMul_13": KERNEL,
        "trunk.embeddings.position_embeddings": np.concatenate([FIRST, GRID], 1),
    }
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_the_newer_exporter_folds_has_the_name_of_its_scope(tmp_path):
    inner = "['', 'blocks', 'blocks.0', 'blocks.0.{}', 'linear']"
    nodes = [
        node("Concat", "node_cat", "expand", "grid", scopes="['', 'cat']"),
        node("MatMul", "node_1", "x", "val_3", scopes=inner.format("fc1")),
        # Of equal arrays it keeps one, which the other module reads as well.
        node("Add", "node_2", "y", "blocks.0.norm.bias", scopes=inner.format("fc1")),
    ]
    arrays = {
        **{"pos_embed": GRID, "expand": FIRST, "val_3": KERNEL},
        **{"blocks.0.norm.bias": KERNEL[0], "val_4": KERNEL[1]},
    }
    found = read(tmp_path, model(*(tensor(*a) for a in arrays.items()), nodes=nodes))
    expected = {
        **{"pos_embed": GRID, "cls_token": FIRST, "blocks.0.fc1.weight": KERNEL.T},
        **{"blocks.0.norm.bias": KERNEL[0], "blocks.0.fc1.bias": KERNEL[0]},
        "val_4": KERNEL[1],
    }
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_the_older_exporter_merges_and_nests(tmp_path):
    path = "/blocks/blocks.0/fc1/MatMul"
    nodes = [
        node("Identity", "Identity_0", "a.bias", output="b.bias"),
        node("MatMul", path, "x", "onnx::MatMul_5"),
    ]
    arrays = {"a.bias": KERNEL[0], "onnx::MatMul_5": KERNEL}
    found = read(tmp_path, model(*(tensor(*a) for a in arrays.items()), nodes=nodes))
    assert set(found) == {"a.bias", "b.bias", "blocks.0.fc1.weight"}
    np.testing.assert_array_equal(found["b.bias"], KERNEL[0])


LARGE = field(1, 1 << 40) + field(2, 1) + field(8, "a") + field(9, b"1234")
NEGATIVE = field(1, (1 << 64) - 4) + field(2, 1) + field(8, "a") + field(9, b"1234")
WHOLE = model(tensor("a", KERNEL))
BAD = {
    "another file": (model(tensor("a", KERNEL, field(14, 1))), "'a' lies in another"),
    "a place in one": (model(tensor("a", KERNEL, field(13, b"x"))), "lies in another"),
    "no arrays": (model(), "without arrays"),
    "texts": (model(field(1, 1) + field(2, 8) + field(6, b"x")), "without arrays"),
    "a large claim": (model(LARGE), "claims the shape"),
    "a negative side": (model(NEGATIVE), "claims the shape"),
    "an end too early": (WHOLE[:-40], "longer than what holds it"),
    "a long name": (model(tensor("a" * 2000, KERNEL)), "a name has 2,000 bytes"),
    "many axes": (model(tensor("a", KERNEL, *[field(1, 1)] * 20)), "claims the shape"),
    "another kind of field": (field(1, 7) + b"\x12\x00\x3b", "no field of kind 3"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_in_a_sentence(tmp_path, what):
    data, sentence = BAD[what]
    with pytest.raises(ValueError, match="weights.onnx") as found:
        read(tmp_path, data)
    assert sentence in str(found.value) and len(str(found.value)) < 400


def test_no_byte_that_is_changed_does_more_than_be_refused(tmp_path):
    generator = np.random.default_rng(0)
    for place in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= int(generator.integers(1, 256))
        try:
            found = read(tmp_path, bytes(data))
        except ValueError:
            continue
        assert sum(array.nbytes for array in found.values()) <= 64 * len(WHOLE)


def test_the_beginning_is_told_from_others():
    assert onnx_file.is_onnx(WHOLE[:16])
    assert not onnx_file.is_onnx(b"\x80\x02") and not onnx_file.is_onnx(b"\x08")

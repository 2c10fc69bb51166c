"""A file of weights is opened, hashed and parsed once, whatever asks for it."""

import hashlib
import sys

import numpy as np
import pytest

from unlir_jax import pruning, tree
from unlir_jax.models import pretrained, zoo
from unlir_jax.training import init_from
from unlir_jax.weights import (
    bounded_zip,
    inert_pickle,
    readers,
    safetensors_types,
)

NAME = "cifar_resnet8"
OPENED = []


@pytest.fixture(scope="session")
def hook():
    # A hook stays as long as Python does.
    sys.addaudithook(
        lambda event, found: OPENED.append(str(found[0])) if event == "open" else None
    )


@pytest.fixture(scope="module")
def drawn():
    return pretrained.load(NAME, "random")


@pytest.fixture
def counted(hook, monkeypatch):
    """Count what is done to files."""
    counts = {}

    def count(module, name):
        function = getattr(module, name)

        def call(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    count(hashlib, "file_digest")
    count(safetensors_types, "read_header")
    count(bounded_zip, "open_zip")
    count(inert_pickle, "load")
    OPENED.clear()
    return counts


def folder_of(drawn, tmp_path, suffix):
    """Write weights in some format, in a workdir's where the suffix is none."""
    path = tmp_path / f"w{suffix}"
    leaves = {name: np.asarray(leaf) for name, leaf in tree.flatten(drawn[1]).items()}
    if suffix == ".npz":
        np.savez(path, **leaves)
    elif suffix == ".safetensors":
        readers.write_safetensors(path, leaves)
    else:
        pruning.save(drawn, tmp_path)
        return tmp_path, tmp_path / "weights.safetensors"
    return path, path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ""])
def test_loading_opens_a_file_once(drawn, tmp_path, counted, suffix):
    place, path = folder_of(drawn, tmp_path, suffix)
    OPENED.clear()
    asked = (str(place),) if not suffix else (NAME, place)
    found = pretrained.load(*asked)
    assert tree.sha256(found.variables) == tree.sha256(drawn.variables)
    assert OPENED.count(str(path)) == 1
    parsed = "open_zip" if suffix == ".npz" else "read_header"
    assert counted == {"file_digest": 1, parsed: 1}
    counted.clear(), OPENED.clear()
    init_from.start_from(str(place), drawn.variables, zoo.find(NAME)[1])
    assert OPENED.count(str(path)) == 1
    assert counted == {"file_digest": 1, parsed: 1}


@pytest.mark.parametrize(("layout", "pickles"), [("zip", 1), ("legacy", 5)])
def test_files_of_pytorch_are_opened_once(request, counted, layout, pickles):
    golden = request.path.parents[1] / "golden" / "torch_files"
    path = golden / f"plain_{layout}.pth"
    OPENED.clear()
    with readers.open_file(path) as file:
        arrays = file.arrays.read(file.arrays.shapes)
        again = file.arrays.read(list(file.arrays.shapes)[:1])
    assert set(again) <= set(arrays)
    assert OPENED.count(str(path)) == 1
    zips = {"open_zip": 1} if layout == "zip" else {}
    assert counted == {"file_digest": 1, "load": pickles} | zips
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_hashed_is_what_is_read(drawn, tmp_path):
    """A file that is replaced meanwhile stays the one that was opened."""
    path = tmp_path / "w.safetensors"
    readers.write_safetensors(path, {"w": np.zeros(3, np.float32)}, {"by": "one"})
    first = readers.sha256(path)
    with readers.open_file(path) as file:
        readers.write_safetensors(path, {"w": np.ones(4)}, overwrite=True)
        assert file.metadata == {"by": "one"} and file.sha256 == first
        np.testing.assert_array_equal(file.arrays.read(["w"])["w"], np.zeros(3))
    assert file.sha256 != readers.sha256(path)
    with pytest.raises(ValueError, match="closed file|cannot be read"):
        file.arrays.read(["w"])

"""Sources by the name of their kind, and what is wrong with a name or an option."""

import importlib
import inspect
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import registry, source


@pytest.fixture
def options(tmp_path):
    """Make data of each kind that can be made here; give what opens it."""
    for split in ("train", "test"):
        for label in ("a", "b"):
            place = tmp_path / "folder" / split / label
            place.mkdir(parents=True)
            Image.new("RGB", (4, 4), (9, 8, 7)).save(place / "1.png")
    pictures, labels = np.zeros((4, 4, 4, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "some.npz", x_train=pictures, y_train=labels)
    return {
        "folder": {"path": str(tmp_path / "folder")},
        "npz": {"path": str(tmp_path / "some.npz")},
        "synthetic_parts": {"image_size": 16, "size": 6},
    }


@pytest.mark.parametrize("kind", ["folder", "npz", "synthetic_parts"])
def test_each_kind_opens_and_travels(options, kind):
    opened = registry.open_source(kind, "train", **options[kind])
    assert isinstance(opened, source.Source)
    travelled = cloudpickle.loads(cloudpickle.dumps(opened))
    for index in range(opened.size):
        one, other = opened.read(index), travelled.read(index)
        assert one.keys() == other.keys() == {"image", "label", *opened.annotations}
        for name, value in one.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(other[name]))
        assert opened.labels[index] == one["label"]
        assert opened.name(index) == travelled.name(index)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_can_be_opened_by_a_config(kind):
    """All is given by name, and what the registry itself takes is no option."""
    module, name = registry.KINDS[kind]
    opened = getattr(importlib.import_module(f"unlir_jax.data.{module}"), name)
    parameters = inspect.signature(opened).parameters
    assert "split" in parameters and "kind" not in parameters
    unnamed = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY
    assert all(parameter.kind not in unnamed for parameter in parameters.values())


@pytest.mark.process
def test_worker_processes_need_neither_jax_nor_tensorflow(options, tmp_path):
    """And what they unpickle, they can read."""
    made = [registry.open_source(kind, "train", **options[kind]) for kind in options]
    (tmp_path / "sources").write_bytes(cloudpickle.dumps(made))
    program = (
        "import pickle, pathlib, sys\n"
        "found = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(*(source.read(1)['label'] for source in found))\n"
        "print(sorted({'jax', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "sources")],
        capture_output=True,
        text=True,
        check=True,
    )
    labels = " ".join(str(one.read(1)["label"]) for one in made)
    assert done.stdout.splitlines() == [labels, "[]"]


WRONG = {
    "`kind`='foldr' is not a kind of data; did you mean 'folder'[?] known: folder": (
        "foldr",
        {},
    ),
    "`kind`='' is not a kind of data; known: folder": ("", {}),
    "'pth' is not an option of 'folder' data; did you mean 'path'[?] known: path": (
        "folder",
        {"pth": "."},
    ),
    "'zzz' is not an option of 'npz' data; known: path": ("npz", {"zzz": 1}),
    "`path` is missing for 'folder' data; its options: path, holdout, seed": (
        "folder",
        {"seed": 1},
    ),
    "`name` is missing for 'tfds' data": ("tfds", {}),
    "'path' is not an option of 'synthetic_parts'": ("synthetic_parts", {"path": "."}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_names(message):
    kind, given = WRONG[message]
    with pytest.raises(ValueError, match=message) as caught:
        registry.open_source(kind, "train", **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "npz", "synthetic_parts"])
def test_unknown_split(options, kind):
    with pytest.raises(
        ValueError, match="`split`='trian' is not .*did you mean 'train'"
    ):
        registry.open_source(kind, "trian", **options[kind])

"""Factories of networks by `module:factory`, and what may go wrong with them."""

import sys

import pytest
from PIL import Image

from unlir_jax import cli
from unlir_jax.models import factories
from unlir_jax.runtime import programs

WRAP = """
import unlir_jax
from unlir_jax import split
model = split.from_functions(lambda v, images: images, lambda v, x: x.mean((1, 2)))
"""
SOURCES = {
    "good": WRAP + "make = lambda: unlir_jax.wrap(model, {}, image_size=8, crop=0.5)",
    "prepared": WRAP
    + "import numpy\n"
    + "first = lambda image: numpy.asarray(image)[:8, :8]\n"
    + "make = lambda: unlir_jax.wrap(model, {}, image_size=8, preprocess=first)",
    "cut": WRAP + "make = lambda: model",
    "needy": WRAP + "def make(size, *more, colour=3): ...",
    "number": "make = 3",
    "broken": "def make(: pass",
    "failing": "def make():\n    return [][3]",
    "leaving": "import sys\nsys.exit('usage: leaving FILE')",
    "lacking": "import no_such_package_here.inner\nmake = None",
    "lacking_later": "def make():\n    import no_such_package_here",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with modules, whose names no other test has."""
    inner = tmp_path / "own_factories"
    inner.mkdir()
    for name, source in SOURCES.items():
        (inner / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_factories")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nets:small", True),
        ("my.nets.birds:small_2", True),
        ("resnet50", False),
        ("runs/birds", False),
        ("hf:owner/name", False),
        ("C:/nets", False),
        ("nets:", False),
        (":small", False),
    ],
)
def test_names_of_factories(name, known):
    assert factories.is_factory(name) is known


def test_a_workdir_may_be_called_like_a_factory(folder):
    (folder / "run:1").mkdir()
    (folder / "run:one").mkdir()
    assert not factories.is_factory("run:1")
    assert not factories.is_factory("run:one")


def test_a_factory_in_the_current_folder_is_called():
    before = list(sys.path)
    network = factories.load("own_factories.good:make")
    assert network.name == network.source == "own_factories.good:make"
    assert (network.image_size, network.crop) == (8, 0.5)
    assert sys.path == before
    other = factories.load("own_factories.good:make", crop=1.0)
    assert other.crop == 1.0 and "as asked for" in other.prepared_by


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("good:mak", ValueError, "good.py has no 'mak'; did you mean 'make'"),
        ("nowhere:make", ValueError, "names the module 'own_factories.nowhere', which"),
        ("good.py:make", ValueError, "names the module 'own_factories.good.py', which"),
        ("cut:make", TypeError, "returned a SplitModel; expected what `unlir_jax.wrap"),
        ("needy:make", TypeError, "needs the arguments size; expected a factory"),
        ("number:make", TypeError, "is a int; expected package.module:factory"),
        ("broken:make", ValueError, "fails (SyntaxError: "),
        ("failing:make", ValueError, "'make' fails (IndexError: list index"),
        ("leaving:make", ValueError, "fails (SystemExit: usage: leaving FILE)"),
        ("lacking:make", ImportError, "needs the package 'no_such_package_here'"),
        ("lacking_later:make", ImportError, "needs the package 'no_such_package_here'"),
    ],
)
def test_what_is_wrong_is_a_sentence(name, error, message):
    with pytest.raises(error) as found:
        factories.load(f"own_factories.{name}")
    text = str(found.value)
    assert message in text and "\n" not in text and text.endswith(".")
    assert text.startswith(f"`model`='own_factories.{name}'")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("good", {"layer": "conv"}, "`layer`='conv' is given with `model`="),
        ("good", {"weights": "a.npz"}, "`weights`='a.npz' is given"),
        ("good", {"interpolation": "cubic"}, "`interpolation`='cubic'"),
        ("prepared", {"crop": 0.5}, "has a function that prepares its images"),
    ],
)
def test_what_the_factory_decides_is_not_asked_for(name, settings, message):
    with pytest.raises(ValueError) as found:
        factories.load(f"own_factories.{name}:make", **settings)
    assert message in str(found.value)


@pytest.mark.parametrize("command", ["explain", "evaluate"])
def test_commands_end_with_the_sentence(folder, capsys, monkeypatch, command):
    monkeypatch.setattr(programs, "keep", lambda: None)
    (folder / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "photos" / "a.png")
    own = {
        "explain": ["explain", "photos"],
        "evaluate": ["evaluate", "--config.data.path=photos", "--workdir", "run"]
        + ["--config.labels=predicted"],
    }
    code = cli.main([*own[command], "--model", "own_factories.failing:make"])
    assert code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "list index out of range" in said
    assert not (folder / "run").exists() and not (folder / "explanations").exists()

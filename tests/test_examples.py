"""The examples in the package's docstrings run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import unlir_jax
from unlir_jax import split

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "unlir_jax").rglob("*.py"))
    if ">>> " in file.read_text()
]
SHOWN = (unlir_jax.load, split.whole, split.from_functions, split.from_linen)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 == found.failed


@pytest.mark.parametrize(
    "function", [*SHOWN, split.from_methods, split.from_nnx], ids=lambda f: f.__name__
)
def test_entry_points_have_an_example(function):
    assert ">>> " in function.__doc__

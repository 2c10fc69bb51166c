"""What the benchmark of retrieval computes by itself."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "retrieval.py"


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("retrieval_benchmark", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_no_class_is_on_both_sides_and_choosing_stays_in_one(benchmark):
    names = [f"class {index:02d}" for index in range(51)]
    mine, others = benchmark.halves(names, 0, choose=False)
    assert sorted([*mine, *others]) == names and len(mine) == 25
    first, second = benchmark.halves(names, 0, choose=True)
    assert sorted([*first, *second]) == sorted(mine)
    assert benchmark.halves(names, 1, choose=False)[0] != mine


def test_contrast_agrees_with_loops(benchmark):
    random = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 1, 1, 2])
    rows = random.normal(size=(6, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    losses = []
    for i in range(6):
        every = sum(np.exp(7 * rows[i] @ rows[k]) for k in range(6) if k != i)
        own = [k for k in range(6) if k != i and labels[k] == labels[i]]
        terms = [np.log(np.exp(7 * rows[i] @ rows[k]) / every) for k in own]
        losses.append(-sum(terms) / max(len(own), 1))
    same = (labels[:, None] == labels[None]).astype(np.float32)
    found = benchmark.contrast_loss(rows.astype(np.float32), same, 7.0)
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_gains_are_paired(benchmark):
    labels = np.repeat([0, 1, 2], 20)
    frozen = np.random.default_rng(0).uniform(0.2, 0.8, 60)
    found = {
        ("frozen", "gem", "plain"): frozen,
        ("weighted", "gem", "plain"): frozen + 0.1,
    }
    first, second = benchmark.rows_of(found, labels)
    assert "gain" not in first
    for name in ("gain", "low", "high", "class_low", "class_high"):
        assert second[name] == pytest.approx(10)
    assert second["map"] == pytest.approx(first["map"] + 10)

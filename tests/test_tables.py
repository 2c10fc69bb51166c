"""Tables of the docs are those of the specs."""

import runpy
from pathlib import Path

import numpy as np

from unlir_jax import saliency

ROOT = Path(__file__).parents[1]


def test_tables_of_methods_metrics_attacks_and_scores_are_those_of_their_specs():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    found = set()
    for page in tables["pages"]():
        text = page.read_text("utf-8")
        filled = tables["fill"](text, page.name == "README.md")
        assert filled == text, f"{page}: run python docs/tables.py"
        found.update(name for _, name, _ in tables["BLOCK"].findall(text))
    assert found == {"methods", "metrics", "attacks", "scores"}
    stale = "a\n<!-- generated: metrics -->\n| old |\n<!-- end -->\nb\n"
    filled = tables["fill"](stale, short=True)
    assert "| old |" not in filled and "Insertion ↑" in filled and "ROAD ↑" in filled
    assert "`road`" in tables["fill"](stale)
    assert filled.startswith("a\n<!--") and filled.endswith("<!-- end -->\nb\n")


def test_figures_of_families_show_every_method():
    drawing = runpy.run_path(str(ROOT / "docs" / "figures" / "draw.py"))
    shown = [name for names in drawing["FAMILIES"].values() for name in names]
    assert len(shown) == len(set(shown))
    assert {*shown, *drawing["LEFT_OUT"]} == set(saliency.METHODS)
    raw = np.zeros((1, 8, 8), np.float32)
    raw[0, 2, 3] = -5
    panels = [(str(index), drawing["alone"](raw)) for index in range(3)]
    assert drawing["grid"](panels, 2).size == (306, 346)
    for family in drawing["FAMILIES"]:
        file = ROOT / "docs" / "figures" / f"{family}.png"
        assert file.stat().st_size < 300_000

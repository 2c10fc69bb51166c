"""What the README shows is what happens."""

import re
import runpy
from pathlib import Path

import numpy as np
from PIL import Image

from unlir_jax import saliency

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (64, 80, 3), np.uint8)).save("cat.jpg")
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert "steps=100" in code
    exec(compile(code.replace("steps=100", "steps=2"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("Opti-CAM [")


def test_links_lead_somewhere():
    for file in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
            assert (file.parent / target).exists(), (file.name, target)


def test_the_commands_are_targets():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_tables_of_methods_and_metrics_are_those_of_their_specs():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    found = set()
    for page in tables["pages"]():
        text = page.read_text("utf-8")
        filled = tables["fill"](text, page.name == "README.md")
        assert filled == text, f"{page}: run python docs/tables.py"
        found.update(name for _, name, _ in tables["BLOCK"].findall(text))
    assert found == {"methods", "metrics"}
    stale = "a\n<!-- generated: metrics -->\n| old |\n<!-- end -->\nb\n"
    filled = tables["fill"](stale, short=True)
    assert "| old |" not in filled and "Insertion ↑" in filled and "ROAD ↑" in filled
    assert "`road`" in tables["fill"](stale)
    assert filled.startswith("a\n<!--") and filled.endswith("<!-- end -->\nb\n")


def test_figures_of_families_show_every_method():
    drawing = runpy.run_path(str(ROOT / "docs" / "saliency" / "draw.py"))
    shown = [name for names in drawing["FAMILIES"].values() for name in names]
    assert {*shown, *drawing["LEFT_OUT"]} == set(saliency.METHODS)
    raw = np.zeros((1, 8, 8), np.float32)
    raw[0, 2, 3] = -5
    panels = [(str(index), drawing["alone"](raw)) for index in range(3)]
    page = drawing["grid"](panels, 2)
    assert page.size == (306, 346)
    for family in drawing["FAMILIES"]:
        file = ROOT / "docs" / "saliency" / f"{family}.png"
        assert file.stat().st_size < 300_000

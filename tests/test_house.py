"""The rules of the house, checked on the source itself."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "unlir_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What stands on which floor; imports only go down, or to a file of the same folder.
FLOORS = {
    0: (
        *("types", "tree", "keys", "mesh", "factories", "allocator", "loops"),
        *("config", "defaults", "presets", "progress", "interruption", "usage"),
        *("arguments_of", "console", "documents", "locks", "places", "choices"),
        *("finite", "ranges", "staging", "compilation"),
        *("gates", "pooling"),
    ),
    1: (*("split", "maps", "filters", "losses", "optim", "models", "weights", "data"),),
    2: (
        *("saliency", "metrics", "attacks", "parts", "zoo", "pretrained", "filling"),
        "retrieval",
        "heads",
    ),
    3: (
        *("objectives", "state", "checkpoint", "record", "report", "initial"),
        *("checkpoint_record", "training_notes", "feature_store"),
        *("features", "batches", "journal", "workdir", "preview", "job"),
        *("part_measures", "part_gallery", "part_account", "part_album"),
        "part_document",
        *("part_panels", "part_contrast", "receptive", "trunks", "explainers"),
        *("probe", "probe_choice", "held_out", "origins", "sharing"),
        "part_interventions",
        "explained",
        *("evaluation", "adaptation", "adapters", "pruning"),
    ),
    4: (
        *("train", "evaluate", "explain", "part_report", "catalogue", "conversion"),
        *("few_shot", "retrieve"),
    ),
    5: ("cli",),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
# On one floor a few steps sideways are allowed; all others are not.
SIDEWAYS = {
    *(("pretrained", "zoo"), ("pretrained", "filling"), ("filling", "zoo")),
    *(("zoo", "models"), ("zoo", "weights")),
}
LINEN = ("models", "split")


def room(path):
    """Name the file or folder of the package that a source file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """List the rooms that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "unlir_jax":
                names = [alias.name for alias in node.names]
            elif node.module.startswith("unlir_jax."):
                names = [node.module.removeprefix("unlir_jax.")]
        elif isinstance(node, ast.Import):
            names = [
                alias.name.removeprefix("unlir_jax.")
                for alias in node.names
                if alias.name.startswith("unlir_jax.")
            ]
        found |= {name.split(".")[0] for name in names}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in FLOOR, f"{here} has no floor: give it one in {__file__}"
    for there in imported_rooms(path) - {here}:
        sideways = (here, there) in SIDEWAYS
        below = FLOOR[there] < FLOOR[here]
        within_base = FLOOR[there] == FLOOR[here] == 0
        reads_maps = FLOOR[here] == 1 and there in FLOORS[0]
        report = FLOOR[here] == FLOOR[there] == 3
        assert below or sideways or within_base or reads_maps or report, (
            f"{here} imports {there}"
        )


def test_saliency_and_metrics_do_not_know_each_other_or_the_models():
    for path in FILES:
        if room(path) in ("saliency", "metrics"):
            known = imported_rooms(path) - {room(path)}
            assert not known & {"models", "data", "weights", "metrics", "saliency"}


def test_linen_stays_in_its_folder():
    for path in FILES:
        if "flax" in path.read_text() and room(path) not in LINEN:
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "flax":
                    names = {alias.name for alias in node.names}
                    assert "linen" not in names, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_budget_and_bans(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 400, "a file over 400 lines has two subjects"
    assert path.stem not in ("utils", "helpers", "common"), "no home, no name"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno - len(docstring.splitlines())
            job = room(path) in FLOORS[4]
            assert length <= (150 if job else 50), f"{node.name} has {length} lines"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__", "annotations are read by jaxtyping"
        if isinstance(node, ast.ExceptHandler):
            silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not silent, f"exception swallowed in line {node.lineno}"


def test_json_is_read_in_one_place():
    """Whoever wrote it: `documents` knows what a file of JSON can do to a reader."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("load", "loads"):
                if isinstance(node.value, ast.Name) and node.value.id == "json":
                    found.add(str(path.relative_to(PACKAGE)))
    assert found == {"documents.py"}


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    extras = [
        name for names in project["optional-dependencies"].values() for name in names
    ]
    for requirement in (*project["dependencies"], *extras):
        name = re.split(r"[=<>\[]", requirement)[0]
        assert f"`{name}" in reasons, name


def test_no_machine_paths_in_what_is_shipped():
    for folder in ("unlir_jax", "configs", "launch", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".sh", ".toml"):
                text = path.read_text()
                assert "/work/" not in text and "/root/" not in text, path

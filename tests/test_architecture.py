"""The architecture of the package, checked on its sources."""

import ast
import functools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "unlir_jax"
# The level of every room, which is a folder or a file at the top of the package. A room
# imports rooms of lower levels only; so there is no cycle either.
LEVELS = (
    ("types",),
    ("tree", "core", "statistics"),
    ("storage", "maps"),
    ("split",),
    ("weights", "data", "runtime", "saliency", "metrics", "attacks"),
    ("runs", "models", "detection"),
    ("report", "features", "pruning"),
    ("objectives",),
    ("filters", "parts"),
    ("part_report", "adapters"),
    ("explanation", "filter_report", "retrieval", "training"),
    ("evaluation", "few_shot", "open_set", "weak_detection"),
    ("cli", "adaptation"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# What a command does stands in one function that is read from top to bottom.
JOBS = (
    "train",
    "evaluate",
    "explain",
    "retrieve",
    "adapt",
    "describe_parts",
    "compare_trainings",
    "learn",
    "find",
)


@functools.cache
def trees():
    return {
        path.relative_to(PACKAGE): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def room(path):
    """Name the file or folder at the top of the package that a source belongs to."""
    return path.parts[0].removesuffix(".py")


def imported(tree):
    """List the modules of the package that a source imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".", 1)[1] for name in names if name[:10] == "unlir_jax."}
    return found


def test_imports_only_go_down():
    upward = [
        f"{path} imports {name}"
        for path, tree in trees().items()
        if room(path) != "__init__"
        for name in imported(tree) - {"__version__"}
        if (there := name.split(".")[0]) != room(path)
        and LEVEL[there] >= LEVEL[room(path)]
    ]
    assert not upward


def test_there_are_few_rooms_and_few_files_at_the_top():
    rooms = {room(path) for path in trees()} - {"__init__"}
    assert rooms == set(LEVEL)
    assert len(rooms) <= 34
    assert len([path for path in trees() if len(path.parts) == 1]) <= 8


def test_files_of_a_room_import_each_other_without_a_cycle():
    known = {".".join(path.with_suffix("").parts): path for path in trees()}
    arrows = {
        name: {
            target
            for full in imported(trees()[path])
            for target in (full, full.rpartition(".")[0])
            if target in known and target != name
        }
        for name, path in known.items()
    }
    while free := {name for name, targets in arrows.items() if not targets}:
        arrows = {
            name: targets - free for name, targets in arrows.items() if name not in free
        }
    assert not arrows


def test_linen_stays_in_its_rooms():
    for path, tree in trees().items():
        if room(path) not in ("models", "split"):
            assert not [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                and (
                    node.module == "flax"
                    and "linen" in {alias.name for alias in node.names}
                    or (node.module or "").startswith("flax.linen")
                )
            ], path


def test_a_file_has_one_subject_and_a_function_one_page():
    long = []
    for path, tree in trees().items():
        lines = len((PACKAGE / path).read_text("utf-8").splitlines())
        if lines > 400 or path.stem in ("utils", "helpers", "common"):
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno - len(docstring.splitlines())
                if length > (150 if path.stem in JOBS else 50):
                    long.append(f"{path}: {node.name} has {length} lines")
    assert not long


def test_nothing_is_asserted_or_swallowed():
    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            silent = (
                isinstance(node, ast.ExceptHandler)
                and len(node.body) == 1
                and isinstance(node.body[0], ast.Pass)
            )
            # Annotations are read by jaxtyping.
            future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            if silent or future or isinstance(node, ast.Assert):
                found.append(f"{path}:{node.lineno}")
    assert not found


def test_json_is_read_in_one_place():
    """Whoever wrote it: `documents` knows what a file of JSON can do to a reader."""
    found = {
        str(path)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("load", "loads")
        and isinstance(node.value, ast.Name)
        and node.value.id == "json"
    }
    assert found == {"storage/documents.py"}


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = next((ROOT / "docs").rglob("dependencies.md")).read_text("utf-8")
    extras = [
        name for names in project["optional-dependencies"].values() for name in names
    ]
    for requirement in (*project["dependencies"], *extras):
        name = re.split(r"[=<>\[]", requirement)[0]
        assert name == project["name"] or f"`{name}" in page, name


def test_no_machine_paths_in_what_is_shipped():
    for folder in ("unlir_jax", "configs", "launch", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".sh", ".toml"):
                text = path.read_text("utf-8")
                assert "/work/" not in text and "/root/" not in text, path


@pytest.mark.parametrize(
    "line",
    [
        "from unlir_jax import adapters, config, defaults, filters, presets, pruning",
        "from unlir_jax import maps, metrics, saliency, split",
        "from unlir_jax.adaptation import settings",
        "from unlir_jax.data import synthetic_parts",
        "from unlir_jax.evaluation import settings",
        "from unlir_jax.report import overlay, words",
    ],
)
def test_what_configs_of_version_0_1_import_still_works(line):
    exec(line, {})

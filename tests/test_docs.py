"""What the pages show is what happens: links, commands and code."""

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import documents_world as world
import pytest

from unlir_jax import cli
from unlir_jax.runtime import config

ROOT = world.ROOT
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {line: page for page in world.PAGES for line in world.commands(page)}
SHORT = [line for line in COMMANDS if line.startswith("unlir ") and "…" not in line]
NOT_RUN = {
    "data=elpv": "solar cells have 300 px, and their package is an extra",
    "data=imagenet": "ImageNet is not on this machine",
    "--adapter runs": "needs the adapter of a run of few shots: run by its own test",
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
    config.load(words[words.index("--config") + 1], changed)


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
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.write(folder)
    return folder


def run(line):
    """Run a command of the pages, after those that make what it reads."""
    words = world.shorten(line)
    for needed in re.findall(r"\bruns/\w+", line):
        made = re.search(rf"--workdir {needed}(?= |$)", line)
        if not made and not Path(needed).exists():
            maker = next(x for x in SHORT if re.search(rf"--workdir {needed}$", x))
            run(maker)
    assert cli.main(words[1:]) == 0, words


FAST = ("unlir methods", "unlir models", "unlir explain photos/")


def runs(fast):
    chosen = []
    for line in SHORT:
        if not any(word in line for word in NOT_RUN):
            if line.startswith(FAST) == fast:
                chosen.append(line)
    return chosen


@pytest.mark.parametrize("line", runs(True))
def test_a_quick_command_works_with_tiny_inputs(line, place, monkeypatch):
    monkeypatch.chdir(place)
    run(line)


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", runs(False))
def test_a_command_works_with_tiny_inputs(line, place, monkeypatch):
    monkeypatch.chdir(place)
    run(line)

"""Checks of what `unlir evaluate` is asked, before JAX is imported.

Names and places that stand on the command line are looked at, wherever they stand.
"""

import argparse
import ast
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlir_jax.cli import early
from unlir_jax.evaluation import conditions
from unlir_jax.runtime import config, finished
from unlir_jax.storage import paths

CHOOSING = b"choose("
"""What config files call that take `:model=`, `:methods=` and `:metrics=`."""
SUMMARY, PLACES = "summary.json", {"data.path", "maps", "model.name"}


def check(arguments: argparse.Namespace) -> None:
    """Refuse a config, network, method, metric or place that there is not.

    Raises:
        ValueError: There is no such name or place.
        FileNotFoundError: There is no such config.
    """
    file, _, argument = arguments.config.partition(":")
    text = config.find(file).read_bytes()
    given = list(_overrides(arguments))
    if CHOOSING in text:
        given = [*_arguments(argument), *given]
    skipped = set() if _is_plain(text) else {"methods", "metrics", "options"}
    if arguments.workdir and paths.is_file(Path(arguments.workdir) / SUMMARY):
        # What a finished evaluation began with may be gone by now.
        skipped |= PLACES
    for name, value in given:
        kind = "options" if "_options." in name else name
        if kind not in skipped:
            _check(name, value)


def _is_plain(text: bytes) -> bool:
    """Tell whether a config file imports nothing that may register methods."""
    try:
        return finished.is_self_contained(text)
    except (SyntaxError, ValueError):
        return False  # The job says what is wrong with it.


def _arguments(argument: str) -> Iterator[tuple[str, str]]:
    """Give what stands behind the colon as settings."""
    known = {"model": "model.name", "methods": "methods", "metrics": "metrics"}
    for item in re.split(r",(?![^(\[]*[)\]])", argument):
        name, _, value = (part.strip() for part in item.partition("="))
        if name in known and value:
            yield known[name], value


def _overrides(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for override in arguments.overrides:
        name, equals, value = override.removeprefix("--config.").partition("=")
        if equals or "_options." in name:
            yield name, value
    if arguments.model is not None:
        yield "model.name", arguments.model
    if arguments.maps is not None:
        yield "maps", arguments.maps


def _check(name: str, value: str) -> None:
    if name == "model.name":
        early.network(value)
    elif name == "methods":
        early.methods(_listed(value), name)
    elif name == "metrics":
        early.metrics(_listed(value), name)
    elif name.startswith("method_options."):
        group = name.split(".")[1]
        early.methods([] if group in early.REFINEMENTS else [group], "method_options")
    elif name.startswith("metric_options."):
        early.metrics([name.split(".")[1]], "metric_options")
    elif name in ("classes", "augmentations"):
        conditions.names(name, value)
    elif name == "data.path" and not _exists(value):
        raise ValueError(
            f"`data.path`={paths.shown(value)} does not exist; expected the folder or "
            "file that holds the images."
        )
    elif name == "maps" and value and not paths.is_folder(value):
        raise ValueError(
            f"`maps`={paths.shown(value)} is no folder; expected FOLDER/METHOD/IMAGE"
            ".npz, .npy or .png."
        )


def _exists(value: str) -> bool:
    """Tell whether a place exists; of what is no path, the job says more."""
    return not value or "\0" in value or os.path.lexists(value)


def _listed(value: str) -> Sequence[str]:
    """Read names that are joined by +, or a tuple of them; () of anything else."""
    if value.lstrip()[:1] not in ("(", "[", "{", '"', "'"):
        return [name for name in value.split("+") if name]
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return ()
    found = [found] if isinstance(found, str) else found
    return [each for each in found if isinstance(each, str)]

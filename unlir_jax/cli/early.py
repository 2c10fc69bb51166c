"""Checks of arguments that need neither JAX nor a network, so that they come at once.

Whatever passes is checked again, and exactly, by the job.
"""

import ast
import functools
import glob
import importlib.metadata
import os
import re
from collections.abc import Sequence
from pathlib import Path

import unlir_jax
from unlir_jax.core import choices
from unlir_jax.storage import paths

ROOT = Path(unlir_jax.__file__).parent
PARTS = "parts"
REFINEMENTS = ("walk", "crf")
"""Those of `saliency.REFINEMENTS`, which need JAX."""


def methods(names: Sequence[str] | None, setting: str = "method") -> None:
    """Refuse a name that no explainer has.

    Args:
        names: Names of methods, or synonyms, with a refinement behind @ or without.
        setting: What they are given as.

    Raises:
        ValueError: It is none of this package, and no other package registers any.
    """
    known, synonyms = registered("saliency", "explainer")
    for name in names or ():
        wrong = f"`{setting}`={paths.shown(name)} is not an explainer"
        plain, at, refinement = name.partition("@")
        _known(plain, (*known, PARTS), synonyms, wrong)
        if at and refinement not in REFINEMENTS:
            raise ValueError(
                f"{wrong}; expected one of {', '.join(REFINEMENTS)} behind @."
            )


def metrics(names: Sequence[str] | None, setting: str = "metric") -> None:
    """Refuse a name that no metric has, with a variant behind @ or without.

    Raises:
        ValueError: It is none of this package, and no other package registers any.
    """
    known, synonyms = registered("metrics", "metric")
    for name in names or ():
        wrong = f"`{setting}`={paths.shown(name)} is not a metric"
        _known(name.partition("@")[0], known, synonyms, wrong)


def _known(
    name: str, known: Sequence[str], synonyms: Sequence[str], wrong: str
) -> None:
    if name in known or name in synonyms:
        return
    if importlib.metadata.entry_points(group="unlir_jax"):
        return
    near = choices.meant(name, (*known, *synonyms), 3)
    raise ValueError(f"{wrong}; {near}known: {', '.join(known)}.")


def images(items: Sequence[str]) -> None:
    """Refuse what is asked for if none of it exists.

    Raises:
        ValueError: All are names of files, and there is no such file.
    """
    if items and not any(
        not item or os.path.exists(item) or glob.has_magic(item) for item in items
    ):
        raise ValueError(
            f"Image {paths.shown(items[0])} does not exist; expected an image file."
        )


def network(name: str) -> None:
    """Refuse a name that is no network's, no folder's and no function's.

    Raises:
        ValueError: It is none.
    """
    # Of what may be a path, or a function, the job says more.
    if not re.fullmatch(r"[\w.-]{1,64}", name) or paths.is_folder(name):
        return
    patterns = networks()
    if any(re.fullmatch(pattern.replace("*", r"\w*"), name) for pattern in patterns):
        return
    near = choices.meant(name, patterns)
    raise ValueError(
        f"`name`={paths.shown(name)} is not a network; {near}known, where * is a size: "
        f"{', '.join(patterns)}."
    )


@functools.cache
def registered(room: str, decorator: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List what the sources of a room register, without importing them.

    Args:
        room: "saliency" or "metrics".
        decorator: Name of the decorator that registers.

    Returns:
        Names of factories, and their synonyms.
    """
    names, synonyms = [], []
    for file in sorted((ROOT / room).rglob("*.py")):
        text = file.read_text("utf-8")
        if decorator not in text or file.stem == "spec":
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                roots = {_root(each) for each in node.decorator_list}
                if any(root == decorator or root.isupper() for root in roots):
                    names.append(node.name)
            synonyms += [
                element.value
                for each in ast.walk(node)
                if isinstance(each, ast.keyword)
                and each.arg == "synonyms"
                and isinstance(each.value, ast.Tuple)
                for element in each.value.elts
                if isinstance(element, ast.Constant) and isinstance(element.value, str)
            ]
    return tuple(names), tuple(synonyms)


@functools.cache
def networks() -> tuple[str, ...]:
    """List the names that `models` registers; `*` for a size, or nothing."""
    names = []
    for file in sorted((ROOT / "models").glob("*.py")):
        text = file.read_text("utf-8")
        names += re.findall(r'\bregister\(\s*f?"([^"]+)"', text)
        names += re.findall(r'\bsynonyms=\(f?"([^"]+)"', text)
    return tuple(sorted({re.sub(r"\{\w+\}", "*", name) for name in names}))


def _root(node: ast.expr) -> str:
    """Name what a decorator begins with."""
    while not isinstance(node, ast.Name):
        inner = getattr(node, "func", None) or getattr(node, "value", None)
        if inner is None:
            return ""
        node = inner
    return node.id

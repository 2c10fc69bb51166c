"""Pages on config files, from what these say: subject, commands and settings."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from unlir_jax.core.document_types import Record
from unlir_jax.runtime import config


def summaries() -> dict[str, str]:
    """Give the first line of each packaged config; none of them is run."""
    return {
        name: about(path).partition("\n")[0] for name, path in config.packaged().items()
    }


def about(path: Path) -> str:
    """Read what a config file says at its beginning; "" where it says nothing.

    Raises:
        ValueError: It is no Python.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"Config {str(path)!r} is no Python ({error}); expected a file with a "
            "function `get_config`."
        ) from error
    return ast.get_docstring(tree) or ""


def commands(text: str) -> list[str]:
    r"""List the commands in a docstring, each in one line.

    Example:
        >>> from unlir_jax.runtime import config_pages
        >>> config_pages.commands("Do:\n\n    unlir train \\\n        --workdir a\n")
        ['unlir train --workdir a']
    """
    lines = re.sub(r"\\\n", "", text).splitlines()
    found = [line for line in lines if re.match(r" +unlir \w", line)]
    return [" ".join(line.split()) for line in found]


def describe(text: str) -> Record:
    """Describe a config.

    Args:
        text: As `config.load` takes it: a file, or the name of a packaged config, and
            perhaps its argument.

    Returns:
        `name`, `file`, `summary`, `about` (its docstring), `commands`, `arguments` and
        `settings` with their defaults, and the names of its `variants`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It gives no config.
    """
    name, colon, argument = text.partition(":")
    path = config.find(name)
    listed = {file: known for known, file in config.packaged().items()}
    said = about(path)
    settings = config.load(f"{path}{colon}{argument}")
    return {
        "name": listed.get(path, name),
        "file": str(path),
        "summary": said.partition("\n")[0],
        "about": said,
        "commands": commands(said),
        "arguments": config.arguments(str(path)),
        "variants": list(config.variants(str(path))) if _varies(path) else [],
        "settings": config.to_dict(settings),
    }


def _varies(path: Path) -> bool:
    nodes = ast.parse(path.read_bytes()).body
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "get_variants"
        for node in nodes
    )


def _flat(settings: Record, above: str = "") -> Iterator[tuple[str, object]]:
    """Give settings by their whole names."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def lines(document: Record) -> str:
    """Write what `describe` gives for people, settings as `--config.` takes them."""
    parts = [document["name"], "", inspect.cleandoc(document["about"]), ""]
    for what in ("arguments", "settings"):
        entries = [f"  {k}={v!r}" for k, v in _flat(document[what])]
        parts += [f"{what}, with their defaults:", *(entries or ["  none"]), ""]
    parts += ["variants: " + ", ".join(document["variants"] or ["none"])]
    return "\n".join(parts)

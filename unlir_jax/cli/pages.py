"""A document as lines for people: each entry behind its name, long texts wrapped.

Commands that describe one thing print the same document as JSON.
"""

import textwrap
from collections.abc import Iterator, Mapping

from unlir_jax.core import console
from unlir_jax.core.document_types import Document

WIDTH = 88


def show(document: Document, json: bool = False) -> int:
    """Print a document, as JSON or for people; give the exit code."""
    if json:
        return console.print_json(document)
    console.say("\n".join(lines(document)))
    return console.DONE


def lines(document: Document) -> Iterator[str]:
    r"""Write each entry that says something; groups of entries stand below their name.

    Example:
        >>> from unlir_jax.cli import pages
        >>> list(pages.lines({"name": "rise", "settings": {"masks": 9}}))
        ['name  rise', '\nsettings:', '  masks  9']
    """
    plain = {_title(k): _text(v) for k, v in document.items() if not _is_group(v)}
    yield from _column({title: text for title, text in plain.items() if text})
    for name, value in document.items():
        if _is_group(value) and value:
            yield f"\n{_title(name)}:"
            yield from _column({k: _entry(v) for k, v in value.items()}, "  ")


def _column(entries: Mapping[str, str], indent: str = "") -> Iterator[str]:
    width = max(map(len, entries), default=0)
    for name, text in entries.items():
        head = f"{indent}{name:{width}}  "
        inner = textwrap.wrap(text, WIDTH - len(head)) or [""]
        yield (head + inner[0]).rstrip()
        yield from (" " * len(head) + line for line in inner[1:])


def _title(name: str) -> str:
    return name.replace("_", " ")


def _is_group(value: object) -> bool:
    return isinstance(value, Mapping)


def _entry(value: object) -> str:
    """Write an entry of a group; a setting has a default, other names and a meaning."""
    if not isinstance(value, Mapping):
        return _text(value)
    if "default" not in value:
        return ", ".join(_text(each) for each in value.values())
    others = ", ".join(value["aliases"])
    told = [
        f"{value['default']!r}.",
        str(value["meaning"]),
        f"Also: {others}." if others else "",
    ]
    return " ".join(filter(None, told))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)

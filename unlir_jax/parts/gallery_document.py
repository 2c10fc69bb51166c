"""Checks of a `parts.json` that anybody can have written."""

import math
from collections.abc import Mapping
from typing import Any


def fault(document: Mapping[str, Any]) -> str:
    """Name the first value that a gallery of parts cannot have there; "" if all fit.

    Args:
        document: What the file holds; see `part_gallery.collect` for what it should.
    """
    parts, classes = document.get("parts"), document.get("classes")
    within_parts = _below(len(parts) if isinstance(parts, list) else 0)
    within_classes = _below(len(classes) if isinstance(classes, list) else 0)
    region = {"picture": _is_text, "index": _is_count, "box": _is_box}
    added = {"contribution": _is_number}
    shape = {
        "pictures": _is_count,
        "classes": [_is_text],
        "centres": {"rows": [_is_number], "columns": [_is_number]},
        "parts": [
            {
                "part": within_parts,
                "share": _is_number,
                "strength": _is_number,
                "keypoint": _is_keypoint,
                "classes": [added | {"class": within_classes}],
                "regions": [region],
            }
        ],
        "categories": [
            {
                "class": within_classes,
                "pictures": _is_count,
                "parts": [added | {"part": within_parts, "regions": [region]}],
            }
        ],
    }
    found = _fault(document, shape, "")
    if not found and len(document["categories"]) != len(document["classes"]):
        return "categories"
    return found


def _fault(value: Any, shape: Any, at: str) -> str:
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return at
        inner = ((value.get(name), shape[name], f"{at}.{name}") for name in shape)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return at
        inner = ((item, shape[0], f"{at}[{i}]") for i, item in enumerate(value))
    else:
        return "" if shape(value) else at
    faults = (_fault(item, kind, place.lstrip(".")) for item, kind, place in inner)
    return next(filter(None, faults), "")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_keypoint(value: Any) -> bool:
    wanted = {"name": _is_text, "share": _is_number}
    return value is None or not _fault(value, wanted, "keypoint")


def _below(count: int) -> Any:
    return lambda value: _is_count(value) and value < count

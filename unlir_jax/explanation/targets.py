"""Targets of a report: one network and layer, or several, one after another."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from unlir_jax.data import image_files

LONGEST_TAG = 60


class Target(NamedTuple):
    """Name a network, its weights and the layer that is explained, as asked for.

    Attributes:
        model: Name, workdir or factory, see `factories.load`.
        weights: Its weights; None for its own.
        weights_key: Key of the weights in the file.
        layer: Where it is cut; None for its last maps.
        tag: Short name, different from all others of a report; "" where it is alone.
    """

    model: str
    weights: str | None = None
    weights_key: str = ""
    layer: str | None = None
    tag: str = ""

    @property
    def said(self) -> str:
        """Say which one it is, in an error."""
        return f"{self.model}, layer {self.layer}" if self.layer else self.model


Asked = str | Sequence[str | None] | None
"""One, or one for each network; None or "" for the default."""


def listed(
    model: str | Sequence[str],
    weights: Asked = None,
    weights_key: Asked = "",
    layer: Asked = None,
) -> tuple[Target, ...]:
    """List the networks and layers of a report.

    Several layers apply to one network. Of several networks, each has its own weights
    and layer, in the same order, or all have their defaults.

    Args:
        model: The network, or several.
        weights: Weights of each.
        weights_key: Key of each; one key applies to all.
        layer: Layers of the one network, or a layer for each.

    Raises:
        ValueError: The lists do not fit one another, or a pair comes twice.

    Example:
        >>> from unlir_jax.explanation import targets
        >>> [each.tag for each in targets.listed("vgg16", layer=["block3", "block5"])]
        ['block3', 'block5']
    """
    models = [model] if isinstance(model, str) else list(model)
    if not models or not all(models):
        raise ValueError(f"`model`={models!r}; expected the name of a network.")
    layers = _as_list(layer)
    one = len(models) == 1
    if one:
        models = models * max(len(layers), 1)
    keys = _as_list(weights_key)
    asked = {
        "weights": _as_list(weights) * (len(models) if one else 1),
        "weights_key": keys * (len(models) if len(keys) == 1 else 1),
        "layer": layers,
    }
    for name, values in asked.items():
        if values and len(values) != len(models):
            raise ValueError(_unlike(name, values, models))
    rows = zip(
        *(values or [None] * len(models) for values in asked.values()), strict=True
    )
    found = [
        Target(name, own or None, key or "", place or None)
        for name, (own, key, place) in zip(models, rows, strict=True)
    ]
    for each in found:
        if found.count(each) > 1:
            raise ValueError(
                f"`model` and `layer` ask for {each.said} twice; expected each once."
            )
    tags = _tags(found) if len(found) > 1 else [""]
    return tuple(t._replace(tag=tag) for t, tag in zip(found, tags, strict=True))


def _as_list(value: Asked) -> list[str | None]:
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value)


def _unlike(name: str, values: Sequence[object], models: Sequence[str]) -> str:
    count = len(models)
    of = f"{count} networks" if count > 1 else "one network"
    rule = f"one for each network, in the order of {', '.join(models)}"
    expected = rule if count > 1 else "one"
    return f"`{name}` lists {len(values)} for {of}; expected {expected}, or none."


def _tags(targets: Sequence[Target]) -> list[str]:
    """Name each by its network, by its layer, or by both, whatever tells them apart."""
    models = [_short(target.model) for target in targets]
    layers = [_plain(target.layer or "last") for target in targets]
    if len(set(models)) == len(targets) or len(set(layers)) == 1:
        tags = models
    elif len({target.model for target in targets}) == 1:
        tags = layers
    else:
        tags = [f"{one}-{other}" for one, other in zip(models, layers, strict=True)]
    short = [tag[:LONGEST_TAG] for tag in tags]
    # On a disk that ignores upper and lower case, these would be one file.
    folded = image_files.apart([tag.casefold() for tag in short])
    return [
        tag + other[len(tag) :].replace(" (", "-").rstrip(")")
        for tag, other in zip(short, folded, strict=True)
    ]


def _short(model: str) -> str:
    """Name a network by the last of its path, or by its factory."""
    return _plain(PurePath(model.rpartition(":")[2] or model).name or "network")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "network"


def check_label(label: str | None, classes: Mapping[str, Sequence[str]]) -> None:
    """Refuse an index that means other classes in other networks.

    Args:
        label: What was asked for.
        classes: Names of the classes by network.

    Raises:
        ValueError: It is a number, and the lists of classes differ.
    """
    if label is None or not re.fullmatch(r"\s*[+-]?\d+\s*", label):
        return
    first, *others = classes
    for other in others:
        if tuple(classes[first]) != tuple(classes[other]):
            raise ValueError(
                f"`label`={label!r} is an index, but {first} and {other} have other "
                "lists of classes; expected the name of a class, which each has."
            )

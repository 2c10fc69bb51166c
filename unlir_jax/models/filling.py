"""The variables of a network: drawn at random, or out of the arrays of a file."""

import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.typing import DTypeLike

from unlir_jax import tree
from unlir_jax.core.document_types import Document
from unlir_jax.models import (
    assembly,
    channels,
    drawing,
    heads,
    layers,
    placing,
    positions,
    text_files,
    zoo,
)
from unlir_jax.models.backbone import Network
from unlir_jax.models.shapes import shapes
from unlir_jax.storage import paths as places
from unlir_jax.types import Module, PyTree, Variables
from unlir_jax.weights import (
    exported,
    hub,
    layouts,
    packages,
    preparation,
    readers,
    selection,
)
from unlir_jax.weights.contents import WeightFile

RANDOM = "random"


class Begun(NamedTuple):
    """A network and its variables, whole, and where they come from.

    `source` says where for people, `told` for records, see `paths.told`; `positions`
    is the rule by which positions were resized, "" where they were not; `similarity`
    has `logit_scale` and `logit_bias` of the file, for texts.
    """

    network: Network
    module: Module
    variables: Variables
    made_for: exported.Purpose
    prepared_by: str
    source: str
    key: str
    sha256: str
    trained: int
    told: str
    positions: str = ""
    similarity: Mapping[str, float] = types.MappingProxyType({})


class Wanted(NamedTuple):
    """What is asked of `pretrained.load`; a `name` of "": the one that a file says."""

    name: str
    weights: str | os.PathLike[str] | None
    key: str
    num_classes: int | None
    dtype: DTypeLike | None
    seed: int
    decision: Document
    trunk_only: bool
    image_size: int | None = None
    positions: str | None = None


def draw(wanted: Wanted) -> Begun:
    """Draw an untrained network."""
    name, network = _sized(zoo.find(wanted.name), wanted.image_size)
    _check_positions(wanted.positions, name, network)
    classes = network.classes if wanted.num_classes is None else wanted.num_classes
    module = _build(network, classes, wanted.dtype, wanted.decision)
    variables = drawing.random_variables(module, network, wanted.seed)
    usual = _usual(name, network)
    hashed = tree.sha256(variables)
    by = preparation.USUAL
    begun = network, module, variables, usual, by, RANDOM, ""
    return Begun(*begun, hashed, 0, RANDOM)


def _usual(name: str, network: Network) -> exported.Purpose:
    size, crop, mode = network.image_size, network.crop, network.interpolation
    return exported.Purpose(name, (), size, crop, interpolation=mode)


def _sized(found: tuple[str, Network], image_size: int | None) -> tuple[str, Network]:
    """Make a network for images of another size.

    Raises:
        ValueError: A size that is none.
    """
    name, network = found
    if image_size is None:
        return name, network
    if image_size < 1:
        raise ValueError(f"`image_size`={image_size}; expected at least 1 pixel.")
    return name, network._replace(image_size=image_size)


def read(wanted: Wanted) -> Begun:
    """Read a network's weights out of a file, which is opened once."""
    path = _locate(wanted.name, wanted.weights)
    with readers.open_file(path) as file:
        exported.check_hash(path, file.sha256)
        name = wanted.name or file.metadata.get("network", "")
        return _read(wanted._replace(name=name), file, path)


def _read(wanted: Wanted, file: WeightFile, path: Path) -> Begun:
    wanted = wanted._replace(name=_relative(wanted, file))
    name, network = _sized(zoo.find(wanted.name), wanted.image_size)
    _check_positions(wanted.positions, name, network)
    contents = network.spelt(file.arrays)
    source, seed = str(wanted.weights or path), wanted.seed
    if wanted.weights is None and network.package:
        packages.verify(network.package, path, file.sha256)
    purpose = exported.understand(file.metadata, path)
    _check_origin(file, path, name)
    known = purpose.decision if purpose else {}
    style = wanted.dtype, known, exported.pooling(file.metadata)
    seen = placing.classes_seen(contents.shapes, network)
    usual = _build(network, seen, *style)
    chosen = selection.select(
        contents,
        shapes(usual, network.image_size),
        network.layouts,
        key=wanted.key,
        source=source,
    )
    arrays = selection.take(contents, chosen, source)
    if wanted.name == name:
        name, network = _namesake(name, network, str(wanted.weights), arrays)
    made_for, by = _prepared(name, network, purpose, wanted, path, file)
    if network.positions or assembly.pools(made_for.decision):
        # The grid of its positions, or of what it pools, is that of its images.
        network = network._replace(image_size=made_for.image_size)
    classes = wanted.num_classes
    if classes is None:
        classes = placing.classes_in(arrays, network)
        if chosen.head:
            _check_names(made_for.class_names, classes, source)
    expected = shapes(usual, network.image_size)
    layout, rule = _resize(arrays, file, network, expected, wanted, path.name)
    attributes = {**network.attributes.get(layout, {})}
    attributes |= _attributes(made_for, network, path)
    built = _build(network, classes, *style, attributes)
    module = channels.as_wide_as(built, arrays)
    front = "" if chosen.key == selection.ROOT else chosen.key
    new_head = wanted.trunk_only or wanted.num_classes is not None
    new = {"new_head": new_head, "after": front}
    variables = placing.fill(module, network, arrays, name, source, seed, **new)
    trained = placing.classes_in(arrays, network) if chosen.head else 0
    if wanted.decision and wanted.decision != assembly.specification(module):
        new = _decide(module, variables, network, wanted.decision, seed)
        module, variables, trained = new[0], new[1], trained * new[2]
    told = places.told(source) + chosen.remark
    source += chosen.remark
    loaded = network, module, variables, made_for, by, source, front, file.sha256
    return Begun(*loaded, trained, told, rule, _similarity(file))


def _relative(wanted: Wanted, file: WeightFile) -> str:
    """Name the near relative whose file it is, or the network that is asked for."""
    network = zoo.find(wanted.name)[1]
    return network.relative(file.arrays.shapes) or wanted.name


def _similarity(file: WeightFile) -> dict[str, float]:
    """Read by what CLIP and SigLIP scale their similarities, where a file has it."""
    names = [n for n in file.arrays.shapes if n.endswith(text_files.TERMS)]
    return text_files.terms(file.arrays.read(names)) if names else {}


def _resize(
    arrays: dict[str, np.ndarray],
    file: WeightFile,
    network: Network,
    expected: Mapping[str, PyTree],
    wanted: Wanted,
    name: str,
) -> tuple[str, str]:
    """Bring positions to the grid of a network, in place.

    Returns:
        The layout of the file, and the rule; "" where the positions fit already.
    """
    layout, names = layouts.closest(arrays, expected, network.layouts)
    if network.positions is None:
        return layout, ""
    rule = wanted.positions or network.positions(layout, file.arrays.shapes, name)
    resized = placing.resize_positions(arrays, names, expected, rule)
    return layout, rule if resized else ""


def _attributes(said: exported.Purpose, network: Network, path: Path) -> dict[str, Any]:
    """Give colours and attributes of a header, if a library has these values."""
    for word, value in said.attributes.items():
        values = [each[word] for each in network.attributes.values() if word in each]
        if value not in values:
            raise ValueError(
                f"The header of {str(path)!r} has {word}={value!r:.100}; expected "
                f"{' or '.join(map(repr, values)) or 'no such attribute'}."
            )
    colours = {"mean": said.mean, "deviation": said.deviation}
    return {word: each for word, each in colours.items() if each} | said.attributes


def _check_positions(rule: str | None, name: str, network: Network) -> None:
    """Refuse a rule that is none, or that a network has no use for."""
    if rule is None:
        return
    if network.positions is None:
        raise ValueError(
            f"`positions`={rule!r} for {name}, which has no learned positions; "
            "expected none."
        )
    positions.check(rule)


def _locate(name: str, weights: str | os.PathLike[str] | None) -> Path:
    """Find a network's file of weights, downloaded first where it is on the Hub."""
    if weights is not None:
        return hub.resolve(weights)
    name, network = zoo.find(name)
    path = packages.find(network.package)
    if path is None:
        raise ValueError(
            f"`weights`=None, but no weights of {name} are at hand: "
            f"{packages.advice(network.package)}, or weights='random' for an untrained "
            "network."
        )
    return path


def _check_names(names: Sequence[str], classes: int, source: str) -> None:
    """Refuse names that would belong to other classes."""
    if names and len(names) != classes:
        raise ValueError(
            f"The header of {source!r} names {len(names)} classes, and its classifier "
            f"has {classes}; expected a name for each class."
        )


def _prepared(
    name: str,
    network: Network,
    purpose: exported.Purpose | None,
    wanted: Wanted,
    path: Path,
    file: WeightFile,
) -> tuple[exported.Purpose, str]:
    """Say how images are prepared for a file's weights, and who says so."""
    asked = {} if wanted.image_size is None else {"image_size": wanted.image_size}
    if purpose is not None:
        return purpose._replace(**asked), f"the header of {path.name}"
    usual = _usual(name, network)
    if wanted.weights is None:
        return usual, preparation.USUAL

    def is_other(architecture: str) -> bool:
        ours = zoo.synonyms().get(architecture, architecture)
        return zoo.is_known(ours) and ours not in (name, network.timm)

    said = preparation.find(wanted.weights, path, file, is_other, network.prepared)
    module = network.build()
    colours = {
        word: values
        for word in ("mean", "deviation")
        if (values := getattr(said, word)) and values != tuple(getattr(module, word))
    }
    frame = {
        word: value
        for word in ("image_size", "crop", "interpolation")
        if (value := getattr(said, word)) is not None
    }
    return usual._replace(**colours, **frame | asked), said.origin


def _check_origin(file: WeightFile, path: Path, name: str) -> None:
    """Refuse a file of ours that says it belongs to another network.

    Two networks can have the same names and shapes, as the EfficientNet-Lites do.
    """
    network = file.metadata.get("network", name)
    if file.metadata.get("format") == exported.FORMAT and network != name:
        raise ValueError(
            f"`weights`={str(path)!r} holds weights of {network}, not of {name}; load "
            f"them by that name."
        )


def _namesake(
    name: str, network: Network, weights: str, arrays: Mapping[str, np.ndarray]
) -> tuple[str, Network]:
    """Tell timm's own network of this name from ours in timm's names.

    Tensors of TensorFlow's EfficientNet-Lite and timm's own have the same names and
    shapes, but padding, epsilon and the colours' scale differ. timm calls the one
    `tf_efficientnet_lite0` and the other `efficientnet_lite0`: so does whoever names
    the network or the file.
    """
    stem = layouts.their_name(
        "params/stem/conv/kernel", network.layouts.get("timm", {})
    )
    for other, known in zoo.networks().items():
        ours = any(word in weights for word in network.synonyms)
        if known.timm == name and stem in arrays and not ours:
            return other, known
    return name, network


def _build(
    network: Network,
    classes: int,
    dtype: DTypeLike | None,
    decision: Document,
    pooling: str = "",
    attributes: Mapping[str, Any] = types.MappingProxyType({}),
) -> Module:
    if classes < 1 and network.classes:
        raise ValueError(f"`num_classes`={classes}; expected at least 1.")
    built = network.build(num_classes=classes, **attributes)
    module = layers.with_pooling(built, pooling)
    if dtype is not None:
        module = module.clone(style=module.style._replace(dtype=dtype))
    if not decision:
        return module
    return assembly.assemble(module, decision, classes, network)


def _decide(
    module: Module,
    variables: Variables,
    network: Network,
    decision: Document,
    seed: int,
) -> tuple[Module, Variables, bool]:
    """Put a new decision on the backbone of a network.

    Returns:
        Both, and whether the classifier is the network's own.
    """
    backbone = getattr(module, "backbone", module)
    new = assembly.assemble(backbone, decision, module.num_classes, network)
    drawn = tree.flatten(drawing.random_variables(new, network, seed))
    ours = tree.flatten(variables)
    if not hasattr(module, "backbone"):
        ours = {path.replace("/", "/backbone/", 1): leaf for path, leaf in ours.items()}
    taken = {
        path: ours[path] if "/backbone/" in path else leaf
        for path, leaf in drawn.items()
    }
    kept = _classifier(ours, drawn) if assembly.keeps_classifier(module, new) else {}
    return new, tree.unflatten(taken | kept), bool(kept)


def _classifier(
    ours: Mapping[str, PyTree], drawn: Mapping[str, PyTree]
) -> dict[str, PyTree]:
    """Take a classifier over, whole, where it has the shape of a new one."""
    found = {}
    for path in (each for each in drawn if each.startswith(heads.HEAD)):
        own = ours.get(path, ours.get(path.replace("/", "/backbone/", 1)))
        if np.shape(own) != np.shape(drawn[path]):
            return {}
        found[path] = own
    return found

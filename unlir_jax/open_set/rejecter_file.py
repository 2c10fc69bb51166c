"""The file of a rejecter: what it was fitted to, its thresholds, and its network.

It is `.safetensors` with a header in JSON. Whatever is in it is checked before it is
used, and nothing of it is run.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from unlir_jax.core.document_types import Document
from unlir_jax.open_set import classifier, recogniser
from unlir_jax.open_set import combination as combinations
from unlir_jax.open_set.descriptions import Detectors
from unlir_jax.open_set.rejection import Rejecter
from unlir_jax.open_set.score_names import BEST, score_settings
from unlir_jax.open_set.scores import SCORES
from unlir_jax.parts import clustering
from unlir_jax.storage import documents
from unlir_jax.weights import exported, readers

FILE = exported.REJECTER
FORMAT = "unlir_jax rejecter 1"
MAX_BYTES = 4_000_000_000
# What a header of another shape makes who reads it raise.
_MALFORMED = (
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ValueError,
    ArithmeticError,
)
_WHITENING = clustering.Whitening._fields


class Seen(NamedTuple):
    """Say how a rejecter sees images.

    Attributes:
        network: Name of the frozen network, or the workdir of its training.
        weights: Its weights as they were asked for; "" for its own.
        weights_key: Key of the weights in their file.
        sha256: Hash of the weights.
        pooling: Way to pool its maps.
        unit_length: Whether pooled features get unit length.
        image_size: Side in pixels of the images.
        crop: Share of the shorter side that is kept.
        interpolation: By which images are resized.
        class_names: Names of the known classes.
        score: The score that is used where none is asked for.
    """

    network: str
    weights: str
    weights_key: str
    sha256: str
    pooling: str
    unit_length: bool
    image_size: int
    crop: float
    interpolation: str
    class_names: tuple[str, ...]
    score: str


class Stored(NamedTuple):
    """Hold all that a file of a rejecter has."""

    seen: Seen
    rejecter: Rejecter
    detectors: Detectors | None


def save(path: Path, stored: Stored) -> None:
    """Write a rejecter in place of what is there.

    Raises:
        ValueError: Nothing can be written there.
    """
    rejecter, best = stored.rejecter, stored.rejecter.combination
    arrays = {
        "features": rejecter.train.pooled,
        "labels": rejecter.labels,
        "logits": rejecter.logits,
    }
    if rejecter.train.parts is not None:
        arrays["parts"] = rejecter.train.parts
    if stored.detectors is not None:
        arrays["centres"] = stored.detectors.centres
        for name, values in stored.detectors.whitening._asdict().items():
            arrays[f"whitening/{name}"] = np.asarray(values)
    header = {
        "seen": stored.seen._asdict(),
        "plan": rejecter.plan._asdict(),
        "thresholds": dict(rejecter.thresholds),
        "kept": rejecter.kept,
        "combination": None if best is None else best.record(),
    }
    texts = {"format": FORMAT, "rejecter": json.dumps(header)}
    readers.write_safetensors(path, arrays, texts, overwrite=True)


def load(path: Path) -> Stored:
    """Read a rejecter, and refuse a file that is none or contradicts itself.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no rejecter, or damaged.
    """
    texts = readers.read_metadata(path)
    if texts.get("format") != FORMAT or path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{str(path)!r} is no rejecter; expected a file that `unlir evaluate` with "
            "configs/open_set.py wrote."
        )
    arrays = readers.read(path)
    try:
        header = documents.parse_json(texts.get("rejecter", ""), "its header")
        return _stored(header, arrays)
    except _MALFORMED as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({error}); expected a rejecter as it was "
            "written: delete it and report.html, and the same command makes it again."
        ) from error


def _stored(header: Document, arrays: Mapping[str, np.ndarray]) -> Stored:
    seen, plan = _seen(header["seen"]), _plan(header["plan"])
    features = _floats(arrays, "features", 2)
    labels, classes = arrays["labels"], len(seen.class_names)
    if labels.dtype.kind != "i" or labels.shape != features.shape[:1]:
        raise ValueError("labels are not one integer for each row of features")
    if set(labels.tolist()) != set(range(classes)) or classes < 2:
        raise ValueError("labels are not those of the classes")
    logits = _floats(arrays, "logits", 2)
    if logits.shape != (len(labels), classes):
        raise ValueError("logits are not one for each class of each row")
    parts = _floats(arrays, "parts", 2) if "parts" in arrays else None
    detectors = _detectors(arrays) if "centres" in arrays else None
    if parts is not None and len(parts) != len(features):
        raise ValueError("parts have not as many rows as features")
    if (parts is None) != (detectors is None):
        raise ValueError("parts come without detectors, or these without parts")
    if parts is not None and detectors is not None:
        if parts.shape[1] != 2 * len(detectors.centres):
            raise ValueError("parts are not those of the detectors")
    best = header["combination"]
    combination = None if best is None else combinations.read(best)
    if combination and not set(combination.names) <= set(plan.names):
        raise ValueError("best is of scores that it does not have")
    names = (*plan.names, *([BEST] if combination else []))
    thresholds = {name: _number(header["thresholds"][name]) for name in names}
    if seen.score not in thresholds:
        raise ValueError(f"the score {seen.score!r} has no threshold")
    kept = _number(header["kept"])
    train = recogniser.Described(features, parts)
    known = Rejecter(plan, train, labels, logits, combination, thresholds, kept)
    return Stored(seen, known, detectors)


def _seen(said: Document) -> Seen:
    fields: dict[str, Any] = {name: said[name] for name in Seen._fields}
    fields["class_names"] = tuple(fields["class_names"])
    found = Seen(**fields)
    texts = (*found.class_names, *found[:5], found.interpolation, found.score)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name is no text")
    if not isinstance(found.unit_length, bool):
        raise TypeError("unit_length is neither true nor false")
    exported.check_frame(found.image_size, found.crop, "its header")
    return found


def _plan(said: Document) -> recogniser.Plan:
    names, options = tuple(said["names"]), said["options"]
    for name in names:
        if name not in SCORES:
            raise ValueError(f"{name!r} is no score")
    for name, values in options.items():
        unknown = set(values) - set(score_settings(name))
        if unknown:
            raise ValueError(f"{name!r} has no setting {sorted(unknown)[0]!r}")
    if said["head"] not in get_args(classifier.Kind) or type(said["seed"]) is not int:
        raise ValueError("the head or the seed makes no sense")
    smoothing = _number(said["smoothing"])
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing} is not in [0, 1)")
    return recogniser.Plan(names, options, said["head"], said["seed"], smoothing)


def _detectors(arrays: Mapping[str, np.ndarray]) -> Detectors:
    centres = _floats(arrays, "centres", 2)
    own = {name: _floats(arrays, f"whitening/{name}") for name in _WHITENING}
    mean, matrix = own["mean"], own["matrix"]
    if matrix.ndim != 2 or mean.shape != matrix.shape[:1]:
        raise ValueError("the whitening is not [channels] and [channels, dimensions]")
    if matrix.shape[1] != centres.shape[1]:
        raise ValueError("centres have other dimensions than the whitening")
    explained = float(own["explained"].ravel()[0])
    whitening = clustering.Whitening(mean, matrix, own["variance"], explained)
    return Detectors(whitening, centres)


def _floats(arrays: Mapping[str, np.ndarray], name: str, axes: int = 0) -> np.ndarray:
    values = arrays[name]
    if values.dtype.kind != "f" or (axes and values.ndim != axes) or not values.size:
        raise ValueError(f"{name} has the type {values.dtype} and shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} is not finite")
    return values


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(float(str(value))):
        raise ValueError(f"{value!r} is no finite number")
    return float(str(value))

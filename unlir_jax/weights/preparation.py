"""Preparation of images for weights, as the file or its publisher states it."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unlir_jax.core.document_types import Document, Record
from unlir_jax.storage import documents
from unlir_jax.weights import exported, hub
from unlir_jax.weights.contents import WeightFile

CONFIG = "config.json"
USUAL = "usual for the network"

_KEYS = ("input_size", "crop_pct", "interpolation", "mean", "std", "crop_mode")


class Preparation(NamedTuple):
    """Say how images are prepared; None where nothing is said.

    Attributes:
        image_size: Side in pixels.
        crop: Share of the shorter side that the central crop keeps.
        interpolation: See `preprocessing.INTERPOLATIONS`.
        mean: Mean of the colours in [0, 1], which is subtracted.
        deviation: Standard deviation of the colours, the divisor.
        origin: Who says so.
    """

    image_size: int | None = None
    crop: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    origin: str = USUAL


TORCHVISION_V2 = Preparation(224, 224 / 232, origin="torchvision's IMAGENET1K_V2")
"""Of torchvision's IMAGENET1K_V2 weights, which are resized to 232 and cut to 224
pixels where V1's are resized to 256 (torchvision 0.28, `models/resnet.py` and
`models/mobilenetv2.py`)."""


def find(
    weights: object,
    path: Path,
    file: WeightFile,
    is_other: Callable[[str], bool],
    prepared: Mapping[str, Preparation],
) -> Preparation:
    """Look for what is said of a file of weights, the nearest to it first.

    That is the header of a safetensors file, timm's `config.json` (of the repository on
    the Hub, or next to the file), and what is known of published files.

    Args:
        weights: As they were asked for: a path or `hf:owner/name`.
        path: Path of the file.
        file: Itself.
        is_other: Tells whether an architecture is another network that is known here.
        prepared: What is known of files by the first digits of their SHA-256, which
            may end the file's name as well.

    Raises:
        ValueError: What is said makes no sense, or cannot be followed.
    """
    found = _of_timm(_decoded(file.metadata), f"the header of {path.name}")
    if found is not None:
        return found
    try:
        config = hub.companion(weights, path, CONFIG)
    except ConnectionError as error:
        return Preparation(origin=f"{USUAL}, as {CONFIG} cannot be reached: {error}")
    if config is not None:
        written = _read(config)
        architecture = written.get("architecture")
        if isinstance(architecture, str) and not is_other(architecture):
            found = _of_timm(written, f"{CONFIG} of {architecture}")
            if found is not None:
                return found
    parts = re.split(r"[-.]", path.name)
    for digits, known in prepared.items():
        if file.sha256.startswith(digits) or digits in parts:
            return known
    return Preparation()


def _decoded(metadata: Mapping[str, str]) -> Record:
    """Give the entries of a header that are about images, as the values they are."""
    found: Record = {}
    for key in ("pretrained_cfg", *_KEYS):
        if key in metadata:
            try:
                found[key] = documents.parse_json(metadata[key], key)
            except ValueError:
                found[key] = metadata[key]  # A bare word is itself.
    return found


def _read(config: Path) -> Record:
    written = documents.read_json(
        config,
        "JSON that may say how images are prepared for the weights beside it, or no "
        "such file",
    )
    return written if isinstance(written, dict) else {}


def _of_timm(written: Document, origin: str) -> Preparation | None:
    """Read timm's words (1.0.31): the words of `pretrained_cfg`, or older files' own.

    As timm does unless it is asked for a test size, `input_size` and `crop_pct` count,
    not `test_input_size` and `test_crop_pct`.
    """
    inner = written.get("pretrained_cfg")
    says = inner if isinstance(inner, dict) else written
    says = {key: says[key] for key in _KEYS if says.get(key) is not None}
    if not says:
        return None
    if says.get("crop_mode", "center") != "center":
        raise _refusal(origin, "crop_mode", says["crop_mode"], "'center'")
    size = says.get("input_size")
    if size is not None and not (
        isinstance(size, list | tuple)
        and len(size) == 3
        and all(type(side) is int and side > 0 for side in size)
        and size[0] == 3
        and size[1] == size[2]
    ):
        raise _refusal(origin, "input_size", size, "[3, side, side]")
    crop = says.get("crop_pct")
    if crop is not None and not (_is_number(crop) and 0 < crop <= 1):
        raise _refusal(origin, "crop_pct", crop, "a share in (0, 1]")
    exported.check_frame(size[1] if size else 1, 1.0 if crop is None else crop, origin)
    interpolation = says.get("interpolation")
    if interpolation is not None and not isinstance(interpolation, str):
        raise _refusal(origin, "interpolation", interpolation, "a word")
    mean, deviation = (says.get(key) for key in ("mean", "std"))
    least, most = exported.COLOURS
    for key, values, bounds in (
        ("mean", mean, (-most, most)),
        ("std", deviation, (least, most)),
    ):
        if values is not None and not (
            isinstance(values, list | tuple)
            and len(values) == 3
            and all(_is_number(v) and bounds[0] <= v <= bounds[1] for v in values)
        ):
            raise _refusal(origin, key, values, "three numbers")
    return Preparation(
        size[1] if size else None,
        None if crop is None else float(crop),
        interpolation,
        None if mean is None else tuple(map(float, mean)),
        None if deviation is None else tuple(map(float, deviation)),
        origin,
    )


def _is_number(value: Any) -> bool:
    # What is compared with NaN is not so; a whole number may be too long for a float.
    return type(value) in (int, float) and -math.inf < value < math.inf


def _refusal(origin: str, key: str, value: object, expected: str) -> ValueError:
    return ValueError(
        f"{origin} has {key}={value!r:.100}, which is not done here; expected "
        f"{expected}: correct or remove it."
    )

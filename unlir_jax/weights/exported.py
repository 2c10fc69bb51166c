"""A trained network as one file: its weights, and in the header what they are for."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Record
from unlir_jax.storage import documents, paths
from unlir_jax.types import Array
from unlir_jax.weights import readers

FILE = "weights.safetensors"
REJECTER = "rejecter.safetensors"
"""What an evaluation of open sets leaves, which `unlir explain` takes for a network."""
SUMMARY = "summary.json"
FORMAT = "unlir_jax"

MAX_IMAGE_SIZE, MIN_CROP, MAX_RESIZED = 4_096, 0.05, 8_192
"""Bounds of what a file may ask for: the side of its images, the share that is kept,
and the shorter side that an image then gets, which is one by the other."""

COLOURS = 1e-6, 1e6
"""Bounds of the deviation of colours, and of their mean."""

_WROTE = "expected one that `unlir train` wrote"


class Purpose(NamedTuple):
    """Say what weights are for.

    Attributes:
        network: The name of the network.
        class_names: One name a class.
        image_size: Side in pixels of the images it was trained for.
        crop: Share of the shorter side that the central crop keeps.
        decision: How a part network decides, see `models.parts.assemble`; {} where the
            network's own classifier does.
        interpolation: See `preprocessing.INTERPOLATIONS`.
        mean: Mean of the colours, where it is not the network's usual one.
        deviation: Standard deviation of the colours, where it is another.
        pooling: How its head pools the maps, one of `models.layers.POOLS`; "" for the
            network's usual way.
        attributes: In what else the network differs from the usual one, such as the
            epsilon of its norms.
    """

    network: str
    class_names: tuple[str, ...]
    image_size: int
    crop: float
    decision: Record = {}
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    pooling: str = ""
    attributes: Record = {}


def write(
    folder: str | os.PathLike[str], leaves: Mapping[str, Array], purpose: Purpose
) -> Path:
    """Write the weights of a finished training into its folder.

    Args:
        folder: The workdir; a file of weights in it is replaced.
        leaves: Arrays by path.
        purpose: What they are for.
    """
    path = Path(folder) / FILE
    readers.write_safetensors(path, leaves, metadata(purpose), overwrite=True)
    return path


def metadata(purpose: Purpose) -> dict[str, str]:
    """Put in the words of a header what weights are for; `purpose` reads them."""
    said = {
        "format": FORMAT,
        "network": purpose.network,
        "class_names": json.dumps(purpose.class_names, ensure_ascii=False),
        "image_size": str(purpose.image_size),
        "crop": repr(purpose.crop),
        "interpolation": purpose.interpolation,
    }
    if purpose.decision:
        said["decision"] = json.dumps(purpose.decision)
    for name in ("mean", "deviation"):
        if getattr(purpose, name):
            said[name] = json.dumps(getattr(purpose, name))
    if purpose.pooling:
        said["pooling"] = purpose.pooling
    if purpose.attributes:
        said["attributes"] = json.dumps(purpose.attributes)
    return said


def find(folder: str | os.PathLike[str]) -> Path:
    """Find the weights in the workdir of a finished training.

    Raises:
        ValueError: The folder is none, or the training is not finished.
    """
    paths.check(folder, "workdir")
    path = Path(folder) / FILE
    if path.is_file():
        return path
    if (Path(folder) / "config.json").is_file() and not has_rejecter(folder):
        raise ValueError(
            f"The training in {str(folder)!r} is not finished; expected one that is: "
            "give its `unlir train` command again to go on with it."
        )
    if has_rejecter(folder):
        raise ValueError(
            f"Folder {str(folder)!r} is of an evaluation of open sets, which only "
            "`unlir explain` takes for a network; expected the workdir of a finished "
            "training, or the name of a network (see `unlir models`)."
        )
    raise ValueError(
        f"Folder {str(folder)!r} holds no {FILE}; expected the workdir of a finished "
        "training, or the name of a network (see `unlir models`)."
    )


def has_rejecter(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds a rejecter, and no weights of its own."""
    # What is no path has none, and is complained of where it is read.
    holds = [os.path.isfile(os.path.join(folder, name)) for name in (REJECTER, FILE)]
    return holds == [True, False]


def header(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the header of a file in our own format; {} of any other."""
    ours = Path(path).suffix == Path(FILE).suffix
    return readers.read_metadata(path) if ours else {}


def pooling(said: Mapping[str, str]) -> str:
    """Say of a header how the head of a network pools; "" in its usual way."""
    return said.get("pooling", "") if said.get("format") == FORMAT else ""


def purpose(path: str | os.PathLike[str]) -> Purpose | None:
    """Read what a file of weights is for; see `understand`."""
    return understand(header(path), path)


def understand(said: Mapping[str, str], path: str | os.PathLike[str]) -> Purpose | None:
    """Say of a file's header what its weights are for; None where it does not say.

    Raises:
        ValueError: It says so in a way that makes no sense.
    """
    if said.get("format") != FORMAT or "class_names" not in said:
        return None
    try:
        parsed = {
            word: documents.parse_json(said.get(word, usual), f"its `{word}`", kind)
            for word, usual, kind in (
                ("class_names", "[]", "a list of texts"),
                ("decision", "{}", "an object"),
                ("mean", "[]", "three numbers"),
                ("deviation", "[]", "three numbers"),
                ("attributes", "{}", "an object"),
            )
        }
        names = parsed["class_names"]
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError("its `class_names` are no list of texts")
        found = Purpose(
            said["network"],
            tuple(names),
            int(said["image_size"]),
            float(said["crop"]),
            dict(parsed["decision"]),
            # Files of older builds do not say; they were made by bilinear ones.
            said.get("interpolation", "bilinear"),
            *(
                tuple(float(value) for value in parsed[name])
                for name in ("mean", "deviation")
            ),
            pooling=pooling(said),
            attributes=dict(parsed["attributes"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"The header of {str(path)!r} cannot be understood "
            f"({type(error).__name__}: {str(error)[:200]}); {_WROTE}."
        ) from error
    check_frame(found.image_size, found.crop, f"The header of {str(path)!r}")
    least, most = COLOURS
    sensible = len(found.mean) in (0, 3) and len(found.deviation) in (0, 3)
    sensible &= all(abs(value) <= most for value in found.mean)
    sensible &= all(least <= value <= most for value in found.deviation)
    if not sensible:
        raise ValueError(
            f"The header of {str(path)!r} has mean={found.mean!s:.100}, "
            f"deviation={found.deviation!s:.100}; expected three finite numbers or "
            "none, the deviations above 0."
        )
    return found


def check_frame(image_size: int, crop: float, origin: str) -> None:
    """Refuse a size of images, or a crop, that no network was trained with.

    Raises:
        ValueError: It is one, see `MAX_IMAGE_SIZE`.
    """
    if not (
        1 <= image_size <= MAX_IMAGE_SIZE
        and MIN_CROP <= crop <= 1
        and math.ceil(image_size / crop) <= MAX_RESIZED
    ):
        raise ValueError(
            f"{origin} has image_size={image_size} and crop={crop}; expected a size "
            f"from 1 to {MAX_IMAGE_SIZE:,}, a crop from {MIN_CROP} to 1, and their "
            f"ratio at most {MAX_RESIZED:,}."
        )


def check_hash(path: str | os.PathLike[str], sha256: str) -> None:
    """Refuse weights of a finished training that are not those it ended with.

    Args:
        path: Path of the file; in a workdir, the summary next to it holds its hash.
        sha256: Hash of the file, as it is now.

    Raises:
        ValueError: The summary says another hash, or cannot be read.
    """
    summary = Path(path).with_name(SUMMARY)
    if Path(path).name != FILE or not summary.is_file():
        return
    known = documents.read_json(summary, "the summary that `unlir train` wrote")
    noted = known.get("weights_sha256") if isinstance(known, dict) else None
    if isinstance(noted, str) and noted != sha256:
        raise ValueError(
            f"`weights`={str(path)!r} has the SHA-256 {sha256}, but {SUMMARY} beside "
            f"it says {noted[:64]}: they are damaged or were replaced; expected those "
            "that the training wrote, or a file in another folder."
        )

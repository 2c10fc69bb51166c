"""A trained network as one file: its weights, and in the header what they are for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unlir_jax.weights import readers

FILE = "weights.safetensors"
FORMAT = "unlir_jax"


class Purpose(NamedTuple):
    """Say what weights are for.

    Attributes:
        network: The name of the network.
        class_names: One name a class.
        image_size: Side in pixels of the pictures it was trained for.
        crop: Share of the shorter side that the central crop keeps.
        decision: How a part network decides, see `models.parts.assemble`; {} where the
            network's own classifier does.
        interpolation: See `preprocessing.INTERPOLATIONS`.
        mean: Of the colours, where it is not the network's usual one.
        deviation: Likewise.
        pooling: How its head pools the maps, one of `models.layers.POOLS`; "" for the
            network's usual way.
    """

    network: str
    class_names: tuple[str, ...]
    image_size: int
    crop: float
    decision: dict[str, Any] = {}
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    pooling: str = ""


def write(
    folder: str | os.PathLike[str], leaves: Mapping[str, Any], purpose: Purpose
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
    return said


def find(folder: str | os.PathLike[str]) -> Path:
    """Find the weights in the workdir of a finished training.

    Raises:
        ValueError: The folder is none, or the training is not finished.
    """
    path = Path(folder) / FILE
    if path.is_file():
        return path
    if (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"The training in {str(folder)!r} is not finished; expected one that is: "
            "give its `unlir train` command again to go on with it."
        )
    raise ValueError(
        f"Folder {str(folder)!r} holds no {FILE}; expected the workdir of a finished "
        "training, or the name of a network (see `unlir models`)."
    )


def pooling(path: str | os.PathLike[str]) -> str:
    """Read how the head of a network pools; "" in its usual way, or not said."""
    if Path(path).suffix != ".safetensors":
        return ""
    metadata = readers.read_metadata(path)
    return metadata.get("pooling", "") if metadata.get("format") == FORMAT else ""


def purpose(path: str | os.PathLike[str]) -> Purpose | None:
    """Read what a file of weights is for; None where it does not say.

    Raises:
        ValueError: It says so in a way that makes no sense.
    """
    if Path(path).suffix != ".safetensors":
        return None
    said = readers.read_metadata(path)
    if said.get("format") != FORMAT or "class_names" not in said:
        return None
    try:
        names = json.loads(said["class_names"])
        found = Purpose(
            said["network"],
            tuple(names),
            int(said["image_size"]),
            float(said["crop"]),
            dict(json.loads(said.get("decision", "{}"))),
            # Files of older builds do not say; they were made by bilinear ones.
            said.get("interpolation", "bilinear"),
            *(
                tuple(float(v) for v in json.loads(said.get(name, "[]")))
                for name in ("mean", "deviation")
            ),
            pooling=pooling(path),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The header of {str(path)!r} cannot be understood "
            f"({type(error).__name__}: {error}); expected one that `unlir train` wrote."
        ) from error
    sensible = found.image_size >= 1 and 0 < found.crop <= 1
    sensible &= len(found.mean) in (0, 3) and len(found.deviation) in (0, 3)
    sensible &= all(value > 0 for value in found.deviation)
    if not sensible or not all(isinstance(name, str) for name in found.class_names):
        raise ValueError(
            f"The header of {str(path)!r} has image_size={found.image_size}, "
            f"crop={found.crop}, mean={found.mean}, deviation={found.deviation} and "
            f"{len(found.class_names)} classes; expected a size from 1, a crop in "
            "(0, 1], three colours or none, and classes by name."
        )
    return found

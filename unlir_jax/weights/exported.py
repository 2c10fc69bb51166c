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
        pooling: How its head pools the maps, one of `models.layers.POOLS`; "" for the
            network's usual way.
    """

    network: str
    class_names: tuple[str, ...]
    image_size: int
    crop: float
    decision: dict[str, Any] = {}
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
    metadata = {
        "format": FORMAT,
        "network": purpose.network,
        "class_names": json.dumps(purpose.class_names, ensure_ascii=False),
        "image_size": str(purpose.image_size),
        "crop": repr(purpose.crop),
    }
    if purpose.decision:
        metadata["decision"] = json.dumps(purpose.decision)
    if purpose.pooling:
        metadata["pooling"] = purpose.pooling
    readers.write_safetensors(path, leaves, metadata, overwrite=True)
    return path


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
    metadata = readers.read_metadata(path)
    if metadata.get("format") != FORMAT or "class_names" not in metadata:
        return None
    try:
        names = json.loads(metadata["class_names"])
        found = Purpose(
            metadata["network"],
            tuple(names),
            int(metadata["image_size"]),
            float(metadata["crop"]),
            dict(json.loads(metadata.get("decision", "{}"))),
            pooling(path),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The header of {str(path)!r} cannot be understood "
            f"({type(error).__name__}: {error}); expected one that `unlir train` wrote."
        ) from error
    sensible = found.image_size >= 1 and 0 < found.crop <= 1
    if not sensible or not all(isinstance(name, str) for name in found.class_names):
        raise ValueError(
            f"The header of {str(path)!r} has image_size={found.image_size}, "
            f"crop={found.crop} and {len(found.class_names)} classes; expected a "
            "size from 1, a crop in (0, 1] and classes by name."
        )
    return found

"""Write a network's weights in our own layout."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax import tree
from unlir_jax.models import pretrained
from unlir_jax.storage import paths, staging
from unlir_jax.weights import exported, readers

SUFFIX = ".safetensors"


class Written(NamedTuple):
    """Say what a converted file holds."""

    network: str
    arrays: int
    numbers: int
    sha256: str


def convert(
    name: str,
    weights: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    weights_key: str = "",
    overwrite: bool = False,
) -> Written:
    """Read weights in any known layout and write them as `.safetensors` in ours.

    Loading the written file gives the same variables, bit for bit.

    Args:
        name: Name of the network.
        weights: A file or `hf:owner/name`, as for `pretrained.load`.
        output: A file name that ends in `.safetensors`.
        num_classes: Size of the classifier; where the file's differs, it is new.
        weights_key: Which weights of a file that holds several.
        overwrite: Whether a file at `output` may be replaced.

    Raises:
        FileNotFoundError: There is no such file of weights.
        FileExistsError: There is a file at `output`, and no `overwrite`.
        ValueError: An unknown network, weights that do not fit, or an output that
            cannot be written.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"`output`={str(path)!r}; expected a name that ends in {SUFFIX}."
        )
    paths.check(path, "output")
    staging.sweep(path.parent)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"`output`={str(path)!r} exists; expected a new name, or --overwrite."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"`output`={str(path)!r} lies in a folder that does not exist."
        )
    network = pretrained.load(
        name, weights, num_classes=num_classes, weights_key=weights_key
    )
    leaves = {
        leaf: np.asarray(array)
        for leaf, array in tree.flatten(network.variables).items()
    }
    metadata = exported.metadata(pretrained.purpose(network)) | {
        "source": network.source,
        "sha256": network.sha256,
    }
    readers.write_safetensors(path, leaves, metadata, overwrite=overwrite)
    return Written(network.name, len(leaves), tree.count(leaves), readers.sha256(path))

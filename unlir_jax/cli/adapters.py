"""What `unlir adapters apply`, `merge`, `diff` and `explain` do."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.adapters import arithmetic, file
from unlir_jax.adapters import network as networks
from unlir_jax.models import pretrained
from unlir_jax.weights import exported, readers


def command(
    given: Any, progress: Callable[[str, float], None]
) -> tuple[str, list[str]]:
    """Do what the arguments of `unlir adapters` ask for.

    Args:
        given: See `arguments_of.adapters`.
        progress: Told how far `explain` is.

    Returns:
        What to print, and a sentence for each picture that could not be read.

    Raises:
        FileExistsError: A file is there, and no `overwrite`.
        FileNotFoundError: A file is missing.
        ValueError: Anything does not fit.
    """
    if given.way == "diff":
        return diff_command(given.first, given.second, layers=given.layers), []
    if given.way == "merge":
        some, target = given.adapters, given.output
        return merge_command(some, target, overwrite=given.overwrite), []
    if given.way == "apply":
        what = given.name, given.weights, given.adapter, given.output
        key = given.weights_key
        return apply_command(*what, weights_key=key, overwrite=given.overwrite), []
    # Draws, and so imports what the others do without.
    from unlir_jax.filter_report import describe_filters

    found = describe_filters.run(
        given.adapter,
        given.images,
        given.output,
        weights=given.weights,
        weights_key=given.weights_key,
        count=given.filters,
        overwrite=given.overwrite,
        white_level=given.white_level,
        progress=progress,
    )
    text = f"Explained {given.adapter}: open {found.folder / describe_filters.PAGE}"
    return text, [each["error"] for each in found.failed]


def apply_command(
    name: str,
    weights: str | os.PathLike[str] | None,
    adapter: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights_key: str = "",
    overwrite: bool = False,
) -> str:
    """Write a network with an adapter folded in, in our layout; say what was done.

    Raises:
        FileExistsError: There is a file at `output`, and no `overwrite`.
        FileNotFoundError: A file is missing.
        ValueError: Anything does not fit.
    """
    output = file.output(output, overwrite)
    chosen = file.load(adapter)
    frozen = pretrained.load(name, weights, weights_key=weights_key, trunk_only=True)
    network = networks.apply(chosen, frozen)
    metadata = exported.metadata(pretrained.purpose(network)) | {
        "adapter": readers.sha256(adapter),
        "source": network.source,
    }
    leaves = tree.flatten(jax.tree.map(np.asarray, network.variables))
    readers.write_safetensors(output, leaves, metadata, overwrite=overwrite)
    head = (
        "its head"
        if networks.decides(chosen, frozen)
        else "the network's own classifier"
    )
    count = tree.count(chosen.weights)
    return f"Wrote {network.name} with {count:,} weights folded in and {head}."


def merge_command(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    overwrite: bool = False,
) -> str:
    """Write the average of several adapters; say what was done.

    Raises:
        FileExistsError: There is a file at `output`, and no `overwrite`.
        FileNotFoundError: A file is missing.
        ValueError: Anything does not fit.
    """
    output = file.output(output, overwrite)
    merged = arithmetic.merge([file.load(path) for path in paths], weights)
    file.save(output, **merged._asdict(), head_type="int8", overwrite=overwrite)
    head = "with their heads" if merged.head else "without heads"
    return f"Wrote the average of {len(paths)} adapters of {merged.backbone}, {head}."


def diff_command(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    most: int = 3,
    layers: int = 0,
) -> str:
    """Tabulate how far two adapters differ, the layer that differs most in front.

    Args:
        first: A file.
        second: A file.
        most: How many filters are listed of each layer.
        layers: How many layers are listed, 0 for all.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: They are of different networks or layers.
    """
    rows = arithmetic.diff(file.load(first), file.load(second), most)
    texts = [
        ("layer", "weights", "distance", "correlation", "most: filter first second")
    ]
    for row in rows[: layers or None]:
        places = "  ".join(f"{i} {one:.3f} {other:.3f}" for i, one, other in row.most)
        numbers = f"{row.distance:.4f}", f"{row.correlation:.3f}"
        texts.append((row.layer, str(row.filters), *numbers, places))
    widths = [max(len(text[column]) for text in texts) for column in range(4)]
    return "\n".join(
        "  ".join(
            [text[0].ljust(widths[0])]
            + [text[column].rjust(widths[column]) for column in (1, 2, 3)]
            + [text[4]]
        )
        for text in texts
    )

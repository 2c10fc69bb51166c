"""Where training starts from: weights of another run, as far as they fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlir_jax import checkpoint, tree, zoo
from unlir_jax.objectives import filter_weights
from unlir_jax.weights import exported, hub, layouts, readers


class Start(NamedTuple):
    """Hold variables to start from, and what became of each name.

    Attributes:
        variables: All of the network's.
        taken: Paths that come from elsewhere.
        kept: Paths that nothing there was for.
        misshaped: Paths that are of another shape there, and why they were kept.
        unused: Names there that the network does not have.
    """

    variables: dict[str, Any]
    taken: list[str]
    kept: list[str]
    misshaped: list[str]
    unused: list[str]

    def sentences(self) -> list[str]:
        """Say it, name by name."""
        total = len(self.taken) + len(self.kept) + len(self.misshaped)
        lines = [f"init_from: {len(self.taken)} of {total} arrays are taken."]
        for what, names in (
            ("not there, kept as they are", self.kept),
            ("of another shape there, kept as they are", self.misshaped),
            ("there, but not in this network", self.unused),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return lines


def start_from(place: str, variables: Mapping[str, Any], network: zoo.Network) -> Start:
    """Replace variables by those of another run or file that have their name and shape.

    Args:
        place: A file of weights or `hf:owner/name`, in any layout that `load` reads; a
            workdir, whose final weights, or else newest checkpoint, are taken; or one
            checkpoint of it, `WORKDIR/checkpoints/STEP`.
        variables: Of this network.
        network: Which it is.

    Raises:
        FileNotFoundError: There is no such place.
        ValueError: Nothing there fits, or it cannot be read.
    """
    expected = tree.flatten(variables)
    if Path(place).is_dir():
        arrays = _read_folder(Path(place))
    else:
        arrays = readers.read(hub.resolve(place))
    leaves, fit = layouts.translate(arrays, expected, network.layouts)
    shapes = {path: np.shape(leaf) for path, leaf in expected.items()}
    taken = [path for path in expected if path in leaves]
    if not taken:
        raise ValueError(
            f"`init_from`={place!r} has nothing for this network: of its "
            f"{len(arrays)} arrays ({', '.join(list(arrays)[:4])}, …) none has the "
            "name and shape of one here; expected weights of the same network."
        )
    broken = [path for path in taken if not np.isfinite(leaves[path]).all()]
    if broken:
        raise ValueError(
            f"`init_from`={place!r} holds values that are not finite in "
            f"{', '.join(broken)}; expected numbers."
        )
    wrong = {text.split(" for ")[1].split(" ")[0]: text for text in fit.misshaped}
    started = {
        path: np.asarray(leaves[path], leaf.dtype) if path in leaves else leaf
        for path, leaf in expected.items()
    }
    return Start(
        tree.unflatten(started),
        taken,
        [path for path in shapes if path not in leaves and path not in wrong],
        list(wrong.values()),
        list(fit.unexpected),
    )


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    if (folder / exported.FILE).is_file():
        return readers.read(folder / exported.FILE)
    state = checkpoint.read_arrays(folder)
    known = {"params": state["params"], "batch_stats": state.get("statistics") or {}}
    # Files of weights are plain networks, so checkpoints are read as such as well.
    return tree.flatten(filter_weights.plain(state.get("average") or known))

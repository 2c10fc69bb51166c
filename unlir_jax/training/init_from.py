"""Initial weights of a training from another run, as far as they fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.filters import trainable
from unlir_jax.models import channels, drawing, heads, placing, pretrained, zoo
from unlir_jax.models.backbone import Network
from unlir_jax.runs import workdir
from unlir_jax.runtime import checkpoint
from unlir_jax.weights import exported, hub, layouts, readers, selection


class Start(NamedTuple):
    """Hold variables to start from, and what became of each name.

    Attributes:
        variables: All of the network's.
        taken: Paths that come from elsewhere.
        kept: Paths that nothing there was for.
        misshaped: Paths that are of another shape there, and why they were kept.
        unused: Names there that the network does not have.
        classes: A sentence about which classes of the classifier are taken; "" where
            they are the same ones.
        remark: Which of several weights there were taken.
        sha256: Hash of the file that they come from, or of a checkpoint's arrays.
    """

    variables: dict[str, Any]
    taken: list[str]
    kept: list[str]
    misshaped: list[str]
    unused: list[str]
    classes: str = ""
    remark: str = ""
    sha256: str = ""

    def sentences(self) -> list[str]:
        """Say it, name by name."""
        total = len(self.taken) + len(self.kept) + len(self.misshaped)
        taken = f"{len(self.taken)} of {total} arrays are taken{self.remark}"
        lines = [f"init_from: {taken}."]
        for what, names in (
            ("not there, kept as they are", self.kept),
            ("of another shape there, kept as they are", self.misshaped),
            ("there, but not in this network", self.unused),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return [*lines, self.classes] if self.classes else lines


def start_from(
    place: str,
    variables: Mapping[str, Any],
    network: Network,
    names: Sequence[str] = (),
    *,
    blocks: bool = False,
    key: str = "",
) -> Start:
    """Replace variables by another run's or file's of the same name and shape.

    The classifier is taken over class by class, as their names say.

    Args:
        place: A file of weights or `hf:owner/name`, in any layout that `load` reads; a
            workdir, whose final weights, or else newest checkpoint, are taken; or one
            checkpoint of it, `WORKDIR/checkpoints/STEP`.
        variables: Variables of this network.
        network: The network.
        names: Names of its classes; without, a classifier of as many is kept as it is.
        blocks: See `heads.carry`.
        key: Which weights of a file that holds several, see `selection.select`.

    Raises:
        FileNotFoundError: There is no such place.
        ValueError: Nothing there fits, or it cannot be read.
    """
    expected = tree.flatten(variables)
    arrays, theirs, remark, sha256 = _read(place, network, expected, key)
    there = _sized(expected, len(names), len(theirs), blocks) if names else expected
    flattened = channels.flattened(network.build())
    leaves, fit = layouts.translate(arrays, there, network.layouts, place, flattened)
    if not leaves:
        raise ValueError(
            f"`init_from`={place!r} has nothing for this network: of its "
            f"{len(arrays)} arrays ({', '.join(list(arrays)[:4])}, …) none has the "
            "name and shape of one here; expected weights of the same network."
        )
    broken = [path for path in leaves if not np.isfinite(leaves[path]).all()]
    if broken:
        raise ValueError(
            f"`init_from`={place!r} holds values that are not finite in "
            f"{', '.join(broken)}; expected numbers."
        )
    carried = _carried(leaves, expected, theirs, names, blocks) if names else None
    if carried is not None:
        others = {p: x for p, x in leaves.items() if p not in carried.leaves}
        leaves = others | (carried.leaves if carried.taken else {})
    wrong = {text.split(" for ")[1].split(" ")[0]: text for text in fit.misshaped}
    started = {
        path: np.asarray(leaves[path], leaf.dtype) if path in leaves else leaf
        for path, leaf in expected.items()
    }
    return Start(
        tree.unflatten(started),
        [path for path in expected if path in leaves],
        [path for path in expected if path not in leaves and path not in wrong],
        list(wrong.values()),
        list(fit.unexpected),
        carried.sentence(f"init_from={place!r}") if carried else "",
        remark,
        sha256,
    )


def _sized(
    expected: Mapping[str, Any], own: int, theirs: int, blocks: bool
) -> dict[str, jax.ShapeDtypeStruct]:
    """Expect as many classes as there are over there."""
    sizes = heads.shapes(expected, own, theirs, blocks=blocks)
    return {
        path: jax.ShapeDtypeStruct(sizes[path], leaf.dtype)
        for path, leaf in expected.items()
    }


def own_classes(
    network: pretrained.Pretrained,
    names: Sequence[str],
    *,
    blocks: bool = False,
    seed: int = 0,
) -> tuple[pretrained.Pretrained, list[str]]:
    """Number the classifier of a loaded network as the classes of data are.

    Only where its weights came with a classifier of as many classes; one that knows
    none of them is drawn anew.

    Args:
        network: Loaded for so many classes.
        names: Names of the data's classes.
        blocks: See `heads.carry`.
        seed: Seed of a new classifier.

    Returns:
        The network with the data's names, and sentences about what was taken.
    """
    named = network._replace(class_names=tuple(names))
    if network.new_classifier or heads.is_same(network.class_names, names):
        return named, []
    found = zoo.find(network.name)[1]
    leaves = tree.flatten(network.variables)
    drawn = tree.flatten(drawing.random_variables(network.module, found, seed))
    own = {
        path: leaf
        for path, leaf in drawn.items()
        if heads.class_axes(path, np.ndim(leaf), blocks)
    }
    carried = heads.carry(leaves, own, network.class_names, names, blocks=blocks)
    variables = tree.unflatten(
        {path: carried.leaves.get(path, leaf) for path, leaf in leaves.items()}
    )
    variables = jax.tree.map(jnp.asarray, variables)
    return named._replace(variables=variables), [carried.sentence(network.source)]


def _carried(
    leaves: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    theirs: Sequence[str],
    names: Sequence[str],
    blocks: bool,
) -> heads.Carried | None:
    """Number the classifier as the classes here are; None where all are the same."""
    own = {
        path: leaf
        for path, leaf in expected.items()
        if path in leaves and heads.class_axes(path, np.ndim(leaf), blocks)
    }
    if not own or heads.is_same(theirs, names):
        return None
    return heads.carry(leaves, own, theirs, names, blocks=blocks)


def pooling(place: str) -> str:
    """Read how the head of a run or file pools; "" for its network's usual way.

    Args:
        place: See `start_from`.
    """
    folder = Path(place)
    if not folder.is_dir():
        return exported.pooling(exported.header(hub.resolve(place)))
    if (folder / exported.FILE).is_file():
        return exported.pooling(exported.header(folder / exported.FILE))
    # An unfinished training, seen from it or from one of its checkpoints.
    for near in (folder, folder.parent.parent):
        chosen = workdir.read(near / workdir.CHOICE) or {}
        asked = workdir.read(near / workdir.CONFIG) or {}
        groups = (chosen.get("choice", {}), asked.get("probe", {}))
        for how in (group.get("pooling", "") for group in groups):
            if how:
                return how
    return ""


def _read(
    place: str, network: Network, expected: Mapping[str, Any], key: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str, str]:
    """Read arrays, what their classes are called, which they are, and their hash."""
    folder = Path(place)
    if folder.is_dir() and not (folder / exported.FILE).is_file():
        state = checkpoint.read_arrays(folder)
        statistics = state.get("statistics") or {}
        known = {"params": state["params"], "batch_stats": statistics}
        # Files of weights are plain networks, and checkpoints are read as such as well.
        arrays = tree.flatten(trainable.plain(state.get("average") or known))
        named = _names(arrays, network, workdir.classes_of(folder))
        return arrays, named, "", tree.sha256(tree.unflatten(arrays))
    path = folder / exported.FILE if folder.is_dir() else hub.resolve(place)
    with readers.open_file(path) as file:
        exported.check_hash(path, file.sha256)
        purpose = exported.understand(file.metadata, path)
        chosen = selection.select(
            file.arrays,
            expected,
            network.layouts,
            key=key,
            source=place,
            setting="init_key",
        )
        arrays = selection.take(file.arrays, chosen, place)
    told = purpose.class_names if purpose else ()
    return arrays, _names(arrays, network, told), chosen.remark, file.sha256


def _names(
    arrays: Mapping[str, np.ndarray], network: Network, told: Sequence[str]
) -> tuple[str, ...]:
    count = placing.classes_in(arrays, network)
    return tuple(told) if len(told) == count else pretrained.class_names(count)

"""The layers of a backbone: who makes channels, who reads them, which are tied.

The dependency graph of structural pruning (Fang et al., DepGraph, CVPR 2023), written
down next to each module, in `channel_graph`, instead of traced, and checked against the
shapes of parameters.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from flax import linen as nn

from unlir_jax import tree
from unlir_jax.types import Module, Variables

TRUNK = "backbone/"
"""Before the paths of the network that a part network is built round."""


class Group(NamedTuple):
    """Hold the channels between some layers, which stay or go together.

    Attributes:
        makers: Paths of the layers that make them; all but the first take each channel
            alone.
        reader: Path of the one layer that reads them.
        channels: How many they are.
        cells: How often each comes in the reader's input, more than 1 where maps are
            flattened.
        free: Whether nobody else needs them.
        size: How many numbers are one channel; more than 1 for a head of attention.
        beside: Paths of layers that go with them, such as queries and keys of heads.
        tables: Paths of parameters with a number for each channel on their last axis.
    """

    makers: tuple[str, ...]
    reader: str
    channels: int
    cells: int = 1
    free: bool = True
    size: int = 1
    beside: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    @property
    def layer(self) -> str:
        """Name the group after the layer that makes it."""
        return self.makers[0]


class Graph(NamedTuple):
    """Hold the channels of one network.

    Attributes:
        network: What kind of network it is.
        inner: Channels of inner layers, in the order of the module's `widths`.
        tied: Layers whose width stays: those in one tuple are added to each other.
        dense: Paths of the dense layers that classify.
        bare: Whether paths lead to the layers themselves, as in transformers, and not
            to bricks that hold a `conv` and its `norm`.
        following: Bare layers that a norm follows, each with its norm.
        units: Blocks that hold bare layers, and bare layers that are in none.
    """

    network: str
    inner: tuple[Group, ...]
    tied: tuple[tuple[str, ...], ...]
    dense: tuple[str, ...] = ("classifier",)
    bare: bool = False
    following: tuple[tuple[str, str], ...] = ()
    units: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """List the channels that may go."""
        return tuple(group for group in self.inner if group.free)

    @property
    def channels(self) -> dict[str, int]:
        """Count the channels of each layer that may lose some."""
        return {group.layer: group.channels for group in self.groups}


def graph(module: Module) -> Graph:
    """Say which channels of a network of ours may go.

    What a decision by parts reads (the last maps, a finer layer) keeps its width.

    Raises:
        ValueError: `module` is no backbone of ours.
    """
    backbone = getattr(module, "backbone", module)
    if not hasattr(backbone, "channel_graph"):
        raise ValueError(
            f"`module` is a {type(backbone).__name__}, whose channels are not known; "
            "expected a network of `unlir models`, or a module with `channel_graph`."
        )
    found: Graph = backbone.channel_graph()
    if backbone is module:
        return found
    layers, stages = set(convolutions(found)), getattr(module, "stages", ())
    read = {
        getattr(module, name, "").removesuffix("/conv").removesuffix("/norm")
        for name in ("layer", "at")
    }
    inner = [
        group._replace(
            makers=tuple(TRUNK + maker for maker in group.makers),
            reader=TRUNK + group.reader,
            beside=tuple(TRUNK + path for path in group.beside),
            tables=tuple(TRUNK + path for path in group.tables),
            # What is read behind the backbone's maps, parts read instead.
            free=group.free
            and group.reader in layers
            and not read & set(group.makers)
            and not any(_enters(group, stage) for stage in stages),
        )
        for group in found.inner
    ]
    tied = (tuple(TRUNK + path for path in paths) for paths in found.tied)
    following = tuple((TRUNK + a, TRUNK + b) for a, b in found.following)
    units = tuple(TRUNK + path for path in found.units)
    own = tuple(inner), tuple(tied)
    return Graph(found.network, *own, (), found.bare, following, units)


def _enters(group: Group, path: str) -> bool:
    """Tell whether a group's channels are among those that a module is given."""
    first, *others = (
        name == path or name.startswith(f"{path}/")
        for name in (group.reader, *group.makers)
    )
    return first and not all(others)


def convolutions(graph: Graph) -> Iterator[str]:
    """List the layers of a network but those that classify, as `Graph` names them."""
    for group in graph.inner:
        yield from (*group.makers, *group.beside)
    own = {maker for group in graph.inner for maker in group.makers}
    yield from (path for paths in graph.tied for path in paths if path not in own)


def blocks(module: Module) -> frozenset[str]:
    """Name the modules that hold convolutions: a block's, or the layer itself."""
    known = graph(module)
    if known.units:
        return frozenset(known.units)
    found = set()
    for path in convolutions(known):
        trunk = TRUNK if path.startswith(TRUNK) else ""
        holder, _, name = path.removeprefix(trunk).rpartition("/")
        found.add(trunk + (holder or name))
    return frozenset(found)


def norms(module: Module) -> dict[str, str | None]:
    """Give the norm that follows each convolution and dense layer, None where none."""
    known, backbone = graph(module), getattr(module, "backbone", module)
    if known.bare:
        bare = dict.fromkeys((*convolutions(known), *known.dense))
        return bare | dict(known.following)
    normalized = backbone.style.norm and getattr(backbone, "normalized", True)
    table: dict[str, str | None] = {
        f"{path}/conv": f"{path}/norm" if normalized else None
        for path in convolutions(known)
    }
    return table | dict.fromkeys(known.dense)


def flattened(module: Module) -> dict[str, int]:
    """Give the dense layers that read flattened maps, and how many cells those have."""
    if not hasattr(getattr(module, "backbone", module), "channel_graph"):
        return {}
    inner = graph(module).inner
    return {group.reader: group.cells for group in inner if group.cells > 1}


def check(graph: Graph, variables: Variables) -> None:
    """Refuse variables of another network than a graph describes.

    Raises:
        ValueError: A convolution is missing or unknown, or has other channels.
    """
    shapes = {
        path: np.shape(leaf)
        for path, leaf in tree.flatten(variables["params"]).items()
        if path.endswith("/kernel")
    }
    expected = {kernel(path, graph.bare) for path in convolutions(graph)}
    found = {path for path in shapes if _is_inner(path, graph, shapes)}
    if expected != found:
        odd = sorted(expected ^ found)
        raise ValueError(
            f"`variables` are not those of this {graph.network}: "
            f"{', '.join(odd)} {'is' if len(odd) == 1 else 'are'} in one of them only; "
            "expected the variables that belong to the network."
        )
    for group in graph.inner:
        made = (*group.makers, *group.beside)
        first, *others = (shapes[kernel(path, graph.bare)] for path in made)
        seen = [first[-1], *(size for shape in others for size in shape[-1:])]
        reader = shapes.get(kernel(group.reader, graph.bare))
        reader = reader or shapes.get(f"{group.reader}/kernel")
        # The own classifier of a part network's backbone is not there.
        if reader is not None:
            seen.append(reader[-2] / group.cells)
        if set(seen) != {group.channels * group.size}:
            raise ValueError(
                f"`variables` are not those of this {graph.network}: {group.layer} and "
                f"its readers have {seen} channels; expected "
                f"{group.channels * group.size}."
            )


def _is_inner(path: str, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether a kernel is of a layer that does not classify."""
    if not graph.bare:
        return len(shapes[path]) == 4
    # The decision of a part network has no layer of its backbone.
    inside = bool(graph.dense) or path.startswith(TRUNK) or "classifier/" not in path
    return inside and path.removesuffix("/kernel") not in graph.dense


def kernel(path: str, bare: bool) -> str:
    """Name the kernel of a layer as `Graph` names the layer, without a collection."""
    return f"{path}/kernel" if bare else f"{path}/conv/kernel"


def kernel_among(path: str, leaves: Mapping[str, np.ndarray]) -> str:
    """Name the kernel of a layer, bare or in a brick, among parameters by path."""
    inside = f"params/{path}/conv/kernel"
    return inside if inside in leaves else f"params/{path}/kernel"


def widen(module: Module, widths: tuple[int, ...]) -> Module:
    """Copy a network of ours with other inner widths; a part network passes it on."""
    if hasattr(module, "backbone"):
        return module.clone(backbone=module.backbone.clone(widths=widths))
    return module.clone(widths=widths)


def as_wide_as(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> Module:
    """Give a network the inner widths that a file in our own names has.

    So a pruned network is read like any other: its arrays say how wide it is, as they
    say how many classes it has.

    Args:
        module: A network of ours at its usual widths.
        arrays: A file's arrays by name.

    Returns:
        `module` itself where the file is in other names, is no narrower, or is too odd
        to be a pruned one.
    """
    widths = []
    if not hasattr(getattr(module, "backbone", module), "channel_graph"):
        return module
    known = graph(module)
    for group in known.inner:
        path = f"params/{kernel(group.makers[-1], known.bare)}"
        shape = list(np.shape(arrays[path])) if path in arrays else []
        if len(shape) != (2 if known.bare else 4) or shape[-1] % group.size:
            return module
        width = shape[-1] // group.size
        if not 1 <= width <= group.channels:
            return module
        widths.append(width)
    usual = [group.channels for group in known.inner]
    return module if widths == usual else widen(module, tuple(widths))

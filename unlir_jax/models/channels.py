"""Which channels of a backbone may go: who makes them, who reads them, what is tied.

The dependency graph of structural pruning (Fang et al., DepGraph, CVPR 2023), written
down for each family instead of traced, and checked against the shapes of parameters.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from unlir_jax import tree
from unlir_jax.models import part_network, resnet, vgg
from unlir_jax.models.inverted_residual import InvertedResidualNet
from unlir_jax.models.resnet import ResNet
from unlir_jax.models.vgg import VGG


class Group(NamedTuple):
    """Hold the channels between some layers, which stay or go together.

    Attributes:
        makers: Paths of the convolutions that make them; all but the first convolve
            each channel alone.
        reader: Path of the one layer that reads them.
        channels: How many they are.
        cells: How often each comes in the reader's input, more than 1 where maps are
            flattened.
        free: Whether nobody else needs them.
    """

    makers: tuple[str, ...]
    reader: str
    channels: int
    cells: int = 1
    free: bool = True

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
    """

    network: str
    inner: tuple[Group, ...]
    tied: tuple[tuple[str, ...], ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """List the channels that may go."""
        return tuple(group for group in self.inner if group.free)

    @property
    def channels(self) -> dict[str, int]:
        """Count the channels of each layer that may lose some."""
        return {group.layer: group.channels for group in self.groups}


def graph(module: Any) -> Graph:
    """Say which channels of a network of ours may go.

    - Inverted residual blocks: between expansion and projection. Where the first block
      has no expansion these are the channels of the stem.
    - Residual blocks: after every convolution but the last.
    - VGG: after every convolution.

    What is summed (outputs of residual blocks) and what the classifier or a decision by
    parts reads (`top`, the last stage, a finer layer) keeps its width; the last
    convolution of a VGG may go unless parts read it.

    Raises:
        ValueError: `module` is no backbone of ours.
    """
    backbone = getattr(module, "backbone", module)
    families = {
        InvertedResidualNet: _inverted_residual,
        ResNet: _resnet,
        VGG: _vgg,
    }
    if type(backbone) not in families:
        raise ValueError(
            f"`module` is a {type(backbone).__name__}, whose channels are not known; "
            f"expected one of {', '.join(kind.__name__ for kind in families)}."
        )
    inner, tied = families[type(backbone)](backbone)
    if isinstance(module, part_network.PartNet):
        finer = module.layer.removesuffix("/conv").removesuffix("/norm")
        last = f"conv5_{backbone.repeats[-1]}" if isinstance(backbone, VGG) else ""
        inner = [
            Group(
                tuple(f"backbone/{maker}" for maker in group.makers),
                f"backbone/{group.reader}",
                group.channels,
                group.cells,
                free=group.free and not {finer, last} & set(group.makers),
            )
            for group in inner
        ]
        tied = [tuple(f"backbone/{path}" for path in paths) for paths in tied]
    return Graph(type(backbone).__name__, tuple(inner), tuple(tied))


Found = tuple[list[Group], list[tuple[str, ...]]]


def _inverted_residual(net: InvertedResidualNet) -> Found:
    widths = iter(net.widths or (None,) * sum(s.repeats for s in net.stages))
    inner, sums, number, incoming = [], [["stem"]], 0, net.stem
    for stage in net.stages:
        for repeat in range(stage.repeats):
            number += 1
            block, width = f"block{number}", next(widths)
            expand, depthwise = f"{block}/expand", f"{block}/depthwise"
            project = f"{block}/project"
            added = (repeat > 0 or stage.stride == 1) and incoming == stage.filters
            if stage.expansion != 1:
                hidden = width or incoming * stage.expansion
                inner.append(Group((expand, depthwise), project, hidden))
            elif number == 1:
                # The stem's channels go straight through: free, unless added.
                hidden = width or net.stem
                sums = sums if added else []
                makers = ("stem", depthwise)
                inner.append(Group(makers, project, hidden, free=not added))
            else:
                inner.append(Group((depthwise,), project, incoming, free=False))
            if added:
                sums[-1].append(project)
            else:
                sums.append([project])
            incoming = stage.filters
    return inner, [tuple(paths) for paths in sums] + [("top",)]


def _resnet(net: ResNet) -> Found:
    each = resnet.inner_layers(net.block)
    widths = iter(net.widths or (None,) * sum(net.repeats) * each)
    inner, sums, incoming = [], [["stem"]], net.width
    for index, repeats in enumerate(net.repeats):
        filters = net.width * 2**index
        for repeat in range(repeats):
            block = f"layer{index + 1}/block{repeat}"
            for place in range(1, each + 1):
                made, reader = f"{block}/conv{place}", f"{block}/conv{place + 1}"
                inner.append(Group((made,), reader, next(widths) or filters))
            if repeat == 0 and (index or incoming != filters * net.block.growth):
                sums.append([f"{block}/downsample"])
            sums[-1].append(f"{block}/conv{each + 1}")
            incoming = filters * net.block.growth
    return inner, [tuple(paths) for paths in sums]


def _vgg(net: VGG) -> Found:
    widths = net.widths or [
        width
        for width, repeats in zip(vgg.WIDTHS, net.repeats, strict=True)
        for _ in range(repeats)
    ]
    names = [
        f"conv{group}_{place + 1}"
        for group, repeats in enumerate(net.repeats, start=1)
        for place in range(repeats)
    ]
    inner = [
        Group((made,), reader, width)
        for made, reader, width in zip(names, names[1:], widths, strict=False)
    ]
    inner.append(Group((names[-1],), "hidden1", widths[-1], vgg.POOLED**2))
    return inner, []


def convolutions(graph: Graph) -> Iterator[str]:
    """List the convolutions of a network, as `Graph` names them."""
    for group in graph.inner:
        yield from group.makers
    own = {maker for group in graph.inner for maker in group.makers}
    yield from (path for paths in graph.tied for path in paths if path not in own)


def check(graph: Graph, variables: Mapping[str, Any]) -> None:
    """Refuse variables that are not those of the network that a graph describes.

    Raises:
        ValueError: A convolution is missing or unknown, or has other channels.
    """
    shapes = {
        path: np.shape(leaf)
        for path, leaf in tree.flatten(variables["params"]).items()
        if path.endswith("/kernel")
    }
    expected = {f"{path}/conv/kernel" for path in convolutions(graph)}
    found = {path for path, shape in shapes.items() if len(shape) == 4}
    if expected != found:
        odd = sorted(expected ^ found)
        raise ValueError(
            f"`variables` are not those of this {graph.network}: "
            f"{', '.join(odd)} {'is' if len(odd) == 1 else 'are'} in one of them only; "
            "expected the variables that belong to the network."
        )
    for group in graph.inner:
        first, *others = (shapes[f"{maker}/conv/kernel"] for maker in group.makers)
        seen = [first[-1], *(size for shape in others for size in shape[-1:])]
        reader = shapes.get(f"{group.reader}/conv/kernel")
        reader = reader or shapes.get(f"{group.reader}/kernel")
        # The own classifier of a part network's backbone is not there.
        if reader is not None:
            seen.append(reader[-2] / group.cells)
        if set(seen) != {group.channels}:
            raise ValueError(
                f"`variables` are not those of this {graph.network}: {group.layer} and "
                f"its readers have {seen} channels; expected {group.channels}."
            )


def widen(module: Any, widths: tuple[int, ...]) -> Any:
    """Copy a network of ours with other inner widths; a part network passes it on."""
    if hasattr(module, "backbone"):
        return module.clone(backbone=module.backbone.clone(widths=widths))
    return module.clone(widths=widths)


def as_wide_as(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> Any:
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
    known = graph(module)
    for group in known.inner:
        path = f"params/{group.makers[-1]}/conv/kernel"
        shape = np.shape(arrays[path]) if path in arrays else ()
        if len(shape) != 4 or not 1 <= shape[-1] <= group.channels:
            return module
        widths.append(shape[-1])
    usual = [group.channels for group in known.inner]
    return module if widths == usual else widen(module, tuple(widths))

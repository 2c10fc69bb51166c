"""Names of the same tensors in other people's files, and how to turn them into ours.

A layout says, for a network of ours, what each convolution, norm and dense layer is
called by another library. It is a table of prefixes; the rest is the same everywhere.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
STATISTICS = {"mean": "running_mean", "var": "running_var"}

OWN = "unlir_jax"
"""Our own names, as `tree.flatten` gives them."""

Prefixes = dict[str, str]
"""Path of a `conv`, `norm` or dense layer of ours -> the prefix of its tensors."""


class Fit(NamedTuple):
    """Say how well a file fits a network under one layout; empty lists are a fit."""

    layout: str
    matched: int
    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]

    def sentence(self, source: str, network: str, after: str = "") -> str:
        """Describe what does not fit, every name of it.

        Args:
            source: Of the file.
            network: That it was meant for.
            after: What stands before the names in the file.
        """
        parts = [
            f"{len(names)} {kind}: {', '.join(names)}"
            for kind, names in (
                ("unexpected", self.unexpected),
                ("missing", self.missing),
                ("mis-shaped", self.misshaped),
            )
            if names
        ]
        behind = f" after {after!r}" if after else ""
        total = self.matched + len(self.missing)
        likeness = (
            f"closest layout: {self.layout}, {self.matched} of {total} names match"
            f"{behind}"
            if self.matched
            else "no name matches: these are weights of another network"
        )
        return (
            f"`weights`={source!r} does not fit {network} ({likeness}); "
            f"{'; '.join(parts)}."
        )


def translate(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    layouts: Mapping[str, Prefixes],
    source: str = "",
) -> tuple[dict[str, np.ndarray], Fit]:
    """Rename and transpose a file's arrays into ours, under the layout that fits best.

    Args:
        arrays: A file's arrays by their own names.
        expected: Leaves of our variables by path, with `.shape`.
        layouts: Tables by layout name; `OWN`, our own names, is always tried.
        source: Of the file, for complaints.

    Returns:
        Our leaves that could be filled, and how well the file fits.

    Raises:
        ValueError: An array holds integers, truth values or complex numbers, or a
            variance is negative.
    """
    own = {path: path for path in expected}
    tables = {OWN: own}
    for name, prefixes in layouts.items():
        tables[name] = {path: their_name(path, prefixes) for path in expected}
    best = max(tables, key=lambda name: sum(t in arrays for t in tables[name].values()))
    names = tables[best]
    leaves, missing, misshaped = {}, [], []
    for path, name in names.items():
        if name not in arrays:
            missing.append(name)
            continue
        shape = tuple(expected[path].shape)
        leaf = arrays[name] if best == OWN else _transpose(arrays[name], shape)
        if leaf.shape != shape:
            found = tuple(arrays[name].shape)
            misshaped.append(f"{name} {found} for {path} {shape}")
            continue
        if leaf.dtype.kind in "iubc":
            raise ValueError(
                f"`weights`={source!r} holds {name!r} of {leaf.dtype}; expected "
                "floating point numbers."
            )
        leaves[path] = np.ascontiguousarray(leaf, dtype=np.float32)
        is_variance = path.startswith("batch_stats/") and path.endswith("/var")
        if is_variance and (lowest := leaves[path].min(initial=0)) < 0:
            raise ValueError(
                f"`weights`={source!r} holds the variance {name!r} with the value "
                f"{lowest:.3g}; expected none below 0."
            )
    used = set(names.values())
    unexpected = [
        name
        for name in arrays
        # The number of batches seen is a by-product of PyTorch's norms.
        if name not in used and not name.endswith("num_batches_tracked")
    ]
    matched = len(names) - len(missing)
    return leaves, Fit(best, matched, missing, unexpected, misshaped)


def their_name(path: str, prefixes: Prefixes) -> str:
    """Name a leaf of ours as another library does, given its prefixes."""
    collection, _, rest = path.partition("/")
    module, _, leaf = rest.rpartition("/")
    table = STATISTICS if collection == "batch_stats" else LEAVES
    return f"{prefixes.get(module, module)}.{table.get(leaf, leaf)}"


def _transpose(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring PyTorch's axes (out, in, height, width) into ours (height, width, in, out).

    A dense layer after flattened maps, or a convolution that stands for it, also has
    its inputs reordered from (in, height, width) to (height, width, in).
    """
    if array.ndim == 4 and len(shape) == 4:
        return array.transpose(2, 3, 1, 0)
    if len(shape) == 2 and array.size == np.prod(shape):
        out, inputs = shape[1], shape[0]
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0).reshape(shape)
        if array.shape == (out, inputs) and inputs == 512 * 49:  # VGG's first one
            return array.reshape(out, 512, 7, 7).transpose(2, 3, 1, 0).reshape(shape)
        if array.ndim == 2:
            return array.T
    return array


def inverted_residual(repeats: list[int], torchvision: bool) -> dict[str, Prefixes]:
    """Name the layers of MobileNetV2 or EfficientNet-Lite in the layouts in use.

    Args:
        repeats: Number of blocks of each stage.
        torchvision: Whether torchvision has this network; the other layouts are timm's
            and, for EfficientNet-Lite, that of the `efficientnet-lite-pytorch` package.
    """
    blocks = [(i, j) for i, count in enumerate(repeats) for j in range(count)]
    vision = _pair("stem", "features.0.0", "features.0.1")
    timm = _pair("stem", "conv_stem", "bn1")
    package = _pair("stem", "_conv_stem", "_bn0")
    for number, (stage, place) in enumerate(blocks, start=1):
        ours, theirs = f"block{number}", f"blocks.{stage}.{place}"
        roles = ["expand", "depthwise", "project"][1 if number == 1 else 0 :]
        names = (
            ["conv_dw", "conv_pw"]
            if number == 1
            else ["conv_pw", "conv_dw", "conv_pwl"]
        )
        for index, role in enumerate(roles):
            block = f"features.{number}.conv"
            last = index == len(roles) - 1
            vision |= _pair(
                f"{ours}/{role}",
                f"{block}.{index}" if last else f"{block}.{index}.0",
                f"{block}.{index + 1}" if last else f"{block}.{index}.1",
            )
            timm |= _pair(
                f"{ours}/{role}", f"{theirs}.{names[index]}", f"{theirs}.bn{index + 1}"
            )
            norm = ["expand", "depthwise", "project"].index(role)
            block = f"_blocks.{number - 1}"
            package |= _pair(
                f"{ours}/{role}", f"{block}._{role}_conv", f"{block}._bn{norm}"
            )
    top = f"features.{len(blocks) + 1}"
    vision |= _pair("top", f"{top}.0", f"{top}.1") | {"classifier": "classifier.1"}
    timm |= _pair("top", "conv_head", "bn2") | {"classifier": "classifier"}
    package |= _pair("top", "_conv_head", "_bn1") | {"classifier": "_fc"}
    if torchvision:
        return {"torchvision": vision, "timm": timm}
    return {"efficientnet-lite-pytorch": package, "timm": timm}


def resnet(repeats: tuple[int, ...], convolutions: int) -> dict[str, Prefixes]:
    """Name the layers of a residual network; timm's names are torchvision's.

    Args:
        repeats: Number of blocks of each stage.
        convolutions: Convolutions of a block, 2 or 3.
    """
    vision = _pair("stem", "conv1", "bn1") | {"classifier": "fc"}
    cifar100 = _pair("stem", "conv1.0", "conv1.1") | {"classifier": "fc"}
    for stage, count in enumerate(repeats, start=1):
        for place in range(count):
            ours, theirs = f"layer{stage}/block{place}", f"layer{stage}.{place}"
            other = f"conv{stage + 1}_x.{place}"
            for index in range(1, convolutions + 1):
                vision |= _pair(
                    f"{ours}/conv{index}",
                    f"{theirs}.conv{index}",
                    f"{theirs}.bn{index}",
                )
                step = f"{other}.residual_function"
                cifar100 |= _pair(
                    f"{ours}/conv{index}",
                    f"{step}.{3 * index - 3}",
                    f"{step}.{3 * index - 2}",
                )
            down = f"{ours}/downsample"
            vision |= _pair(down, f"{theirs}.downsample.0", f"{theirs}.downsample.1")
            cifar100 |= _pair(down, f"{other}.shortcut.0", f"{other}.shortcut.1")
    return {"torchvision": vision, "pytorch-cifar100": cifar100}


def vgg(repeats: tuple[int, ...], normalized: bool) -> dict[str, Prefixes]:
    """Name the layers of a VGG network in torchvision's and timm's layouts."""
    convolutions: Prefixes = {}
    index = 0
    for group, count in enumerate(repeats, start=1):
        for place in range(1, count + 1):
            convolutions |= _pair(
                f"conv{group}_{place}", f"features.{index}", f"features.{index + 1}"
            )
            index += 3 if normalized else 2
        index += 1  # the pooling
    vision = {"hidden1": "classifier.0", "hidden2": "classifier.3"}
    timm = {"hidden1": "pre_logits.fc1", "hidden2": "pre_logits.fc2"}
    return {
        "torchvision": convolutions | vision | {"classifier": "classifier.6"},
        "timm": convolutions | timm | {"classifier": "head.fc"},
    }


def _pair(ours: str, convolution: str, norm: str) -> Prefixes:
    return {f"{ours}/conv": convolution, f"{ours}/norm": norm}

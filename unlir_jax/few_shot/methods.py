"""Ways to learn from few images, by name, under one harness."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import filters, tree
from unlir_jax.models import pooling
from unlir_jax.types import Array, Module, PyTree, Variables


class Method(NamedTuple):
    """Say what adapts the backbone, and what decides.

    Attributes:
        trunk: Learnt part of the backbone: "" for nothing, `filters`, `input_filters`,
            `shifts`, `norms`, `biases`, `last_block`, `lora` or `full`.
        adapters: Views that each adapter learns from: `flips`, `crops`, `mixup` (of
            flips) or `crops+mixup`.
        probe: Name in `probes.PROBES` of what is fitted to the frozen backbone, or "".
            Next to adapters it only counts where these cannot learn, see
            `setup.steps`: elsewhere its vote lowered the measured accuracy.
        crops: Whether the probe learns from crops as well, as some adapters do.
        pooling: Pooling of the maps, see `pooling.describe`.
        back: How far weights of filters are drawn back to 1 after learning, in [0, 1].
        rate: Learning rate of the backbone.
        ensemble_with: Adapters of another kind, that learn and vote as well.
    """

    trunk: str = ""
    adapters: tuple[str, ...] = ()
    probe: str = ""
    crops: bool = False
    pooling: str = "gem"
    back: float = 0.0
    rate: float = 1e-2
    ensemble_with: tuple["Method", ...] = ()


METHODS: dict[str, Method] = {
    "filters": Method(
        *("filters", ("crops",), "logistic"),
        back=0.5,
        ensemble_with=(Method("shifts", ("flips", "mixup"), rate=3e-3),),
    ),
    "filters_single": Method("filters", ("mixup",), back=0.5),
    "shifts_single": Method("shifts", ("mixup",), rate=3e-3),
    "probe_average": Method(probe="logistic", pooling="average"),
    "probe_max": Method(probe="logistic", pooling="max"),
    "probe_gem": Method(probe="logistic"),
    "probe_token": Method(probe="logistic", pooling="token"),
    "probe_gem_crops": Method(probe="logistic", crops=True),
    "ridge": Method(probe="ridge"),
    "lda": Method(probe="lda"),
    "cosine": Method(probe="cosine"),
    "prototypes": Method(probe="prototypes"),
    "cosine_head": Method(adapters=("flips",)),
    "norm_affine": Method("norms", ("flips",), rate=1e-3),
    "bias": Method("biases", ("flips",), rate=1e-3),
    "ia3": Method("input_filters", ("flips",)),
    "lora": Method("lora", ("flips",), rate=1e-3),
    "last_block": Method("last_block", ("flips",), rate=1e-4),
    "full": Method("full", ("flips",), rate=1e-4),
}
"""The first is the best we know; the others are what it is compared with."""

MODES: dict[str, filters.Mode] = {
    "filters": "output",
    "input_filters": "input",
    "shifts": "shift",
}
"""Of `filters.init`, for backbones that have weights of filters."""

RANK = 4


def pooled(name: str, module: Module) -> Method:
    """Give a method that pools in a way that suits a network.

    Where maps have signs, as a transformer's, GeM says little. But for the probes that
    are named after their pooling, a class token takes its place, or the average.

    Args:
        name: Name of the method.
        module: The network.

    Raises:
        ValueError: The method wants a class token, and the network has none.
    """
    method = METHODS[name]
    if method.pooling == pooling.TOKEN and not pooling.has_token(module):
        raise ValueError(
            f"`method`={name!r} wants a class token, which a {type(module).__name__} "
            "has not; expected probe_average, or another method."
        )
    if name.startswith("probe_") or not getattr(module, "signed", False):
        return method
    how = pooling.TOKEN if pooling.has_token(module) else "average"
    others = tuple(own._replace(pooling=how) for own in method.ensemble_with)
    return method._replace(pooling=how, ensemble_with=others)


def groups(method: Method) -> tuple[Method, ...]:
    """List the kinds of adapters of a method, each as a method of its own."""
    return (method._replace(ensemble_with=()), *method.ensemble_with)


def crops(method: Method) -> bool:
    """Tell whether a method learns from crops."""
    return any(
        own.crops or any("crops" in kind for kind in own.adapters)
        for own in groups(method)
    )


class Adaptation(NamedTuple):
    """Hold what learns of a backbone, and how it is put in.

    Attributes:
        start: What is learnt, as it starts: the network is the frozen one.
        adapt: `(variables, learnt) -> variables`; pure.
        count: Numbers that learn.
    """

    start: PyTree
    adapt: Callable[[Variables, PyTree], Variables]
    count: int


def adaptation(
    kind: str, name: str, variables: Variables, behind: str, last: str
) -> Adaptation:
    """Make what a method learns of a backbone.

    Args:
        kind: See `Method.trunk`.
        name: Name of the network, whose table of norms is in `filters`.
        variables: Variables of the network.
        behind: Pattern of the paths of parameters behind the cut.
        last: Pattern of the paths of the last block.
    """
    if not kind:
        return Adaptation({}, lambda known, learnt: known, 0)
    if kind in MODES:
        mode = MODES[kind]
        start = filters.init(variables, behind, mode, pairing=filters.pairs(name))
        return Adaptation(start, filters.apply, _size(start))
    if kind == "lora":
        return _lora(variables, behind)
    pattern = {
        "norms": rf"(?:{behind}).*/(scale|bias)",
        "biases": rf"(?:{behind}).*/bias",
        "last_block": last,
        "full": r"(?!classifier/).*",
    }[kind]
    leaves = tree.flatten(variables["params"])
    start = {p: leaf for p, leaf in leaves.items() if re.match(pattern, p)}
    if not start:
        raise ValueError(
            f"No parameter of {name} matches {pattern!r}; expected some to learn."
        )
    return Adaptation(start, _override, _size(start))


def _override(variables: Variables, learnt: Mapping[str, Array]) -> Variables:
    known = dict(variables)
    known["params"] = tree.unflatten(tree.flatten(known["params"]) | dict(learnt))
    return known


def _lora(variables: Variables, behind: str) -> Adaptation:
    """Add products of two thin matrices to convolutions and dense layers.

    Hu et al., LoRA, ICLR 2022.

    The first sees the cells that the convolution sees, the second one of them.
    Depthwise convolutions have none: their kernels are no matrices.
    """
    random = np.random.default_rng(0)
    start: dict[str, dict[str, np.ndarray]] = {}
    for path, leaf in tree.flatten(variables["params"]).items():
        dense = np.ndim(leaf) in (2, 4) and leaf.shape[-2] > 1
        if dense and path.endswith("kernel") and re.match(behind, path):
            *seen, outgoing = leaf.shape
            draw = random.normal(size=(*seen, RANK)) / np.sqrt(np.prod(seen))
            start[path] = {
                "down": draw.astype(np.float32),
                "up": np.zeros((RANK, outgoing), np.float32),
            }

    def adapt(known: Variables, learnt: Mapping[str, Mapping[str, Array]]) -> Variables:
        leaves = tree.flatten(known["params"])
        added = {
            path: leaves[path] + each["down"] @ each["up"]
            for path, each in learnt.items()
        }
        return _override(known, added)

    return Adaptation(start, adapt, _size(start))


def drawn_back(start: PyTree, learnt: PyTree, share: float) -> PyTree:
    """Go back part of the way to the start; all leaves have adapters in front."""
    return jax.tree.map(
        lambda first, last: last + share * (jnp.asarray(first)[None] - last),
        start,
        learnt,
    )


def _size(leaves: PyTree) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(leaves))

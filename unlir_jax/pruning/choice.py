"""Choice of the channels that stay."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from unlir_jax.core import choices
from unlir_jax.models import channels
from unlir_jax.pruning.scores import Scores

Scope = Literal["global", "layer"]


class Choice(NamedTuple):
    """Say which inner channels of a network stay.

    Attributes:
        graph: The network's channels.
        keep: `[channels]`, true for those that stay; a layer that is not there keeps
            all.
    """

    graph: channels.Graph
    keep: dict[str, np.ndarray]

    @property
    def widths(self) -> tuple[int, ...]:
        """Give the inner widths that are left, as the modules take them."""
        return tuple(
            int(np.sum(self.keep[group.layer]))
            if group.layer in self.keep
            else group.channels
            for group in self.graph.inner
        )


def choose(
    scores: Scores,
    share: float,
    scope: Scope = "global",
    *,
    keep_at_least: int = 1,
    layers: Iterable[str] | None = None,
) -> Choice:
    """Choose the channels that stay, by their scores.

    Args:
        scores: What `scores` gives.
        share: Share of the inner channels to remove, in [0, 1), rounded.
        scope: `global` takes the smallest scores of the whole network, `layer` the same
            share of every layer. Equal scores go from the last channel on.
        keep_at_least: Channels that stay in every layer that has as many.
        layers: Names of the layers that may lose channels, all of them by default; the
            share is of theirs.

    Raises:
        ValueError: A share or number out of range, an unknown layer or scope, or a
            share that would leave some layer with fewer channels than asked for.
    """
    if not 0 <= share < 1:
        raise ValueError(f"`share`={share}; expected a number in [0, 1).")
    if keep_at_least < 1:
        raise ValueError(
            f"`keep_at_least`={keep_at_least}; expected at least 1, or the layer would "
            "vanish."
        )
    choices.check("scope", scope, Scope)
    check_layers(scores.graph, scores.values if layers is None else layers)
    check_layers(scores.graph, scores.values)
    chosen = {
        layer: np.asarray(values)
        for layer, values in scores.values.items()
        if layers is None or layer in layers
    }
    select = _globally if scope == "global" else _by_layer
    return Choice(scores.graph, select(chosen, share, keep_at_least))


def _by_layer(
    scores: Mapping[str, np.ndarray], share: float, keep_at_least: int
) -> dict[str, np.ndarray]:
    keep = {}
    for layer, values in scores.items():
        stay = max(len(values) - round(share * len(values)), keep_at_least)
        keep[layer] = _rank(values) < stay
    return keep


def _globally(
    scores: Mapping[str, np.ndarray], share: float, keep_at_least: int
) -> dict[str, np.ndarray]:
    ranks = np.concatenate([_rank(values) for values in scores.values()])
    every = np.concatenate(list(scores.values()))
    gone = round(share * every.size)
    candidates = np.flatnonzero(ranks >= keep_at_least)
    if gone > candidates.size:
        raise ValueError(
            f"`share`={share} of {every.size} channels with `keep_at_least`="
            f"{keep_at_least} in each of {len(scores)} layers leaves too few; expected "
            f"a share up to {candidates.size / every.size:.3f}."
        )
    # Within a layer the last of equals goes first, as the ranks say.
    order = np.lexsort((-ranks[candidates], every[candidates]))
    keep = np.ones(every.size, bool)
    keep[candidates[order[:gone]]] = False
    ends = np.cumsum([len(values) for values in scores.values()])[:-1]
    return dict(zip(scores, np.split(keep, ends), strict=True))


def _rank(values: np.ndarray) -> np.ndarray:
    """Give 0 to the largest, 1 to the next, …; equals in their order."""
    ranks = np.empty(len(values), int)
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks


def check(choice: Choice) -> None:
    """Refuse a choice that does not fit its graph, or leaves a layer without channels.

    Raises:
        ValueError: The layer is unknown, tied, of another size, or would vanish.
    """
    check_layers(choice.graph, choice.keep)
    for layer, keep in choice.keep.items():
        expected = choice.graph.channels[layer]
        if np.shape(keep) != (expected,) or np.asarray(keep).dtype != bool:
            raise ValueError(
                f"`choice.keep`[{layer!r}] has shape {np.shape(keep)} and type "
                f"{np.asarray(keep).dtype}; expected {expected} booleans."
            )
        if not np.any(keep):
            raise ValueError(
                f"`choice.keep`[{layer!r}] keeps no channel, so the layer would "
                "vanish; expected at least one."
            )


def check_layers(graph: channels.Graph, layers: Iterable[str]) -> None:
    """Refuse layers that may not lose channels."""
    for layer in layers:
        if layer in graph.channels:
            continue
        for paths in graph.tied:
            if layer in paths:
                raise ValueError(
                    f"Layer {layer!r} keeps its width, which "
                    f"{', '.join(p for p in paths if p != layer) or 'the head'} "
                    f"depends on; expected some of {', '.join(graph.channels)}."
                )
        raise ValueError(
            f"Layer {layer!r} has no channels that may go; expected some of "
            f"{', '.join(graph.channels)}."
        )

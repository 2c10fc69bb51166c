"""Sanity checks as metrics: how much of a map is left without what was learned.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim, *Sanity checks for saliency maps*,
NeurIPS 2018, Sections 4 and 5. The metrics here take one argument more, `other`: the
variables of a network that has learned nothing, or nothing but random labels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split, tree
from unlir_jax.core import memoize
from unlir_jax.metrics import sanity
from unlir_jax.metrics.similarity import similarities
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Measure = Literal["ssim", "spearman", "hog"]
SanityMetric = Callable[..., dict[str, jax.Array]]
"""A `Metric` whose fifth argument are the other network's variables."""


@memoize.remember
def cascading_randomization(
    model: SplitModel,
    explain: Explainer,
    *,
    order: tuple[str, ...] = (),
    stages: int = 5,
    measure: Measure = "ssim",
    absolute: bool = False,
) -> SanityMetric:
    """Compare the map with those after more and more layers are redrawn, head first.

    The mean similarity over `stages` networks. Lower is better: a map that stays alike
    does not show what the network has learned. Maps of another sign may come below 0.

    Args:
        model: The cut network.
        explain: What makes the maps; the metric is given that of the network itself.
        order: Layers from the image to the head, see `sanity.layers`; without it all
            are redrawn at once.
        stages: Into so many groups of neighbouring layers these are put.
        measure: `ssim`, `spearman` (of all pixels' ranks) or `hog`; see `similarity`.
        absolute: Whether signs of maps are dropped before they are compared.

    Returns:
        A metric `(variables, images, labels, saliency, other, *, key)` with
        `cascading_randomization`, and `ssim`, `spearman` and `hog`, each `[batch]` in
        [-1, 1]. `other` are redrawn variables, see `sanity.redraw`.
    """
    _check(stages, measure)
    name, versions = "cascading_randomization", _versions(order, stages, True)
    return _compared(model, explain, name, (measure, absolute), versions)


@memoize.remember
def independent_randomization(
    model: SplitModel,
    explain: Explainer,
    *,
    order: tuple[str, ...] = (),
    stages: int = 5,
    measure: Measure = "ssim",
    absolute: bool = False,
) -> SanityMetric:
    """Compare the map with those after one group of layers alone is redrawn.

    As `cascading_randomization` in all else.
    """
    _check(stages, measure)
    name, versions = "independent_randomization", _versions(order, stages, False)
    return _compared(model, explain, name, (measure, absolute), versions)


@memoize.remember
def random_labels(
    model: SplitModel,
    explain: Explainer,
    *,
    measure: Measure = "ssim",
    absolute: bool = False,
) -> SanityMetric:
    """Compare the map with that of a network that was trained on random labels.

    Lower is better. `other` are the variables of the same network, trained on labels
    of `sanity.permute_labels`.

    Args:
        model: The cut network.
        explain: What makes the maps.
        measure: As in `cascading_randomization`.
        absolute: As there.

    Returns:
        A metric with `random_labels`, `ssim`, `spearman` and `hog`, see there.
    """
    _check(1, measure)

    def versions(variables: Variables, other: Variables) -> Iterator[Variables]:
        yield other

    return _compared(model, explain, "random_labels", (measure, absolute), versions)


def _compared(
    model: SplitModel,
    explain: Explainer,
    name: str,
    settings: tuple[Measure, bool],
    versions: Callable[[Variables, Variables], Iterator[Variables]],
) -> SanityMetric:
    measure, absolute = settings

    @split.guarded(model)
    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        other: Variables,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        maps.check_saliency(saliency, images)
        # Small maps are enlarged to what the histograms need.
        size = tuple(max(side, sanity.SMALLEST) for side in images.shape[1:3])
        original = maps.resize(saliency, size)
        found: dict[str, list[jax.Array]] = {each: [] for each in get_args(Measure)}
        for version in versions(variables, other):
            again = maps.resize(explain(version, images, labels, key=key), size)
            alike = similarities(original, again, absolute=absolute)
            for each, values in found.items():
                values.append(maps.of_finite(again, alike[each]))
        means = {each: jnp.mean(jnp.stack(values), 0) for each, values in found.items()}
        return {name: means[measure]} | means

    return score


def _versions(
    order: Sequence[str], stages: int, together: bool
) -> Callable[[Variables, Variables], Iterator[Variables]]:
    """Give the network with groups of its layers redrawn, from the head backwards."""

    def versions(variables: Variables, other: Variables) -> Iterator[Variables]:
        drawn, known = tree.flatten(other), tree.flatten(variables)
        if {path: jnp.shape(leaf) for path, leaf in drawn.items()} != {
            path: jnp.shape(leaf) for path, leaf in known.items()
        }:
            raise ValueError(
                "`other` has other paths or shapes than `variables`; expected "
                "variables of the same network."
            )
        layers = [tuple(drawn)]
        if order:
            layers = list(sanity.layers(variables, order).values())
        places = np.arange(len(layers))[::-1]
        changed: frozenset[str] = frozenset()
        for group in np.array_split(places, min(stages, len(layers))):
            own = frozenset(leaf for place in group for leaf in layers[place])
            changed = changed | own if together else own

            def choose(
                path: str, value: jax.Array, chosen: frozenset[str] = changed
            ) -> jax.Array:
                return drawn[path] if path in chosen else value

            yield tree.map_with_path(choose, variables)

    return versions


def _check(stages: int, measure: str) -> None:
    if stages < 1:
        raise ValueError(f"`stages`={stages}; expected 1 or more.")
    if measure not in get_args(Measure):
        raise ValueError(
            f"`measure`={measure!r} is unknown; expected one of {get_args(Measure)}."
        )

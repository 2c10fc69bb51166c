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
from unlir_jax.core import choices
from unlir_jax.metrics.sanity.redrawn import layers as layers_of
from unlir_jax.metrics.sanity.similarity import similarities
from unlir_jax.metrics.spec import NOTHING, Contract, Output, metric
from unlir_jax.types import Explainer, SplitModel, Variables

MEASURES = {
    "ssim": Output("SSIM", "lower"),
    "spearman": Output("rank correlation", "lower"),
    "hog": Output("HOG", "lower"),
}
SANITY = Contract(
    NOTHING,
    "{measure} of the map and those of redrawn networks, mean over {stages} stages",
    NOTHING,
    "equal values get the middle of their ranks",
    "ranks for spearman, range for ssim and hog, after enlarging",
    "0 if either is flat",
    signs="kept; magnitudes if absolute is set ({absolute} here)",
)

Measure = Literal["ssim", "spearman", "hog"]
SMALLEST = 48
"""Side of a map in pixels that the histograms need."""
SanityMetric = Callable[..., dict[str, jax.Array]]
"""A `Metric` whose fifth argument are the other network's variables."""


CASCADING = metric(
    title="Cascading randomisation",
    better="lower",
    needs="redrawn",
    family="randomisation",
    meaning=(
        "How alike are maps while more and more layers lose what they learned, the "
        "head first?"
    ),
    contract=SANITY,
    fooled_by="noise drawn anew",
    passes="`stages` (5) explanations",
    source="Adebayo et al., NeurIPS 2018",
    variants="measure",
    shared=True,
    outputs=MEASURES,
)


@CASCADING
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
        order: Layers from the image to the head, see `redrawn.layers`; without it all
            are redrawn at once.
        stages: Into so many groups of neighbouring layers these are put.
        measure: `ssim`, `spearman` (of all pixels' ranks) or `hog`; see `similarity`.
        absolute: Whether signs of maps are dropped before they are compared.

    Returns:
        A metric `(variables, images, labels, saliency, other, *, key)` with
        `cascading_randomization`, and `ssim`, `spearman` and `hog`, each `[batch]` in
        [-1, 1]. `other` are redrawn variables, see `redrawn.redraw`.
    """
    _check(stages, measure)
    name, versions = "cascading_randomization", _versions(order, stages, True)
    return _compared(model, explain, name, (measure, absolute), versions)


@CASCADING._replace(
    title="Independent randomisation",
    meaning="How alike are maps while one group of layers loses what it learned?",
)
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


@CASCADING._replace(
    title="Random labels",
    needs="random_labels",
    meaning="How alike is the map to that of a network trained on random labels?",
    contract=SANITY._replace(
        score="{measure} of the map and that of a network trained on random labels"
    ),
    passes="1 explanation",
)
def random_labels(
    model: SplitModel,
    explain: Explainer,
    *,
    measure: Measure = "ssim",
    absolute: bool = False,
) -> SanityMetric:
    """Compare the map with that of a network that was trained on random labels.

    Lower is better. `other` are the variables of the same network, trained until it
    fits labels that were shuffled among the images: `unlir train` on a folder whose
    table `index.csv` has the classes in another order.

    Args:
        model: The cut network.
        explain: Explainer of the maps.
        measure: Similarity, see `cascading_randomization`.
        absolute: Whether signs of maps are dropped before they are compared.

    Returns:
        A metric with `random_labels`, `ssim`, `spearman` and `hog`, see there.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import metrics, saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> explain = saliency.grad_cam(model)
        >>> found, other = explain({}, images, blue), {}
        >>> metric = metrics.random_labels(model, explain, measure="spearman")
        >>> metric({}, images, blue, found, other)["random_labels"].round(2).tolist()
        [1.0]
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
    def score(variables, images, labels, saliency, other, *, key=None):
        # Small maps are enlarged to what the histograms need.
        size = tuple(max(side, SMALLEST) for side in images.shape[1:3])
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
            layers = list(layers_of(variables, order).values())
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
    choices.check("measure", measure, Measure)

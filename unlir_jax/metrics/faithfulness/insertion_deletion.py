"""The label's score while pixels appear or vanish in the order of the map.

Petsiuk et al., *RISE: Randomized Input Sampling for Explanation of Black-box Models*,
BMVC 2018, Section 4.1.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.metrics.faithfulness import token_removal
from unlir_jax.metrics.faithfulness.label_score import SHARE, of_logits, share
from unlir_jax.metrics.faithfulness.token_removal import DROP, Removal
from unlir_jax.metrics.spec import (
    ORDER_ONLY,
    PIXELS,
    RANKED,
    ROW_MAJOR,
    SCORE,
    Contract,
    metric,
)
from unlir_jax.split import scores
from unlir_jax.types import (
    Array,
    Images,
    Labels,
    Metric,
    PyTree,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

ORDERED = Contract(
    PIXELS,
    SCORE,
    "{baseline}",
    ROW_MAJOR,
    ORDER_ONLY,
    "all ties: row-major order",
    unbounded=SHARE + "the baseline; 0 where c = b",
    signs=RANKED,
)


@metric(
    title="Insertion",
    better="higher",
    needs="map",
    family="removal",
    meaning=(
        "A blurred image becomes sharp, the most important pixels first. The area "
        "under the class's probability: the earlier it rises, the higher."
    ),
    contract=ORDERED,
    fooled_by="a blob in the middle",
    passes="`steps` (28) + 1 forwards",
    source="Petsiuk et al., BMVC 2018",
    quick={"steps": 2},
    representative=True,
    variants="baseline",
    curves=("insertion_curve",),
    short="Insertion",
    caution=(
        "Half-sharp images are unlike those that the network was trained on, and a "
        "compact blob does well where photographers put things: compare with Centre."
    ),
)
def insertion(
    model: SplitModel,
    *,
    baseline: Removal = "blur",
    steps: int = 28,
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Start from the baseline and put the most salient pixels in first.

    Higher is better: the area under the curve of the label's probability against the
    share of pixels, by the trapezoid rule, in [0, 1]. Ties are broken in
    row-major order. Pixels are ranked by the signed value of the map, enlarged to the
    image.

    Args:
        model: The cut network.
        baseline: What the image starts from; see `maps.background`. `drop` takes the
            tokens of a transformer away, see `token_removal`: they are ranked by the
            mean of the map in their cell.
        steps: Number of equal steps; the curve has `steps + 1` points, both ends
            included.
        score: Score of the curve, see `scores.resolve`. Of one without bounds the
            curve shows the share of the image, see `label_score.share`, in [0, 1].
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `insertion`, `[batch]`, and `insertion_curve`,
        `[batch, steps + 1]`.
    """
    return _curves(model, {"insertion": baseline}, steps, score, loop)


@metric(
    title="Deletion",
    better="lower",
    needs="map",
    family="removal",
    meaning=(
        "The image turns black, the most important pixels first. The area under "
        "the class's probability: the sooner it falls, the lower."
    ),
    contract=ORDERED,
    fooled_by="scattered pixels",
    passes="`steps` (28) + 1 forwards",
    source="Petsiuk et al., BMVC 2018",
    quick={"steps": 2},
    variants="baseline",
    curves=("deletion_curve",),
    short="Deletion",
    caution=(
        "Black patches confuse a network by themselves, so scattered marks, such as "
        "Edges, delete well without explaining anything."
    ),
)
def deletion(
    model: SplitModel,
    *,
    baseline: Removal = "black",
    steps: int = 28,
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Start from the image and replace the most salient pixels by the baseline first.

    Lower is better; all else is as in `insertion`.

    Returns:
        A metric with `deletion`, `[batch]`, and `deletion_curve`, `[batch, steps + 1]`.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import metrics, saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> found = saliency.grad_cam(model)({}, images, blue)
        >>> scores = metrics.deletion(model, steps=4)({}, images, blue, found)
        >>> print([f"{p:.2f}" for p in scores["deletion_curve"][0]])
        ['0.39', '0.33', '0.33', '0.33', '0.33']
    """
    return _curves(model, {"deletion": baseline}, steps, score, loop)


@metric(
    title="Insertion − deletion",
    better="higher",
    needs="map",
    family="removal",
    meaning="How much larger is the area of insertion than that of deletion?",
    contract=ORDERED._replace(
        baseline="{insertion_baseline} for insertion, {deletion_baseline} for deletion"
    ),
    fooled_by="a blob in the middle",
    passes="2 × `steps` (28) + 1 forwards",
    source="Petsiuk et al., BMVC 2018",
    quick={"steps": 2},
    gives={
        each: {
            **{name: name for name in ("steps", "score", "loop")},
            "baseline": f"{each}_baseline",
        }
        for each in ("insertion", "deletion")
    },
)
def insertion_minus_deletion(
    model: SplitModel,
    *,
    insertion_baseline: Removal = "blur",
    deletion_baseline: Removal = "black",
    steps: int = 28,
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Subtract the area of deletion from that of insertion.

    Higher is better, in [-1, 1]. With one baseline for both, a map and the reverse of
    its order differ in sign.

    Args:
        model: The cut network.
        insertion_baseline: What insertion starts from.
        deletion_baseline: What deletion ends at.
        steps: Number of steps of each curve.
        score: Score of both curves, see `insertion`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `insertion_minus_deletion`, `[batch]`, and all that `insertion`
        and `deletion` give.
    """
    baselines: dict[str, Removal] = {
        "insertion": insertion_baseline,
        "deletion": deletion_baseline,
    }
    return _curves(model, baselines, steps, score, loop)


def _curves(
    model: SplitModel,
    baselines: Mapping[str, Removal],
    steps: int,
    score: scores.ScoreLike,
    loop: loops.Loop,
) -> Metric:
    """Compute curves of images; of two, the second ends at its start with the first."""
    _check(baselines, steps)
    compared = scores.resolve(score)
    dropped = DROP in baselines.values()
    prepare = _dropping(model) if dropped else _painting(model, baselines)
    scored = _scored(model, compared, loop, dropped)

    @jax.jit
    def areas(found: jax.Array) -> dict[str, jax.Array]:
        result = {}
        for place, name in enumerate(baselines):
            # The second begins with the image, where the first has ended.
            curve = found[:, place * steps : (place + 1) * steps + 1]
            if not compared.bounded:
                ends = curve[:, -1:], curve[:, :1]
                clean, nothing = ends if name == "insertion" else ends[::-1]
                curve = jnp.clip(share(curve, clean, nothing), 0, 1)
            area = (jnp.sum(curve, axis=1) - (curve[:, 0] + curve[:, -1]) / 2) / steps
            result |= {name: area, f"{name}_curve": curve}
        if len(baselines) == 2:
            difference = result["insertion"] - result["deletion"]
            result = {"insertion_minus_deletion": difference} | result
        return result

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        backgrounds, ranks, complete = prepare(variables, images, saliency, key)
        points = _points(tuple(baselines), steps, math.prod(ranks.shape[1:]))
        found = scored(variables, images, labels, ranks, backgrounds, points)
        return areas(found if complete is None else jnp.where(complete, found, jnp.nan))

    return measure


Prepare = Callable[..., tuple[jax.Array, jax.Array, jax.Array | None]]
"""Give backgrounds and ranks, and whether nothing remains of what is removed."""


def _painting(model: SplitModel, baselines: Mapping[str, Removal]) -> Prepare:
    @jax.jit
    def prepare(
        variables: Variables, images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array, None]:
        del variables
        enlarged = maps.resize(saliency, images.shape[1:3])
        # Not normalised: rounding could make ties. A flat map is all ties.
        enlarged = jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
        backgrounds = [
            maps.background(images, baseline, mean=model.mean, key=key)
            for baseline in baselines.values()
            if baseline != DROP
        ]
        return jnp.stack(backgrounds), rank(enlarged), None

    return prepare


def _dropping(model: SplitModel) -> Prepare:
    def prepare(
        variables: Variables, images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        del key
        cells = token_removal.grid(model, variables, images)
        complete = token_removal.check(model, variables, images, cells)
        means = token_removal.cell_means(saliency, images.shape[1:3], cells)
        return jnp.zeros(0), rank(means), complete

    return prepare


def _check(baselines: Mapping[str, Removal], steps: int) -> None:
    if steps < 1:
        raise ValueError(f"`steps`={steps}; expected 1 or more.")
    for baseline in baselines.values():
        choices.check("baseline", baseline, Removal)
    kinds = {baseline == DROP for baseline in baselines.values()}
    if len(kinds) > 1:
        given = " and ".join(f"`{n}_baseline`={b!r}" for n, b in baselines.items())
        raise ValueError(f"{given}; expected {DROP!r} for both, or for neither.")


class _Points(NamedTuple):
    """Say what is shown at each point of the curves, `[points]` each.

    Attributes:
        count: Number of pixels that are chosen, the most salient first.
        hidden: Whether the chosen pixels are of the background, and all others of the
            image, instead of the reverse.
        background: Number of the curve whose background is shown.
    """

    count: Array
    hidden: Array
    background: Array


def _points(names: tuple[str, ...], steps: int, pixels: int) -> _Points:
    """List the points of one curve after the other, the image once."""
    counts = np.round(np.linspace(0, pixels, steps + 1)).astype(np.int32)
    rows = [
        (count, name == "deletion", place)
        for place, name in enumerate(names)
        for count in counts[min(place, 1) :]
    ]
    kinds = np.int32, bool, np.int32
    columns = zip(zip(*rows, strict=True), kinds, strict=True)
    return _Points(*(np.asarray(column, kind) for column, kind in columns))


def _scored(
    model: SplitModel, score: scores.Score, loop: loops.Loop, dropped: bool
) -> Callable[..., jax.Array]:
    """Score all points of all images, `[batch, points]`, no more at once than images.

    On a CPU's host fewer images than there are go through the network at once;
    elsewhere whole batches do, which several devices share without moving images.
    """
    network, show = token_removal.ways(model, dropped)
    step = _step(model, score, dropped)
    label_of = of_logits(score)

    def scored(variables: Variables, images: Images, *others: Any) -> jax.Array:
        arguments, points = (variables, images, *others), len(others[-1].count)
        if loops.place(loop, *arguments) == "device":
            numbers = jnp.arange(points)
            return loops.map_steps(step, numbers, *arguments, loop=loop).T
        few = loops.few_enough(len(images), images.shape[1:3], loop)

        def chunk(size: int, start: Array, *inputs: Any) -> jax.Array:
            shown, labels = _shown(show, size, start, *inputs[1:])
            return label_of(network(variables, shown), labels)

        return loops.map_pairs(chunk, len(images), points, few, *arguments, loop=loop)

    return scored


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shown(
    show: Callable[..., PyTree], size: int, start: jax.Array, *inputs: Any
) -> tuple[PyTree, Labels]:
    """Show a chunk of pairs of an image and a point, and tell the images' labels."""
    images, labels, ranks, backgrounds, points = inputs
    own, number = loops.pairs(size, start, len(images), len(points.count))
    count, hidden, background = (each[number] for each in points)
    chosen = (ranks[own] < count[:, None, None]) != hidden[:, None, None]
    return show(images[own], chosen, backgrounds, background, own), labels[own]


@memoize.remember
def _step(
    model: SplitModel, score: scores.Score, dropped: bool
) -> Callable[..., jax.Array]:
    """Compile the label's score for a whole batch."""
    network, show = token_removal.ways(model, dropped)

    @jax.jit
    def step(number: jax.Array, *inputs: Any) -> jax.Array:
        variables, images, labels, ranks, backgrounds, points = inputs
        count, hidden, background = (each[number] for each in points)
        chosen = (ranks < count) != hidden
        shown = show(images, chosen, backgrounds, background)
        return score(network(variables, shown), labels)

    return step


@jax.jit
def rank(saliency: Saliency) -> jax.Array:
    """Number the pixels from the most salient on; equal ones in row-major order."""
    flat = saliency.reshape((saliency.shape[0], -1))
    order = jnp.argsort(-flat, axis=1, stable=True)
    places = jnp.broadcast_to(jnp.arange(flat.shape[1]), order.shape)
    ranks = jnp.zeros_like(order).at[jnp.arange(len(order))[:, None], order].set(places)
    return ranks.reshape(saliency.shape)

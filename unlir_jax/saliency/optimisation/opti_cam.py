"""Opti-CAM: the weights of the feature maps are optimised for each image.

Zhang, Torres, Sicre, Avrithis & Ayache, *Opti-CAM: Optimizing saliency maps for
interpretability*, CVIU 248 (2024) 104101, arXiv 2301.07002.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.saliency.cam.cam import check_maps, weigh
from unlir_jax.saliency.optimisation.entropic_projection import nearest
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import (
    Explainer,
    Features,
    Images,
    Labels,
    PyTree,
    Saliency,
    SplitModel,
    Variables,
)

Objective = Literal["mask", "diff", "iomask", "iodiff"]
Solver = Literal["adam", "projected"]
DECAYS = (0.8, 0.99)
"""Decays of Adam on masks, chosen on 8 photographs (docs/results/appendix.md)."""
SHARED = 0.3
"""Of the mean metric, that every cell has."""
SMALLEST = -16.0
"""No weight falls below `exp(-16)` of the largest, so that it can come back."""


class Problem(NamedTuple):
    """Hold what stays fixed while the weights of one batch are optimised."""

    variables: Variables
    images: Images
    labels: Labels
    maps: jax.Array
    clean: jax.Array


class Search(NamedTuple):
    """Hold what changes: every field has one entry an image.

    `weights` are `u` before the softmax, `[batch, filters]`; an image whose `active` is
    False has converged and stays as it is.
    """

    weights: jax.Array
    optimizer: PyTree
    loss: jax.Array
    active: jax.Array


@explainer(
    title="Opti-CAM",
    family="cam",
    formula="`Σ_k softmax(u)_k A_k`, `u` by Adam for each image",
    passes="1 + `steps` (100) × (forward + backward)",
    source="Zhang et al., CVIU 248 (2024), Eq. 8-10",
    quick={"steps": 2},
    representative=True,
)
def opti_cam(
    model: SplitModel,
    *,
    steps: int = 100,
    learning_rate: float = 0.1,
    objective: Objective = "mask",
    normalization: maps.Normalization = "range",
    tolerance: float = 1e-10,
    loop: loops.Loop = "auto",
    solver: Solver = "adam",
    score: scores.ScoreLike = "logit",
) -> Explainer:
    """Search the convex combination of maps whose mask serves the label best.

    `S(x; u) = sum_k softmax(u)_k A_k` (Eq. 8) is enlarged, normalised and multiplied
    with the image, and `u` climbs the objective by Adam. Each image has its own
    optimiser state and its own early stop, so a map never depends on its neighbours.

    Args:
        model: The cut network.
        steps: Most Adam steps; the paper uses up to 100.
        learning_rate: Step size of Adam; the paper's 0.1. `projected` takes 0.2 well.
        objective: With `y` the score, `s` the mask: `mask` is `y(x s)`
            (Eq. 10), `diff` is `-|y(x) - y(x s)|` (Eq. 19), `iomask` is
            `y(x s) - y(x (1 - s))` (Eq. F.1), `iodiff` is
            `-|y(x) - y(x s)| + |y(x) - y(x (1 - s))|` (Eq. F.2).
        normalization: `range` (Eq. 16), `max` (Eq. 17) or `sigmoid` (Eq. 18).
        tolerance: An image stops when its loss changes by less than this between two
            steps; 0 never stops.
        loop: `auto`, `host` or `device`; see `loops.place`.
        solver: `adam` moves `u`, as the paper does. `projected` lets Adam move the mask
            at the resolution of the cut and takes the combination of maps that comes
            nearest to it (`nearest.nearest`). It reaches in about 12 steps what `adam`
            reaches in 100, and continues from there: set `steps` accordingly.
        score: Score to raise, see `scores.resolve`; the paper's logit.

    Returns:
        An explainer whose maps are `S(x; u*)` at the resolution of the cut.

    Note:
        The authors' code stops a batch by its summed loss; the paper's per-image
        criterion is kept here. A flat map masks everything, `n(0) = 0`.

    Raises:
        ValueError: An unknown objective, normalisation, solver or loop, fewer than 0
            steps, a learning rate that is not positive, or `projected` with `sigmoid`,
            whose mask depends on the scale of the maps.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> found = saliency.opti_cam(model, steps=5)({}, images, blue)
        >>> int(found[0].argmax())  # In row-major order.
        1
    """
    _check_settings(steps, learning_rate, objective, normalization)
    _check_solver(solver, normalization)
    explained = scores.resolve(score)
    programs = compile_programs(
        *(model, learning_rate, objective, normalization, solver, explained)
    )

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
        problem = programs.prepare(variables, images, labels)
        search = programs.begin(problem)
        if loops.place(loop, variables, images, labels) == "device":
            search = programs.search(problem, search, steps, tolerance)
        else:
            for _ in range(steps):
                search = programs.step(problem, search, tolerance)
                if tolerance > 0 and not np.asarray(search.active).any():
                    break
        return programs.combine(search.weights, problem.maps)

    return explain


class Programs(NamedTuple):
    """Name the compiled pieces, the same for any number of steps and any tolerance."""

    prepare: Callable[[Variables, Images, Labels], Problem]
    begin: Callable[[Problem], Search]
    step: Callable[[Problem, Search, float], Search]
    search: Callable[[Problem, Search, int, float], Search]
    combine: Callable[[jax.Array, jax.Array], Saliency]


@memoize.remember
def compile_programs(
    model: SplitModel,
    learning_rate: float,
    objective: Objective,
    normalization: maps.Normalization,
    solver: Solver,
    score: scores.Score = scores.NAMED["logit"],
) -> Programs:
    """Make the pieces of a search; settings as in `opti_cam`."""
    loss_of = _loss(model, objective, normalization, score)
    adam, move = _solver(solver, learning_rate, loss_of, normalization)

    @jax.jit
    def decide(variables: Variables, features: Features, labels: Labels) -> jax.Array:
        return score(model.head(variables, features), labels)

    def prepare(variables: Variables, images: Images, labels: Labels) -> Problem:
        features = model.features(variables, images)
        check_maps(features)
        clean = decide(variables, features, labels)
        return Problem(variables, images, labels, features.maps, clean)

    def begin(problem: Problem) -> Search:
        batch, filters = problem.maps.shape[0], problem.maps.shape[-1]
        # Newton's method needs its digits, and Adam an epsilon that float16 lacks.
        kind = jnp.promote_types(problem.maps.dtype, jnp.float32)
        weights = jnp.zeros((batch, filters), kind)
        moved = weights if solver == "adam" else problem.maps[..., 0].astype(kind)
        loss = jnp.full((batch,), jnp.inf, problem.clean.dtype)
        return Search(weights, adam.init(moved), loss, jnp.ones((batch,), bool))

    def step(problem: Problem, search: Search, tolerance: float | jax.Array) -> Search:
        weights, optimizer, loss = move(problem, search)
        active = search.active & ~(jnp.abs(loss - search.loss) < tolerance)
        weights = jnp.where(active[:, None], weights, search.weights)
        # Adam's moments of a stopped image still change; its weights do not.
        return Search(weights, optimizer, loss, active)

    def search(problem: Problem, begun: Search, steps, tolerance) -> Search:
        def ongoing(state: tuple[jax.Array, Search]) -> jax.Array:
            return (state[0] < steps) & jnp.any(state[1].active)

        def advance(state: tuple[jax.Array, Search]) -> tuple[jax.Array, Search]:
            return state[0] + 1, step(problem, state[1], tolerance)

        zero = jnp.zeros((), jnp.int32)
        return jax.lax.while_loop(ongoing, advance, (zero, begun))[1]

    compiled = jax.jit(begin), jax.jit(step), jax.jit(search), jax.jit(_combine)
    return Programs(prepare, *compiled)


Move = Callable[[Problem, Search], tuple[jax.Array, PyTree, jax.Array]]
"""Give new weights, the new state of Adam, and the loss under the old weights."""
Loss = Callable[[Problem, Saliency], jax.Array]


def _solver(
    solver: Solver,
    learning_rate: float,
    loss_of: Loss,
    normalization: maps.Normalization,
) -> tuple[optax.GradientTransformation, Move]:
    if solver == "adam":
        adam = optax.adam(learning_rate)
        return adam, _moving_weights(adam, loss_of)
    adam = optax.scale_by_adam(*DECAYS)
    return adam, _moving_masks(adam, learning_rate, loss_of, normalization)


def _moving_weights(adam: optax.GradientTransformation, loss_of: Loss) -> Move:
    """Let Adam move the weights, as the paper does."""

    def move(problem: Problem, search: Search) -> tuple[jax.Array, PyTree, jax.Array]:
        def total(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
            loss = loss_of(problem, _combine(weights, problem.maps))
            return jnp.sum(loss), loss

        gradient, loss = jax.grad(total, has_aux=True)(search.weights)
        updates, optimizer = adam.update(gradient, search.optimizer)
        weights = jnp.asarray(optax.apply_updates(search.weights, updates))
        return weights, optimizer, loss

    return move


def _moving_masks(
    adam: optax.GradientTransformation,
    learning_rate: float,
    loss_of: Loss,
    normalization: maps.Normalization,
) -> Move:
    """Let Adam move the mask, and follow it with the weights.

    A mask at the cut has far fewer cells than there are weights (49 and 1280 in
    MobileNetV2), and every convex combination of maps is one. Adam steps among masks,
    cell by cell, and the weights give the combination nearest to its step. Near
    counts in Adam's own metric: in another, the nearest may lie downhill.
    """
    shifted = normalization == "range"  # Then a constant added to a map is not seen.

    def move(problem: Problem, search: Search) -> tuple[jax.Array, PyTree, jax.Array]:
        def total(mask: Saliency) -> tuple[jax.Array, jax.Array]:
            loss = loss_of(problem, mask)
            return jnp.sum(loss), loss

        found = _combine(search.weights, problem.maps)
        low = jnp.min(found, (1, 2), keepdims=True) if shifted else 0.0
        height = jnp.max(found - low, (1, 2), keepdims=True)
        height = jnp.where(height > 0, height, 1)
        mask = (found - low) / height
        gradient, loss = jax.grad(total, has_aux=True)(mask)
        _, optimizer = adam.update(gradient, search.optimizer)
        change, metric = _adam_step(optimizer)
        target = jnp.clip(mask - learning_rate * change, 0, 1)
        batch, filters = search.weights.shape
        stack = problem.maps.reshape(batch, -1, filters)
        peak = jnp.max(jnp.abs(stack), axis=1)
        peak = jnp.where(peak > 0, peak, 1)
        both = jnp.concatenate(
            (stack / peak[:, None], target.reshape(batch, -1, 1)), axis=2
        )
        metric = metric.reshape(batch, -1, 1)
        if shifted:
            both = both - jnp.mean(metric * both, axis=1, keepdims=True)
        both = jnp.sqrt(metric) * both
        # The weights of maps with a peak of 1 that add up to a mask of height 1.
        scale = jnp.log(peak) - jnp.log(height[:, :, 0])
        logarithms = jax.nn.log_softmax(search.weights) + scale
        least = jnp.max(logarithms, axis=1, keepdims=True) + SMALLEST
        logarithms = jnp.maximum(logarithms, least)
        weights = nearest(both[..., :-1], logarithms, both[..., -1]) - scale
        return weights, optimizer, loss

    return move


def _adam_step(moments: PyTree) -> tuple[jax.Array, jax.Array]:
    """Give a step down of about 1, and the metric, of mean 1, that it is steepest in.

    A share of the mean keeps cells that were hardly ever felt from flying.
    """
    first, second = DECAYS
    mean = moments.mu / (1 - first**moments.count)
    metric = jnp.sqrt(moments.nu / (1 - second**moments.count))
    middle = jnp.mean(metric, (1, 2), keepdims=True)
    middle = jnp.where(middle > 0, middle, 1)
    metric = (metric / middle + SHARED) / (1 + SHARED)
    return mean / middle / metric, metric


def _loss(
    model: SplitModel,
    objective: Objective,
    normalization: maps.Normalization,
    score: scores.Score,
) -> Loss:
    """Give the loss of each image, the negative of the paper's objective."""
    network = split.whole(model)

    def loss_of(problem: Problem, saliency: Saliency) -> jax.Array:
        enlarged = maps.resize(saliency, problem.images.shape[1:3])
        mask = maps.normalize(enlarged, normalization).astype(problem.images.dtype)

        def score_under(mask: jax.Array) -> jax.Array:
            masked = maps.apply_mask(problem.images, mask)
            return score(network(problem.variables, masked), problem.labels)

        inside = score_under(mask)
        if objective == "mask":
            return -inside
        if objective == "diff":
            return jnp.abs(problem.clean - inside)
        outside = score_under(1 - mask)
        if objective == "iomask":
            return outside - inside
        return jnp.abs(problem.clean - inside) - jnp.abs(problem.clean - outside)

    return loss_of


def _combine(weights: jax.Array, feature_maps: jax.Array) -> Saliency:
    return weigh(feature_maps, jax.nn.softmax(weights))


def _check_settings(
    steps: int, learning_rate: float, objective: str, normalization: str
) -> None:
    if steps < 0:
        raise ValueError(f"`steps`={steps}; expected 0 or more.")
    if not learning_rate > 0:
        raise ValueError(f"`learning_rate`={learning_rate}; expected more than 0.")
    choices.check("objective", objective, Objective)
    choices.check("normalization", normalization, maps.Normalization)


def _check_solver(solver: str, normalization: str) -> None:
    choices.check("solver", solver, Solver)
    if solver == "projected" and normalization == "sigmoid":
        raise ValueError(
            "`solver`='projected' does not know `normalization`='sigmoid', whose mask "
            "depends on the maps' scale; expected 'range' or 'max', or `solver`='adam'."
        )

"""Opti-CAM: the weights of the feature maps are optimised for each image.

Zhang, Torres, Sicre, Avrithis & Ayache, *Opti-CAM: Optimizing saliency maps for
interpretability*, CVIU 248 (2024) 104101, arXiv 2301.07002.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from unlir_jax import factories, loops, maps, split
from unlir_jax.saliency.cam import check_maps, weigh
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    Logits,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Objective = Literal["mask", "diff", "iomask", "iodiff"]


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
    optimizer: Any
    loss: jax.Array
    active: jax.Array


@factories.remember
def opti_cam(
    model: SplitModel,
    *,
    steps: int = 100,
    learning_rate: float = 0.1,
    objective: Objective = "mask",
    normalization: maps.Normalization = "range",
    tolerance: float = 1e-10,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Search the convex combination of maps whose mask serves the label best.

    `S(x; u) = sum_k softmax(u)_k A_k` (Eq. 8) is enlarged, normalised and multiplied
    with the image, and `u` climbs the objective by Adam. Each image has its own
    optimiser state and its own early stop, so a map never depends on its neighbours.

    Args:
        model: The cut network.
        steps: Most Adam steps; the paper uses up to 100.
        learning_rate: Of Adam; the paper's 0.1.
        objective: With `y` the label's logit, `s` the mask: `mask` is `y(x s)`
            (Eq. 10), `diff` is `-|y(x) - y(x s)|` (Eq. 19), `iomask` is
            `y(x s) - y(x (1 - s))` (Eq. F.1), `iodiff` is
            `-|y(x) - y(x s)| + |y(x) - y(x (1 - s))|` (Eq. F.2).
        normalization: `range` (Eq. 16), `max` (Eq. 17) or `sigmoid` (Eq. 18).
        tolerance: An image stops when its loss changes by less than this between two
            steps; 0 never stops.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An explainer whose maps are `S(x; u*)` at the resolution of the cut.

    Note:
        The authors' code stops a batch by its summed loss; the paper's per-image
        criterion is kept here. A flat map masks everything, `n(0) = 0`.

    Raises:
        ValueError: An unknown objective, normalisation or loop, fewer than 0 steps, or
            a learning rate that is not positive.
    """
    _check_settings(steps, learning_rate, objective, normalization)
    programs = _programs(model, learning_rate, objective, normalization)

    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        del key  # Nothing here is random.
        split.check_batch(model, variables, images, labels)
        problem = programs.prepare(variables, jnp.asarray(images), jnp.asarray(labels))
        search = programs.begin(problem)
        if loops.place(loop, variables, images, labels) == "device":
            search = programs.search(problem, search, steps, tolerance)
        else:
            for _ in range(steps):
                search = programs.step(problem, search, tolerance)
                if tolerance > 0 and not search.active.any():
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


@factories.remember
def _programs(
    model: SplitModel,
    learning_rate: float,
    objective: Objective,
    normalization: maps.Normalization,
) -> Programs:
    adam = optax.adam(learning_rate)
    loss_of = _loss(model, objective, normalization)

    def prepare(variables: Variables, images: Images, labels: Labels) -> Problem:
        features = model.features(variables, images)
        check_maps(features)
        clean = _label_logits(model.head(variables, features), labels)
        return Problem(variables, images, labels, features.maps, clean)

    def begin(problem: Problem) -> Search:
        batch, filters = problem.maps.shape[0], problem.maps.shape[-1]
        weights = jnp.zeros((batch, filters), problem.maps.dtype)
        loss = jnp.full((batch,), jnp.inf, problem.clean.dtype)
        return Search(weights, adam.init(weights), loss, jnp.ones((batch,), bool))

    def step(problem: Problem, search: Search, tolerance: float | jax.Array) -> Search:
        def total(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
            loss = loss_of(problem, weights)
            return jnp.sum(loss), loss

        gradient, loss = jax.grad(total, has_aux=True)(search.weights)
        updates, optimizer = adam.update(gradient, search.optimizer)
        active = search.active & ~(jnp.abs(loss - search.loss) < tolerance)
        weights = jnp.asarray(optax.apply_updates(search.weights, updates))
        weights = jnp.where(active[:, None], weights, search.weights)
        # Adam's moments of a stopped image go on, unseen: its weights no longer move.
        return Search(weights, optimizer, loss, active)

    def search(
        problem: Problem,
        begun: Search,
        steps: int | jax.Array,
        tolerance: float | jax.Array,
    ) -> Search:
        def ongoing(state: tuple[jax.Array, Search]) -> jax.Array:
            return (state[0] < steps) & jnp.any(state[1].active)

        def advance(state: tuple[jax.Array, Search]) -> tuple[jax.Array, Search]:
            return state[0] + 1, step(problem, state[1], tolerance)

        zero = jnp.zeros((), jnp.int32)
        return jax.lax.while_loop(ongoing, advance, (zero, begun))[1]

    compiled = jax.jit(prepare), jax.jit(begin), jax.jit(step), jax.jit(search)
    return Programs(*compiled, jax.jit(_combine))


def _loss(
    model: SplitModel, objective: Objective, normalization: maps.Normalization
) -> Callable[[Problem, jax.Array], jax.Array]:
    """Give the loss of each image, the negative of the paper's objective."""
    network = split.whole(model)

    def loss_of(problem: Problem, weights: jax.Array) -> jax.Array:
        saliency = maps.resize(
            _combine(weights, problem.maps), problem.images.shape[1:3]
        )
        mask = maps.normalize(saliency, normalization)

        def logits_under(mask: jax.Array) -> jax.Array:
            masked = maps.apply_mask(problem.images, mask)
            return _label_logits(network(problem.variables, masked), problem.labels)

        inside = logits_under(mask)
        if objective == "mask":
            return -inside
        if objective == "diff":
            return jnp.abs(problem.clean - inside)
        outside = logits_under(1 - mask)
        if objective == "iomask":
            return outside - inside
        return jnp.abs(problem.clean - inside) - jnp.abs(problem.clean - outside)

    return loss_of


def _combine(weights: jax.Array, feature_maps: jax.Array) -> Saliency:
    return weigh(feature_maps, jax.nn.softmax(weights))


def _label_logits(logits: Logits, labels: Labels) -> jax.Array:
    return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def _check_settings(
    steps: int, learning_rate: float, objective: str, normalization: str
) -> None:
    if steps < 0:
        raise ValueError(f"`steps`={steps}; expected 0 or more.")
    if not learning_rate > 0:
        raise ValueError(f"`learning_rate`={learning_rate}; expected more than 0.")
    if objective not in get_args(Objective):
        raise ValueError(
            f"`objective`={objective!r} is unknown; expected one of "
            f"{get_args(Objective)}."
        )
    if normalization not in get_args(maps.Normalization):
        raise ValueError(
            f"`normalization`={normalization!r} is unknown; expected one of "
            f"{get_args(maps.Normalization)}."
        )

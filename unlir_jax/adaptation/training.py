"""Learn weights of filters and a head on few pictures, several adapters at once."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Integer

from unlir_jax import pooling
from unlir_jax.adaptation import probes
from unlir_jax.types import Array, Variables

BETA = 0.3


class Plan(NamedTuple):
    """Say how adapters learn; the defaults were chosen on other species than reported.

    Attributes:
        steps: Of Adam, with a cosine that ends at zero.
        batch_size: Pictures a step.
        learning_rate: Of what adapts the trunk.
        head_rate: Of the head.
        pull: Weight of the squared distance from where the trunk started.
        head: `cosine` or `linear`.
        scale: Of the cosine head's logits.
        pooling: Of the maps, see `pooling.POOLINGS`.
        mixup: Whether the last adapter learns from mixtures of pictures.
    """

    steps: int = 150
    batch_size: int = 50
    learning_rate: float = 1e-2
    head_rate: float = 1e-3
    pull: float = 0.0
    head: str = "cosine"
    scale: float = probes.SCALE
    pooling: str = "gem"


class Learnt(NamedTuple):
    """Hold adapters, along the first axis of every leaf.

    Attributes:
        trunk: What adapts the trunk, such as weights of filters.
        head: `kernel` `[adapters, channels, classes]` and `bias` `[adapters, classes]`.
    """

    trunk: Any
    head: dict[str, jax.Array]


def start_head(
    plan: Plan, views: probes.Views, labels: Integer[Array, " n"], classes: int
) -> dict[str, np.ndarray]:
    """Start a head from closed forms: class means, or ridge regression."""
    if plan.head == "cosine":
        kernel = probes.class_means(views, labels, classes).T
        return {"kernel": kernel, "bias": np.zeros(classes, np.float32)}
    kernel, bias = probes.ridge.classifier(np.mean(views, axis=0), labels, classes)
    return {"kernel": kernel, "bias": bias}


def logits(
    plan: Plan, head: Mapping[str, Array], descriptors: Float[Array, "batch channels"]
) -> jax.Array:
    """Classify descriptors by a cosine or a linear head."""
    if plan.head == "cosine":
        kernel = head["kernel"]
        length = jnp.linalg.norm(kernel, axis=0, keepdims=True)
        return plan.scale * _unit(descriptors) @ (kernel / jnp.maximum(length, 1e-12))
    return descriptors @ head["kernel"] + head["bias"][None]


def train(
    after: Callable[[Variables, Array], jax.Array],
    adapt: Callable[[Variables, Any], Variables],
    variables: Variables,
    trunk: Any,
    head: Mapping[str, Array],
    inner: Float[Array, "adapters pictures rows columns channels"],
    labels: Integer[Array, " pictures"],
    classes: int,
    plan: Plan,
    *,
    mixed: tuple[bool, ...],
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Learnt:
    """Learn several adapters of one frozen trunk at once.

    Norms keep the statistics of the trunk. All adapters see the same pictures in the
    same order, each its own views of them.

    Args:
        after: The trunk from the cut on.
        adapt: `(variables, trunk) -> variables`, such as `filters.apply`.
        variables: Of the frozen network.
        trunk: What adapts the trunk, to start from; the same for all adapters.
        head: To start from.
        inner: Views of the pictures at the cut, for each adapter; a picture may have
            several along the second axis.
        labels: Of the rows of `inner`.
        classes: Number of classes.
        plan: How.
        mixed: Which adapters learn from mixtures of pictures (mixup, beta 0.3).
        seed: Of the order, and of the mixtures.
        progress: Told the share that is done.
    """
    count = len(mixed)
    pool = pooling.POOLINGS[plan.pooling]
    schedule = optax.cosine_decay_schedule(1.0, max(plan.steps, 1))
    rates = {"trunk": plan.learning_rate, "head": plan.head_rate}
    optimizer = optax.multi_transform(
        {
            name: optax.adam(lambda step, rate=rate: rate * schedule(step))
            for name, rate in rates.items()
        },
        {"trunk": "trunk", "head": "head"},
    )
    first = jax.tree.map(jnp.asarray, trunk)

    def loss(
        learnt: Any, variables: Variables, rows: Array, targets: Array
    ) -> jax.Array:
        maps = after(adapt(variables, learnt["trunk"]), rows)
        found = logits(plan, learnt["head"], pool(maps))
        error = jnp.mean(optax.softmax_cross_entropy(found, targets))
        if plan.pull:
            apart = jax.tree.map(
                lambda a, b: jnp.sum((a - b) ** 2), learnt["trunk"], first
            )
            error = error + plan.pull * sum(jax.tree.leaves(apart))
        return error

    @jax.jit
    def step(
        learnt: Any,
        state: Any,
        variables: Variables,
        rows: Array,
        targets: Array,
    ) -> tuple[Any, Any]:
        gradient = jax.vmap(jax.grad(loss), in_axes=(0, None, 0, 0))(
            learnt, variables, rows, targets
        )
        change, state = jax.vmap(optimizer.update)(gradient, state, learnt)
        return optax.apply_updates(learnt, change), state

    learnt = jax.tree.map(
        lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf))),
        {"trunk": trunk, "head": dict(head)},
    )
    state = jax.vmap(optimizer.init)(learnt)
    hot = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
    for number, (rows, targets) in enumerate(
        _batches(np.asarray(inner), hot, plan, mixed, seed)
    ):
        learnt, state = step(learnt, state, variables, rows, targets)
        progress((number + 1) / plan.steps)
    return Learnt(learnt["trunk"], learnt["head"])


def _batches(
    inner: np.ndarray, hot: np.ndarray, plan: Plan, mixed: tuple[bool, ...], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the rows and targets of every step, for each adapter."""
    random = np.random.default_rng([seed, 2])
    size = min(plan.batch_size, len(hot))
    order: list[int] = []
    for _ in range(plan.steps):
        while len(order) < size:
            order += random.permutation(len(hot)).tolist()
        some, order = order[:size], order[size:]
        rows = inner[:, some]
        targets = np.repeat(hot[some][None], len(mixed), 0)
        other = random.permutation(size)
        share = random.beta(BETA, BETA, (size,)).astype(np.float32)
        share = np.maximum(share, 1 - share)
        for place in np.flatnonzero(mixed):
            own = share.reshape(-1, *[1] * (rows.ndim - 2))
            rows[place] = own * rows[place] + (1 - own) * rows[place][other]
            flat = share[:, None]
            targets[place] = flat * targets[place] + (1 - flat) * targets[place][other]
        yield rows, targets


def describe(
    after: Callable[[Variables, Array], jax.Array],
    adapt: Callable[[Variables, Any], Variables],
    plan: Plan,
) -> Callable[[Variables, Any, Array], jax.Array]:
    """Compile the pooled descriptors of an adapted trunk."""
    pool = pooling.POOLINGS[plan.pooling]
    return jax.jit(
        lambda variables, trunk, rows: pool(after(adapt(variables, trunk), rows))
    )


def _unit(rows: Array) -> jax.Array:
    square = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    safe = jnp.where(square > 0, square, 1)
    return jnp.where(square > 0, rows * jax.lax.rsqrt(safe), 0)

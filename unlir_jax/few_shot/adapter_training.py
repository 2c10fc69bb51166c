"""Learn weights of filters and a head on few images, several adapters at once.

Penalties come from `filters.sparsity` and heads from `adapters.head`, as in a
training. The loop is another one than `training`: it learns several adapters of one
frozen backbone in one batch, from maps at the cut that are computed once, in seconds.
The trainer reads images anew for each step, keeps checkpoints and logs, and learns one
network: a batch of adapters, of which each has its own views of the same images, is
none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Integer

from unlir_jax.adapters import head as heads
from unlir_jax.core import loops
from unlir_jax.few_shot import discriminant, probes
from unlir_jax.filters import sparsity
from unlir_jax.models import pooling
from unlir_jax.parts import ridge
from unlir_jax.types import Array, Features, PyTree, RandomKey, Variables

BETA = 0.3
STARTS = ("ridge", "lda")


class Plan(NamedTuple):
    """Say how adapters learn; the defaults were chosen on other species than reported.

    Attributes:
        steps: Steps of Adam, with a cosine that ends at zero.
        batch_size: Images a step.
        learning_rate: Learning rate of what adapts the backbone.
        head_rate: Learning rate of the head.
        penalty: What is added to the loss, so that weights go to 0 or stay at 1.
        head: `cosine` or `linear`.
        head_start: Start of a linear head: `ridge` or `lda`.
        scale: Scale of the cosine head's logits.
        pooling: Pooling of the maps, see `pooling.describe`.
    """

    steps: int = 150
    batch_size: int = 50
    learning_rate: float = 1e-2
    head_rate: float = 1e-3
    penalty: sparsity.Penalty = sparsity.Penalty()
    head: str = "cosine"
    head_start: str = "ridge"
    scale: float = heads.SCALE
    pooling: str = "gem"


class Network(NamedTuple):
    """Hold a frozen backbone, and how it is adapted.

    Attributes:
        after: The backbone from the cut on, see `block_cut.Cut`.
        adapt: `(variables, trunk) -> variables`, such as `filters.apply`.
        variables: Variables of the frozen network.
    """

    after: Callable[[Variables, Array], jax.Array | Features]
    adapt: Callable[[Variables, PyTree], Variables]
    variables: Variables


class Learnt(NamedTuple):
    """Hold adapters, along the first axis of every leaf.

    Attributes:
        trunk: Weights that adapt the backbone, such as weights of filters.
        head: `kernel` `[adapters, channels, classes]` and `bias` `[adapters, classes]`.
    """

    trunk: PyTree
    head: PyTree


def start_head(
    plan: Plan, views: probes.Views, labels: Integer[Array, " n"], classes: int
) -> dict[str, np.ndarray]:
    """Start a head from closed forms: class means, ridge regression, discriminants."""
    if plan.head == "cosine":
        kernel = probes.class_means(views, labels, classes).T
        return {"kernel": kernel, "bias": np.zeros(classes, np.float32)}
    fit = (discriminant if plan.head_start == "lda" else ridge).classifier
    kernel, bias = fit(np.mean(views, axis=0), labels, classes)
    return {"kernel": kernel, "bias": bias}


def logits(
    plan: Plan, head: Mapping[str, Array], descriptors: Float[Array, "batch channels"]
) -> jax.Array:
    """Classify descriptors by the head of a plan."""
    return heads.logits(plan.head, head, descriptors, plan.scale)


def train(
    network: Network,
    start: Learnt,
    inner: Sequence[Array] | Array,
    targets: Float[Array, "rows classes"],
    plan: Plan,
    *,
    mixed: tuple[bool, ...],
    seed: int = 0,
    loop: loops.Loop = "auto",
) -> Learnt:
    """Learn several adapters of one frozen backbone at once.

    Norms keep the statistics of the backbone. All adapters see the same images in the
    same order, each its own views of them.

    Args:
        network: The backbone, and how it is adapted.
        start: What all adapters start from, without an axis for them.
        inner: Views of the images at the cut, `[rows, …]` for each adapter; one that
            has fewer of them goes through them again. 8-bit rows are pixels.
        targets: Targets of the rows, as shares of classes.
        plan: How.
        mixed: Which adapters learn from mixtures of images (mixup, beta 0.3).
        seed: Seed of the order, and of the mixtures.
        loop: `device` takes all adapters in one batch, `host` one after the other,
            which a CPU's caches like better; see `loops.place`.
    """
    optimizer = _optimizer(plan)
    gradient = jax.grad(_loss(network, plan, start.trunk))

    def step(
        learnt: Learnt,
        state: PyTree,
        variables: Variables,
        rows: Array,
        targets: Array,
        key: RandomKey,
    ) -> tuple[Learnt, PyTree]:
        slope = gradient(learnt, variables, rows, targets, key)
        change, state = optimizer.update(slope, state, learnt)
        moved = cast(Learnt, optax.apply_updates(learnt, change))
        kept = sparsity.stop_at_zero(
            plan.penalty, learnt.trunk, moved.trunk, slope.trunk
        )
        return moved._replace(trunk=kept), state

    begun = start._replace(trunk=sparsity.begin(start.trunk, plan.penalty))
    begun = jax.tree.map(jnp.asarray, begun)
    keys = jax.random.split(jax.random.key(seed), max(plan.steps, 1))
    learnt = [(begun, optimizer.init(begun))] * len(mixed)
    views = [np.asarray(own) for own in inner]
    batches = _batches(views, np.asarray(targets), plan, mixed, seed)
    known = network.variables
    if loops.place(loop) == "host":
        alone = jax.jit(step)
        for (rows, wanted), key in zip(batches, keys, strict=False):
            learnt = [
                alone(*own, known, rows[place], wanted[place], key)
                for place, own in enumerate(learnt)
            ]
        return _settled(_stacked([own for own, _ in learnt]))
    together = jax.jit(jax.vmap(step, in_axes=(0, 0, None, 0, 0, None)))
    all_of_them = _stacked(learnt)
    for (rows, wanted), key in zip(batches, keys, strict=False):
        all_of_them = together(*all_of_them, known, rows, wanted, key)
    return _settled(all_of_them[0])


def _optimizer(plan: Plan) -> optax.GradientTransformation:
    """Take backbone and head each at its own rate, down a cosine."""
    schedule = optax.cosine_decay_schedule(1.0, max(plan.steps, 1))
    rates = {"trunk": plan.learning_rate, "head": plan.head_rate}
    return optax.multi_transform(
        {
            name: optax.adam(lambda step, rate=rate: rate * schedule(step))
            for name, rate in rates.items()
        },
        Learnt("trunk", "head"),
    )


def _settled(learnt: Learnt) -> Learnt:
    return learnt._replace(trunk=sparsity.settle(learnt.trunk))


def _stacked(leaves: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *each: jnp.stack(each), *leaves)


def _loss(network: Network, plan: Plan, first: PyTree) -> Callable[..., jax.Array]:
    """Give the loss of one adapter on one batch."""
    extra = sparsity.cost(plan.penalty, first)
    drawn = plan.penalty.name == "hard_concrete"

    def loss(
        learnt: Learnt,
        variables: Variables,
        rows: Array,
        targets: Array,
        key: RandomKey,
    ) -> jax.Array:
        own = sparsity.settle(learnt.trunk, key if drawn else None)
        maps = network.after(network.adapt(variables, own), rows)
        found = logits(plan, learnt.head, pooling.describe(maps, plan.pooling))
        error = jnp.mean(optax.softmax_cross_entropy(found, targets))
        return error + extra(learnt.trunk)

    return loss


def _batches(
    inner: Sequence[np.ndarray],
    hot: np.ndarray,
    plan: Plan,
    mixed: tuple[bool, ...],
    seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the rows and targets of every step, for each adapter."""
    random = np.random.default_rng([seed, 2])
    size = min(plan.batch_size, len(hot))
    order: list[int] = []
    for _ in range(plan.steps):
        while len(order) < size:
            order += random.permutation(len(hot)).tolist()
        some, order = np.asarray(order[:size]), order[size:]
        rows = np.stack([own[some % len(own)] for own in inner])
        if rows.dtype == np.uint8:
            rows = rows.astype(np.float32) / 255
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
    after: Callable[[Variables, Array], jax.Array | Features],
    adapt: Callable[[Variables, PyTree], Variables],
    plan: Plan,
) -> Callable[[Variables, PyTree, Array], jax.Array]:
    """Compile the pooled descriptors of an adapted backbone."""

    @jax.jit
    def found(variables: Variables, trunk: PyTree, rows: Array) -> jax.Array:
        return pooling.describe(after(adapt(variables, trunk), rows), plan.pooling)

    return found

"""Train candidates on one part of the cached features, and measure them on the other.

Each is trained as the trainer would: by the same objective, batches and optimiser.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import tree
from unlir_jax.features import cache, trunks
from unlir_jax.objectives.objective import Batch
from unlir_jax.parts import logistic
from unlir_jax.training import setup as setups
from unlir_jax.training import state as states
from unlir_jax.training.setup import TrainingSetup

FOLDS = 3
# Number of images that separates candidates by half a point; no more are held out.
MOST_HELD_OUT = 10_000
FEWEST = 20
# Steps that are worked through without asking whether to stop, and their bytes.
STRIDE, STRIDE_BYTES = 50, 1 << 26

Compiled = Callable[
    [int, int],
    tuple[states.State, Callable[..., states.State], Callable[..., states.Report]],
]
"""See `compiler`."""


def deal(
    labels: np.ndarray, weight: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal images out to folds: the places to learn from, and those to measure on.

    A class with a single image is never held out. At most `MOST_HELD_OUT` images
    are, in one turn, where there are more than three times as many.

    Args:
        labels: Labels of the images.
        weight: 0 for one that could not be read.
        seed: Seed of the folds.

    Returns:
        The folds; none where fewer than `FEWEST` images or two classes can be held out.
    """
    known = np.flatnonzero(weight > 0)
    _, place, count = np.unique(labels[known], return_inverse=True, return_counts=True)
    able = count[place] > 1
    if able.sum() < FEWEST or (count > 1).sum() < 2:
        return []
    single = len(known) > FOLDS * MOST_HELD_OUT
    number = -(-len(known) // MOST_HELD_OUT) if single else FOLDS
    fold = logistic.folds(labels[known], number, seed)
    fold[~able] = -1
    folds = [
        (known[fold != k], known[fold == k]) for k in range(1 if single else FOLDS)
    ]
    return [(inside, outside) for inside, outside in folds if len(outside)]


def measure(
    setup: TrainingSetup,
    train: cache.Features,
    split: tuple[np.ndarray, np.ndarray],
    candidates: tuple[int, Sequence[float]],
    compiled: Compiled,
    progress: Callable[[], None],
) -> list[list[float]]:
    """Train several candidates on one part of the images, measure on the other.

    Args:
        setup: Setup of the training.
        train: Features of the training images, pooled in one way.
        split: Places of the images to learn from, and of those to measure on.
        candidates: The number of steps, and several weight decays.
        compiled: See `compiler`.
        progress: Called now and then; may raise an exception to stop.

    Returns:
        For each decay, sums over held-out images: of `evaluate.best`, the loss, and 1.
    """
    (inside, outside), (steps, decays) = split, candidates
    settings = setup.settings
    stack, advance, evaluate = compiled(steps, len(decays))
    strengths = jnp.asarray(decays, jnp.float32)
    common = {"batch_size": settings.batch_size}
    rows = cache.training(train, seed=settings.seed, known=inside, **common)
    for batches in _strides(rows, steps, train):
        progress()
        stack = advance(stack, strengths, batches)
    sums = np.zeros((3, len(decays)))
    known = states.variables(stack)
    for batch in cache.evaluation(train, known=outside, **common):
        found = evaluate(known, batch).values
        names = settings.evaluate.best, "loss", "weight"
        sums += np.stack([np.asarray(found[name], np.float64) for name in names])
    return sums.tolist()


def _strides(
    rows: Iterator[dict[str, np.ndarray]], steps: int, train: cache.Features
) -> Iterator[dict[str, np.ndarray]]:
    """Stack the batches of several steps, as many as memory allows."""
    size = None
    done = 0
    while done < steps:
        batch = next(rows)
        if size is None:
            fit = max(1, min(STRIDE, STRIDE_BYTES // batch["features"].nbytes))
            size = next(each for each in range(fit, 0, -1) if steps % each == 0)
        some = [batch, *(next(rows) for _ in range(size - 1))]
        stacked = {name: np.stack([row[name] for row in some]) for name in batch}
        share = (done + np.arange(size, dtype=np.float32)) / steps
        stacked["done"] = np.broadcast_to(share[:, None], stacked["weight"].shape)
        yield stacked
        done += size


def compiler(setup: TrainingSetup) -> Compiled:
    """Make `(steps, candidates) -> (first states, advance, evaluate)`, compiled once.

    Args:
        setup: Setup of the training.
    """
    return functools.cache(functools.partial(_compile, setup))


def _compile(
    setup: TrainingSetup, steps: int, count: int
) -> tuple[states.State, Callable[..., states.State], Callable[..., states.Report]]:
    """Make the first states of several candidates, and what a stride and a test do."""
    head = trunks.head_paths(setup.network.module, setup.image_size)
    leaves = tree.flatten({"params": setup.state.params})
    known = tree.unflatten({p: leaf for p, leaf in leaves.items() if p in head})
    rules = {p: rule for p, rule in setup.rules.items() if f"params/{p}" in head}
    settings = setup.settings

    def make(decay: jax.Array) -> optax.GradientTransformation:
        return setups.learner(settings, rules, steps=steps, weight_decay=decay)[1]

    first = states.create(
        known, rules, make(jnp.zeros(())), average=settings.average > 0
    )
    stack = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * count), first)
    # What is drawn at a step is the same for all, and drawn once.
    stack, axes = stack._replace(step=first.step), states.State(None, 0, 0, 0, 0)

    def one(state: states.State, decay: jax.Array, batch: Batch) -> states.State:
        update = states.make_update(
            setup.objective,
            make(decay),
            rules,
            seed=settings.seed,
            accumulate=settings.optimizer.accumulate,
            average=settings.average,
        )
        return update(state, batch)[0]

    many = jax.vmap(one, (axes, 0, None), axes)

    @jax.jit
    def advance(stack: states.State, decays: jax.Array, batches: Batch) -> states.State:
        return jax.lax.scan(
            lambda each, batch: (many(each, decays, batch), None), stack, batches
        )[0]

    measure = jax.vmap(states.make_measure(setup.objective), (0, None))
    return stack, advance, jax.jit(measure)

"""Steps of an attack: the gradient that they follow, and the loop that takes them.

Each image has its own state, its own number of steps and its own end. On CPU the host
takes the steps of few images at once, gives the place of a finished image to the next
one, and lets the batch shrink when no image waits.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks.losses import Aim, Loss
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, Logits, PyTree, SplitModel, Variables

SHRUNK = 16
"""Fewest steps left for which a batch shrinks: each size is compiled once."""
ALONE = 96 * 96
"""Pixels from which images take their steps alone, where the host takes them.

A gradient of one image rounds otherwise than that of four, and a sign makes a step of a
rounding: eight steps on MobileNetV2 then differ in 2 % of the values. The processor's
time is the same."""
UNROLLED = 20
"""Most steps of a compiled search that are written out one by one on CPU.

XLA runs convolutions inside a loop several times more slowly there, and compiles each
step that is written out."""
CERTAIN = 1e-4
"""How far the sum of probabilities may be from 1."""


class Seen(NamedTuple):
    """Tell what a network has shown of each image, `[batch]` each.

    Attributes:
        sloped: Whether a gradient was not zero.
        probable: Whether all outputs were probabilities: at least 0, and 1 in all.
        finite: Whether all outputs and gradients were numbers.
    """

    sloped: jax.Array
    probable: jax.Array
    finite: jax.Array


class Slope(NamedTuple):
    """Hold what one pass forward and backward gives.

    Attributes:
        gradient: Gradient of the loss, `[batch, height, width, channels]`, zero where
            it is not a number.
        loss: `[batch]`.
        logits: `[batch, classes]`.
    """

    gradient: jax.Array
    loss: jax.Array
    logits: Logits

    def seen(self, before: Seen) -> Seen:
        """Add what this pass shows to what earlier ones have."""
        axes = tuple(range(1, self.gradient.ndim))
        return Seen(
            before.sloped | jnp.any(self.gradient != 0, axis=axes),
            before.probable & probable(self.logits),
            before.finite & ~jnp.any(jnp.isnan(self.logits), axis=1),
        )


def probable(logits: Logits) -> jax.Array:
    """Tell which outputs are probabilities: at least 0, and 1 in all, `[batch]`."""
    total = jnp.sum(logits, axis=1)
    return jnp.all(logits >= 0, axis=1) & (jnp.abs(total - 1) < CERTAIN)


def nothing_seen(images: Images) -> Seen:
    """Begin with what is known before the first pass."""
    no = jnp.zeros(len(images), bool)
    return Seen(no, ~no, ~no)


@memoize.remember
def slope(model: SplitModel, loss: Loss) -> Callable[[Variables, Images, Aim], Slope]:
    """Make `(variables, images, aim) -> Slope`, one pass forward and backward."""
    network = split.whole(model)

    @jax.jit
    def differentiate(variables: Variables, images: Images, aim: Aim) -> Slope:
        def total(images: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
            logits = network(variables, images).astype(images.dtype)
            values = loss(logits, aim)
            return jnp.sum(values), (values, logits)

        found, (values, logits) = jax.grad(total, has_aux=True)(images)
        return Slope(jnp.where(jnp.isfinite(found), found, 0), values, logits)

    return differentiate


Step = Callable[[Variables, PyTree, PyTree, PyTree], PyTree]
"""`(variables, state, examples, numbers) -> state`, a pure function.

States have a field `done`, `[batch]`, true of images that are finished. `numbers` says
how many steps each image has made, `[batch]`. What a step gives a finished image is
dropped."""


def iterate(
    step: Step,
    state: PyTree,
    examples: PyTree,
    variables: Variables,
    steps: int,
    *,
    stops: bool = True,
    loop: loops.Loop = "auto",
) -> tuple[PyTree, jax.Array]:
    """Take at most `steps` steps for each image, and stop at its own end.

    Args:
        step: See `Step`. It must be the same object at each call, or JAX compiles anew.
        state: Named tuple of arrays of numbers, first axis the batch, with `done`.
        examples: What stays the same, `aim` for instance, first axis the batch.
        variables: Variables of the network.
        steps: For each image.
        stops: Whether a step may set `done`; without it nothing waits for a step's end.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        The last state, and the number of steps that each image has made, `[batch]`.
    """
    guarded = _freezing(step)
    if loops.place(loop, state, examples, variables) == "device":
        return _on_device(guarded, state, examples, variables, steps)
    return _on_host(guarded, state, examples, variables, steps, stops)


@functools.lru_cache(maxsize=256)
def _freezing(step: Step) -> Step:
    """Compile a step that leaves finished images as they are."""

    @jax.jit
    def guarded(variables, state, examples, numbers):
        def kept(new: jax.Array, old: jax.Array) -> jax.Array:
            done = state.done.reshape((-1, *(1,) * (old.ndim - 1)))
            return jnp.where(done, old, new)

        return jax.tree.map(kept, step(variables, state, examples, numbers), state)

    return guarded


def _on_device(
    step: Step, state: PyTree, examples: PyTree, variables: Variables, steps: int
) -> tuple[PyTree, jax.Array]:
    def going(carry: PyTree) -> jax.Array:
        state, _, number = carry
        return (number < steps) & ~jnp.all(state.done)

    def body(carry: PyTree) -> PyTree:
        state, made, number = carry
        made = made + ~state.done
        numbers = jnp.full(made.shape, number)
        return step(variables, state, examples, numbers), made, number + 1

    made = jnp.zeros(state.done.shape, jnp.int32)
    if steps <= UNROLLED and jax.default_backend() == "cpu":
        for number in range(steps):
            numbers = jnp.full(made.shape, number)
            made = made + ~state.done
            state = step(variables, state, examples, numbers)
        return state, made
    start = state, made, jnp.zeros((), jnp.int32)
    state, made, _ = jax.lax.while_loop(going, body, start)
    return state, made


def _on_host(
    step: Step,
    state: PyTree,
    examples: PyTree,
    variables: Variables,
    steps: int,
    stops: bool,
) -> tuple[PyTree, jax.Array]:
    count = len(state.done)
    begun, examples = _known(state), _known(examples)
    result = jax.tree.map(np.array, begun)
    made = np.zeros(count, np.int32)
    waiting = [i for i in range(count) if not begun.done[i]] if steps else []
    if not waiting:
        return _given(result), jnp.asarray(made)
    size = _size(len(waiting), max(jax.tree.leaves(begun), key=np.ndim).shape)
    own, waiting = np.asarray(waiting[:size]), waiting[size:]
    current, fixed = _rows(begun, own), _rows(examples, own)
    active = np.ones(size, bool)
    while True:
        current = step(variables, current, fixed, made[own])
        made[own] += active
        ended = made[own] >= steps
        if stops:
            ended = ended | np.asarray(current.done)
        fresh = active & ended
        if not fresh.any():
            continue
        known = _known(current)
        _write(result, own[fresh], known, fresh)
        active &= ~fresh
        slots = np.flatnonzero(~active)[: len(waiting)]
        if len(slots):
            own = own.copy()
            own[slots], waiting = waiting[: len(slots)], waiting[len(slots) :]
            active[slots] = True
            known = jax.tree.map(np.array, known)
            _write(known, slots, _rows(begun, own[slots]))
            current, fixed = known, _rows(examples, own)
        elif not active.any():
            return _given(result), jnp.asarray(made)
        half, left = len(own) // 2, steps - made[own][active].min()
        if half and active.sum() <= half and left >= SHRUNK:
            order = np.argsort(~active, kind="stable")[:half]
            own, active = own[order], active[order]
            current, fixed = _rows(_known(current), order), _rows(examples, own)


def _size(count: int, shape: tuple[int, ...]) -> int:
    """Choose how many images take a step at once: equal shares of few."""
    if len(shape) > 2 and shape[1] * shape[2] >= ALONE:
        return 1
    few = loops.few_enough(count, shape[1:3], "auto") if len(shape) > 2 else count
    return -(-count // -(-count // few))


def _known(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)


def _given(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)


def _rows(tree: PyTree, index: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _write(
    into: PyTree, index: np.ndarray, values: PyTree, chosen: PyTree = slice(None)
) -> None:
    """Write rows of arrays of NumPy in their place."""
    for place, leaf in zip(jax.tree.leaves(into), jax.tree.leaves(values), strict=True):
        place[index] = leaf[chosen]

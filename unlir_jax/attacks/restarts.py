"""Several starts of one attack, of which each image keeps the best."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.attacks import losses, norms, search
from unlir_jax.attacks.spec import Craft, Crafted
from unlir_jax.core import memoize, random_keys
from unlir_jax.types import PyTree, RandomKey, SplitModel

Run = Callable[..., tuple[jax.Array, jax.Array, search.Seen]]
"""`(variables, images, aim, start, done, seen) -> images, gradients, seen`.

It attacks the images that are not `done`, from the images in `start`."""


class Best(NamedTuple):
    """Hold the best images of all starts, and how good they are, `[batch]`."""

    images: jax.Array
    loss: jax.Array
    success: jax.Array


def repeated(
    model: SplitModel,
    loss: losses.Loss,
    run: Run,
    *,
    restarts: int,
    random_start: bool,
    norm: str,
    epsilon: float,
) -> Craft:
    """Make the function of an attack that may start several times.

    An image keeps the first start that deceives the network, and of starts that all
    fail the one with the highest loss. What has succeeded starts no more. With several
    starts, a pass forward judges each.

    Raises:
        ValueError: Several starts that do not differ.
    """
    if restarts > 1 and not random_start:
        raise ValueError(
            f"`restarts`={restarts} without `random_start`: all would give the same "
            "images; expected 1."
        )
    judge = _judge(model, loss)

    def start(images: jax.Array, key: RandomKey | None, number: int) -> jax.Array:
        if not random_start:
            return images
        keys = random_keys.per_image(key, images)
        return drawn(keys, number, images, epsilon, norm)

    def craft(variables, images, aim, key):
        seen, best = search.nothing_seen(images), None
        done = jnp.zeros(len(images), bool)
        total = forwards = jnp.zeros(len(images), jnp.int32)
        found = images
        for number in range(restarts):
            begun = start(images, key, number)
            found, made, seen = run(variables, images, aim, begun, done, seen)
            total = total + made
            if restarts > 1:
                best = judge(variables, found, aim, best)
                found, done = best.images, best.success
                forwards = forwards + (made > 0)
        return Crafted(found, total, forwards, seen)

    return craft


def drawn(
    keys: jax.Array, number: int, images: jax.Array, epsilon: float, norm: str
) -> jax.Array:
    """Draw start number `number` of each image, see `norms.random_point`."""
    return _point(_numbered(keys, number), images, epsilon, norm)


_point = jax.jit(norms.random_point, static_argnames="norm")


@jax.jit
def _numbered(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


@memoize.remember
def _judge(model: SplitModel, loss: losses.Loss) -> PyTree:
    """Make `(variables, images, aim, best) -> best`, one pass forward."""
    network = split.whole(model)

    @jax.jit
    def judge(variables, images, aim, best):
        logits = network(variables, images)
        found = Best(images, loss(logits, aim), losses.succeeded(logits, aim))
        if best is None:
            return found
        better = ~best.success & (found.success | (found.loss > best.loss))

        def kept(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(better.reshape((-1, *(1,) * (new.ndim - 1))), new, old)

        return jax.tree.map(kept, found, best)

    return judge

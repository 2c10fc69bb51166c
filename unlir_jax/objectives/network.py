"""A Linen network as training applies it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.features import trunks
from unlir_jax.objectives.objective import Apply, Objective
from unlir_jax.runtime import mesh
from unlir_jax.types import Array, Logits, Module, PyTree, RandomKey, Variables


def whole(module: Module, *, freeze_norms: bool = False) -> Apply:
    """Train a network from images to logits.

    Args:
        module: Has the methods `features(images, train)` and `head(maps, train)`, or
            those that it names in `halves`; and `traits(maps, train)` if it decides by
            parts.
        freeze_norms: Normalise by the running statistics and leave them alone, as
            suits a frozen backbone and small batches.
    """

    def train(
        method: str, variables: Variables, images: Array, key: RandomKey
    ) -> tuple[PyTree, PyTree]:
        first, second = jax.random.split(key)
        maps, changed = module.apply(
            variables,
            images,
            train=not freeze_norms,
            method=trunks.halves(module)[0],
            rngs={"dropout": first},
            mutable=["batch_stats"],
        )
        # A head may have norms of its own, which see what those of the backbone left.
        found, changed = module.apply(
            {**variables, **changed},
            maps,
            train=True,
            method=method,
            rngs={"dropout": second},
            mutable=["batch_stats"],
        )
        return found, changed.get("batch_stats", {})

    def evaluate(variables: Variables, images: Array) -> Logits:
        return module.apply(variables, images)

    return _apply(module, train, evaluate, "image")


def head(module: Module) -> Apply:
    """Train a network's head alone, on features that were computed before."""

    def train(
        method: str, variables: Variables, features: Array, key: RandomKey
    ) -> tuple[PyTree, PyTree]:
        found = module.apply(
            variables, features, train=True, method=method, rngs={"dropout": key}
        )
        return found, variables.get("batch_stats", {})

    def evaluate(variables: Variables, features: Array) -> Logits:
        return module.apply(variables, features, method=trunks.halves(module)[1])

    return _apply(module, train, evaluate, "features")


def _apply(
    module: Module,
    train: Callable[..., tuple[PyTree, PyTree]],
    evaluate: Callable[[Variables, Array], Logits],
    inputs: str,
) -> Apply:
    by_parts = hasattr(module, "traits")
    return Apply(
        functools.partial(train, trunks.halves(module)[1]),
        evaluate,
        inputs,
        functools.partial(train, "traits") if by_parts else None,
        module.knows if by_parts else (),
        module.style.axis_name if by_parts else None,
        tuple(getattr(module, "mean", None) or ()),
    )


def check(objective: Objective, variables: Variables, side: int) -> None:
    """Let an objective refuse a network, by what a batch of two images would trace.

    Raises:
        ValueError: It does.
    """
    if objective.check is None:
        return
    of = jax.ShapeDtypeStruct
    batch = {"image": of((2, side, side, 3), np.uint8), "label": of((2,), np.int32)}
    batch |= {"weight": of((2,), np.float32), "position": of((2,), np.int32)}
    jax.eval_shape(objective.check, variables, batch)


def pixels(images: Array) -> Array:
    """Bring 8-bit images, as they travel to the device, to [0, 1]."""
    if images.dtype != jnp.uint8:
        return images
    return images.astype(jnp.float32) / 255


def keys_of(key: RandomKey, position: Array) -> tuple[jax.Array, jax.Array]:
    """Derive keys of a step: one a row for what is drawn for it, and the network's."""
    rows, own = jax.random.split(key)
    position = jnp.asarray(position)
    # Devices of `pmap` would draw alike; the first row's place tells them apart.
    own = jax.random.fold_in(own, position[0])
    return mesh.per_row_keys(rows, position), own

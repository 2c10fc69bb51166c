"""A Linen network as training applies it."""

from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax.objectives.objective import Apply
from unlir_jax.types import Array, Logits, RandomKey, Variables


def whole(module: Any, *, freeze_norms: bool = False) -> Apply:
    """Train a network from pictures to logits.

    Args:
        module: Has the methods `features(images, train)` and `head(maps, train)`.
        freeze_norms: Normalise by the statistics at hand and leave them alone, as
            suits a frozen trunk and small batches.
    """

    def train(
        variables: Variables, images: Array, key: RandomKey
    ) -> tuple[Logits, Any]:
        first, second = jax.random.split(key)
        maps, changed = module.apply(
            variables,
            images,
            train=not freeze_norms,
            method="features",
            rngs={"dropout": first},
            mutable=["batch_stats"],
        )
        # A head may have norms of its own, which see what those of the trunk left.
        logits, changed = module.apply(
            {**variables, **changed},
            maps,
            train=True,
            method="head",
            rngs={"dropout": second},
            mutable=["batch_stats"],
        )
        return logits, changed.get("batch_stats", {})

    def evaluate(variables: Variables, images: Array) -> Logits:
        return module.apply(variables, images)

    return Apply(train, evaluate)


def head(module: Any) -> Apply:
    """Train a network's head alone, on features that were computed before."""

    def train(
        variables: Variables, features: Array, key: RandomKey
    ) -> tuple[Logits, Any]:
        logits = module.apply(
            variables, features, train=True, method="head", rngs={"dropout": key}
        )
        return logits, variables.get("batch_stats", {})

    def evaluate(variables: Variables, features: Array) -> Logits:
        return module.apply(variables, features, method="head")

    return Apply(train, evaluate, "features")


def pixels(images: Array) -> Array:
    """Bring 8-bit pictures, as they travel to the device, to [0, 1]."""
    if images.dtype != jnp.uint8:
        return images
    return images.astype(jnp.float32) / 255

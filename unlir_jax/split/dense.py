"""Regions of dense outputs, `[batch, rows, columns, classes]`, as scores see them.

A region is a label map, integers `[batch, rows, columns]`: the class at each place, -1
where nothing counts.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Array, PyTree

Kind = Literal["softmax", "sigmoid", "logit"]
VALUES = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "logit": lambda logits: logits,
}


def mean(name: str, kind: Kind, logits: PyTree, labels: PyTree) -> jax.Array:
    """Average over the region what the network gives its class, `[batch]`.

    Args:
        name: Name of the score, for errors.
        kind: What becomes of the logits.
        logits: `[batch, rows, columns, classes]`.
        labels: A label map, or labels `[batch]`, whose region is that of these logits.
    """
    logits = jnp.asarray(logits)
    labels = places(name, kind, None, logits, labels)
    found = _chosen(VALUES[kind](logits), labels)
    inside = labels >= 0
    total = jnp.sum(jnp.where(inside, found, 0), axis=(1, 2))
    return total / jnp.maximum(jnp.sum(inside, axis=(1, 2)), 1).astype(total.dtype)


def log_odds(
    name: str, kind: Kind, logits: PyTree, labels: PyTree
) -> tuple[jax.Array, jax.Array]:
    """Give `log p` and `log (1 - p)` of the region's mean probability `p`."""
    labels = places(name, kind, None, logits, labels)
    if kind == "sigmoid":
        own = _chosen(logits, labels)
        pair = jax.nn.log_sigmoid(own), jax.nn.log_sigmoid(-own)
    else:
        classes = jnp.arange(logits.shape[-1])[None, None, None]
        chosen = jnp.maximum(labels, 0)[..., None] == classes
        everything = jax.nn.logsumexp(logits, axis=-1)
        others = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=-1)
        pair = _chosen(logits, labels) - everything, others - everything
    inside = labels >= 0
    count = jnp.log(jnp.maximum(jnp.sum(inside, axis=(1, 2)), 1).astype(logits.dtype))
    first, second = (
        jax.nn.logsumexp(jnp.where(inside, each, -jnp.inf), axis=(1, 2)) - count
        for each in pair
    )
    return first, second


def shares(kind: Kind, logits: PyTree) -> jax.Array:
    """Give the share of places in which each class is found, `[batch, classes]`."""
    if kind == "sigmoid":
        return jnp.mean(logits > 0, axis=(1, 2), dtype=logits.dtype)
    classes = logits.shape[-1]
    found = jax.nn.one_hot(jnp.argmax(logits, axis=-1), classes, dtype=logits.dtype)
    return jnp.mean(found, axis=(1, 2))


def places(
    name: str, kind: Kind, mask: Array | None, logits: PyTree, labels: PyTree
) -> jax.Array:
    """Give the region of each label, `[batch, rows, columns]`; label maps stay.

    Args:
        name: Name of the score, for errors.
        kind: `sigmoid` finds a class where its logit is above 0, else it is found where
            it is the largest.
        mask: Region for all images, `[rows, columns]`.
        logits: `[batch, rows, columns, classes]`.
        labels: Labels `[batch]`, or label maps.

    Raises:
        ValueError: Other logits, or a mask or a label map of another size.
    """
    _check(name, kind, logits)
    labels, size = jnp.asarray(labels), jnp.shape(logits)[1:3]
    if labels.ndim == 3:
        _check_size("labels", labels.shape[1:], size)
        return labels
    wide = labels[:, None, None]
    if mask is not None:
        _check_size("mask", np.shape(mask), size)
        inside = jnp.asarray(np.asarray(mask) > 0)[None]
    elif kind == "sigmoid":
        inside = _chosen(logits, jnp.broadcast_to(wide, (len(labels), *size))) > 0
    else:
        inside = jnp.argmax(logits, axis=-1) == wide
    return jnp.where(inside, wide, -1)


def _chosen(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Take the label's value at each place; outside of the region, any."""
    index = jnp.maximum(labels, 0)[..., None]
    return jnp.take_along_axis(values, index, axis=-1)[..., 0]


def _check(name: str, kind: Kind, logits: PyTree) -> None:
    if jnp.ndim(logits) != 4:
        raise ValueError(
            f"The network gives {jnp.shape(logits)}; `score`={name!r} expects logits "
            "of every place, [batch, rows, columns, classes]: for others give "
            "'softmax', 'sigmoid' or 'logit'."
        )
    if kind == "softmax" and logits.shape[-1] == 1:
        raise ValueError(
            "The network has 1 output a place, whose softmax probability is always 1; "
            "expected `score`='region_sigmoid' or 'region_logit'."
        )


def _check_size(what: str, found: tuple[int, ...], size: tuple[int, ...]) -> None:
    if tuple(found) != tuple(size):
        raise ValueError(
            f"`{what}` has regions of {tuple(found)} places; the network gives "
            f"{tuple(size)}."
        )

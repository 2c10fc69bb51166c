"""Checks of what an attack is set to, called with, and shown by the network."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks import losses
from unlir_jax.attacks.search import Seen, nothing_seen, probable, slope
from unlir_jax.types import Images, Labels, PyTree, RandomKey, SplitModel, Variables

SLACK = 1e-4
"""How far rounding may take a pixel out of [0, 1], as `split.check_pixels` has it."""


def check_settings(settings: Mapping[str, Any], norms: Sequence[str]) -> None:
    """Refuse settings that make no sense, of those that many attacks have.

    Raises:
        ValueError: An unknown norm, a negative or too large `epsilon`, or fewer steps,
            restarts or levels than the least.
    """
    norm = settings.get("norm", norms[0])
    if norm not in norms:
        known = ", ".join(map(repr, norms))
        raise ValueError(f"`norm`={norm!r} is unknown; expected one of {known}.")
    if "epsilon" in settings:
        _check_epsilon(settings["epsilon"], norm)
    for name, least in (("steps", 1), ("restarts", 1)):
        value = settings.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"`{name}`={value!r}; expected a whole number.")
        if value < least:
            raise ValueError(f"`{name}`={value}; expected at least {least}.")
    _check_quantise(settings.get("quantise", False), settings.get("epsilon"), norm)


def _check_epsilon(epsilon: Any, norm: str) -> None:
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.number):
        raise ValueError(f"`epsilon`={epsilon!r}; expected a number.")
    value = float(epsilon)
    if norm == "linf" and value > 1:
        raise ValueError(
            f"`epsilon`={value:g}; expected at most 1, for images in [0, 1]: "
            f"{value:g}/255?"
        )
    if not 0 <= value < math.inf:
        raise ValueError(f"`epsilon`={value:g}; expected a finite number from 0.")


def _check_quantise(quantise: Any, epsilon: Any, norm: str) -> None:
    levels = levels_of(quantise)
    if levels and epsilon is not None and norm == "linf":
        if float(epsilon) * (levels - 1) < 1 - 1e-4:
            raise ValueError(
                f"`epsilon`={float(epsilon):g} with `quantise`={quantise!r}; expected "
                f"at least 1/{levels - 1}, the distance of two levels."
            )


def levels_of(quantise: bool | int) -> int:
    """Give the number of levels that a setting `quantise` means, 0 for none.

    Raises:
        ValueError: Fewer than 2 levels.
    """
    if isinstance(quantise, bool):
        return 256 if quantise else 0
    if not isinstance(quantise, int | np.integer) or quantise < 2:
        raise ValueError(
            f"`quantise`={quantise!r}; expected True for 256 levels, False for none, "
            "or a number of levels from 2."
        )
    return int(quantise)


def check_reach(epsilon: Any, norm: str | None, images: Images) -> None:
    """Refuse a budget that no two images are apart: it counts in 0 to 255.

    Raises:
        ValueError: It is larger than the distance from black to white.
    """
    if epsilon is None or norm not in ("l2", "l1"):
        return
    count = math.prod(images.shape[1:])
    most = count if norm == "l1" else math.sqrt(count)
    if float(epsilon) > most:
        raise ValueError(
            f"`epsilon`={float(epsilon):g}; expected at most {most:g}, the {norm} "
            "distance from black to white for images in [0, 1]: divide by 255?"
        )


def check_call(
    model: SplitModel,
    variables: Variables,
    images: Images,
    labels: Labels,
    targets: Labels | None = None,
    key: RandomKey | None = None,
    sloped: bool = True,
) -> None:
    """Refuse a batch of which an attack would make nothing, before any work.

    Args:
        model: The network.
        variables: Its variables.
        images: `[batch, height, width, channels]` in [0, 1].
        labels: `[batch]`.
        targets: `[batch]`, or None.
        key: A typed key, or None.
        sloped: Whether the network needs a gradient.

    Raises:
        TypeError: No arrays, images that are not floating point, labels or targets that
            are not integer, a key that is none.
        ValueError: A wrong shape, pixels outside of [0, 1], a label or target that is
            no class, a target that is the label, or a network that does not give one
            row of at least 2 logits an image.
    """
    split.check_key(key)
    check_count(images, labels)
    split.check_shapes(images, labels, split.channels_of(model))
    split.check_pixels(images)
    if not split.traced(images) and images.shape[3] not in (1, 3, 4):
        _check_range(images)
    logits = jax.eval_shape(split.whole(model), variables, images)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"The network gives {logits.shape}; an attack expects logits "
            "[batch, classes] of at least 2 classes."
        )
    split.check_labels(labels, logits.shape[1])
    if targets is not None:
        _check_targets(labels, targets, logits.shape[1])
    described = jax.tree.map(_described, (variables, images, labels))
    if sloped and not _depends(model, *described):
        raise ValueError(
            "The network gives no gradient: its outputs do not change smoothly with "
            "the image, as after rounding, comparing or `stop_gradient`; expected "
            "differentiable logits."
        )


def check_count(images: Any, labels: Any) -> None:
    """Refuse anything but one label an image; `split.check_shapes` checks the rest."""
    given = [getattr(each, "shape", None) for each in (images, labels)]
    if given[0] is None or given[1] is None or len(given[0]) != 4:
        return
    if given[1] != given[0][:1] and jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"`labels` has shape {given[1]}; expected {given[0][:1]}, one class an "
            "image."
        )


def _check_range(images: Images) -> None:
    low, high = float(np.asarray(images).min()), float(np.asarray(images).max())
    if low < -SLACK or high > 1 + SLACK:
        value = low if low < -SLACK else high
        raise ValueError(f"`images` holds {value:.6g}; expected values in [0, 1].")


def _check_targets(labels: Labels, targets: Labels, classes: int) -> None:
    split.check_array("targets", targets, "[batch] of integers")
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"`targets` are {targets.dtype}; expected integers.")
    if targets.shape != labels.shape:
        raise ValueError(
            f"`targets` has shape {targets.shape}; expected {labels.shape}, one class "
            "an image."
        )
    if split.traced(labels, targets):
        return
    known = np.asarray(targets)
    for value in (known.min(), known.max()):
        if not 0 <= value < classes:
            raise ValueError(
                f"`targets` holds {value}; the network has classes 0 to {classes - 1}."
            )
    same = np.flatnonzero(known == np.asarray(labels))
    if len(same):
        first = int(same[0])
        raise ValueError(
            f"`targets`[{first}]={known[first]} is the label of the image; expected "
            "another class."
        )


def _described(array: Any) -> jax.ShapeDtypeStruct:
    array = array if hasattr(array, "dtype") else np.asarray(array)
    return jax.ShapeDtypeStruct(np.shape(array), array.dtype)


def _depends(
    model: SplitModel, variables: PyTree, images: PyTree, labels: PyTree
) -> bool:
    """Tell whether the gradient of the network is more than a constant."""
    leaves, structure = jax.tree.flatten((variables, images, labels))
    return _traced_depends(model, structure, tuple(leaves))


@functools.lru_cache(maxsize=256)
def _traced_depends(model: SplitModel, structure: Any, leaves: Any) -> bool:
    given = jax.tree.unflatten(structure, leaves)

    def gradient(variables: PyTree, images: PyTree, labels: PyTree) -> jax.Array:
        def total(images: jax.Array) -> jax.Array:
            logits = split.whole(model)(variables, images)
            return jnp.sum(losses.log_odds(logits.astype(images.dtype), _aim(labels)))

        return jax.grad(total)(images)

    closed = jax.make_jaxpr(gradient)(*given)
    return _reached(closed.jaxpr)


def _aim(labels: PyTree) -> losses.Aim:
    return losses.Aim(labels)


def _reached(jaxpr: Any) -> bool:
    """Tell whether the result of a program follows from what it is given."""
    known = {id(name) for name in jaxpr.invars}
    for equation in jaxpr.eqns:
        if any(id(name) in known for name in equation.invars):
            known.update(map(id, equation.outvars))
    return any(id(name) in known for name in jaxpr.outvars)


def check_seen(
    model: SplitModel,
    variables: Variables,
    images: Images,
    attacked: jax.Array,
    seen: Seen | None,
) -> None:
    """Refuse a network of whose outputs no attack makes anything.

    Args:
        model: The network.
        variables: Its variables.
        images: As given.
        attacked: What the attack has made of them.
        seen: What the attack has seen. None: the network runs here once more.

    Raises:
        ValueError: All outputs are probabilities, some are no numbers, or no image has
            a gradient.
    """
    if split.traced(variables, images, attacked):
        return
    if seen is None:
        seen = _looked(model, variables, images, attacked)
    if not np.all(seen.finite):
        first = int(np.argmin(np.asarray(seen.finite)))
        raise ValueError(
            f"The network gives `images`[{first}] or a changed copy of it no numbers; "
            "expected finite logits."
        )
    if np.all(seen.probable):
        raise ValueError(
            "The network gives probabilities: they are at least 0 and add up to 1; an "
            "attack expects logits, the values before the softmax."
        )
    if not np.any(seen.sloped):
        raise ValueError(
            "The network gives no gradient at any of the images; expected logits that "
            "change with the pixels."
        )


def _looked(
    model: SplitModel, variables: Variables, images: Images, attacked: jax.Array
) -> Seen:
    logits = split.whole(model)(variables, attacked)
    moved = jnp.any(attacked != images)
    if not moved:
        predicted = losses.Aim(jnp.argmax(logits, axis=1))
        found = slope(model, losses.log_odds)(variables, attacked, predicted)
        return found.seen(nothing_seen(images))
    finite = ~jnp.any(jnp.isnan(logits), axis=1)
    return Seen(jnp.ones(len(images), bool), probable(logits), finite)


def withheld(
    found: Any,
    model: SplitModel,
    variables: Variables,
    images: Images,
    aim: losses.Aim,
) -> Any:
    """Give NaN for images that would have been refused, had they been known."""
    if not split.traced(images, aim.labels, aim.targets):
        return found
    classes = jax.eval_shape(split.whole(model), variables, images).shape[1]
    kept = split.withheld(found.images, images, aim.labels, classes)
    if aim.targets is not None:
        wrong = (aim.targets == aim.labels) | (aim.targets < 0)
        wrong = wrong | (aim.targets >= classes)
        kept = jnp.where(wrong[:, None, None, None], jnp.nan, kept)
    return found._replace(images=kept)

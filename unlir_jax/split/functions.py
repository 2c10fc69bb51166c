"""Cut models of two functions, and what a call of them may be given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from unlir_jax import factories
from unlir_jax.types import (
    Features,
    Images,
    Labels,
    Logits,
    SplitModel,
    Variables,
)

BLACK = (0.0, 0.0, 0.0)


def from_functions(
    features: Callable[[Variables, Images], Any],
    head: Callable[[Variables, Any], Logits],
    *,
    mean: tuple[float, ...] = BLACK,
) -> SplitModel:
    """Make a cut model of two pure functions, whatever they are written in.

    Args:
        features: `(variables, images) -> maps`, or `Features(maps, context)`.
        head: `(variables, maps) -> logits`; it receives `Features` if that is what
            `features` returns.
        mean: The colour in [0, 1] that the network sees as zero.
    """

    def cut_features(variables: Variables, images: Images) -> Features:
        result = features(variables, images)
        return result if isinstance(result, Features) else Features(result, _PLAIN)

    def cut_head(variables: Variables, cut: Features) -> Logits:
        plain = isinstance(cut.context, _Plain)
        return head(variables, cut.maps if plain else cut)

    return SplitModel(jax.jit(cut_features), jax.jit(cut_head), tuple(mean))


@jax.tree_util.register_static
class _Plain:
    """Mark features whose head takes the bare maps."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plain)

    def __hash__(self) -> int:
        return hash(_Plain)


_PLAIN = _Plain()


@factories.remember
def whole(model: SplitModel) -> Callable[[Variables, Images], Logits]:
    """Join the two halves again, compiled: `(variables, images) -> logits`."""

    def network(variables: Variables, images: Images) -> Logits:
        return model.head(variables, model.features(variables, images))

    return jax.jit(network)


def check_batch(
    model: SplitModel, variables: Variables, images: Images, labels: Labels
) -> None:
    """Refuse a batch that would give wrong or NaN results, before any work.

    Shapes and types are always checked; the range of the labels only where their
    values are known, that is outside `jax.jit`.

    Raises:
        TypeError: Images that are not floating point or labels that are not integer.
        ValueError: A wrong number of axes, as many labels as images, or a label that
            is not a class.
    """
    check_shapes(images, labels)
    if not isinstance(labels, core.Tracer):
        logits = jax.eval_shape(whole(model), variables, images)
        check_labels(labels, logits.shape[-1])


def check_shapes(images: Images, labels: Labels) -> None:
    """Refuse images or labels of a wrong shape or type; see `check_batch`."""
    if jnp.ndim(images) != 4:
        raise ValueError(
            f"`images` has shape {jnp.shape(images)}; expected "
            "[batch, height, width, channels] with values in [0, 1]."
        )
    if not jnp.issubdtype(jnp.result_type(images), jnp.floating):
        raise TypeError(
            f"`images` are {jnp.result_type(images)}; expected floating point in "
            "[0, 1]: divide 8-bit pictures by 255."
        )
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(
            f"`labels` are {jnp.result_type(labels)}; expected one integer an image."
        )
    if jnp.shape(labels) != jnp.shape(images)[:1]:
        raise ValueError(
            f"`labels` has shape {jnp.shape(labels)}; expected one class index for "
            f"each of the {jnp.shape(images)[0]} images."
        )


def check_labels(labels: Labels, classes: int) -> None:
    """Refuse labels that are not classes, where their values are known."""
    if isinstance(labels, core.Tracer) or not jnp.size(labels):
        return
    # As NumPy's: what is known inside `jax.jit` would be traced there otherwise.
    known = np.asarray(labels)
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"`labels` holds {low if low < 0 else high}; the network has classes 0 to "
            f"{classes - 1}."
        )

"""Supervised classification whose maps lose the place that decides most (ADL)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from unlir_jax.objectives import input_gradients, losses, network
from unlir_jax.objectives.classify import classify
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.split import outputs
from unlir_jax.types import Maps, PyTree, RandomKey, Variables


@objective
def adl(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    layers: Sequence[str] = (),
    drop_rate: float = 0.75,
    threshold: float = 0.8,
) -> Objective:
    """Minimise the cross-entropy, with an attention-based dropout layer behind layers.

    Maps are multiplied by `drop_mask` or by `importance_map`, see `dropped`. The draw
    is one for each layer and step, as published. Evaluation has no such layer.

    Metrics: as `classify`; in training the `accuracy` is that with the layer.

    Args:
        apply: A network that takes images, and is a Linen module.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        layers: Paths of layers with maps, as `unlir_jax.split.module_paths` lists them;
            none for the last maps alone.
        drop_rate: Probability of the drop mask, in [0, 1]; 0.75 as published.
        threshold: The published gamma, a share of each image's largest attention, in
            [0, 1].

    Raises:
        ValueError: A setting out of range, or features that are kept. When called: a
            layer that the network does not have, or that gives no maps.

    References:
        Choe & Shim, *Attention-based Dropout Layer for Weakly Supervised Object
        Localization*, CVPR 2019, Section 3.

    Note:
        The authors set the layer behind several stages of a network. The default
        differs: the last maps have no name that all networks share.
    """
    for name, value in (("drop_rate", drop_rate), ("threshold", threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}`={value}; expected a share in [0, 1].")
    if isinstance(layers, str):
        layers = (layers,)
    input_gradients.check_images("adl", apply.inputs)
    usual = classify(apply, classes, label_smoothing=label_smoothing)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        _, own = network.keys_of(key, batch["position"])
        wanted = tuple(layers) or (outputs.LAST,)
        # Not of the rows' places: devices of `pmap` draw alike.
        keys = jax.random.split(key, len(wanted))
        draws = dict(zip(wanted, keys, strict=True))

        def drop(name: str, maps: PyTree) -> jax.Array:
            return dropped(
                draws[name], _checked(name, maps), drop_rate, threshold=threshold
            )

        with outputs.changed(wanted, drop):
            images = network.pixels(batch[apply.inputs])
            logits, statistics = apply.train(variables, images, own)
        targets = losses.targets(batch["label"], classes, label_smoothing)
        metrics = {"accuracy": losses.correct(logits, batch["label"])}
        return Outcome(losses.cross_entropy(logits, targets), metrics, statistics)

    check = functools.partial(train, key=jax.random.key(0))
    return usual._replace(train=train, check=check)


def importance_map(maps: Maps) -> jax.Array:
    """Compute sigmoid(a), where a is the mean over channels.

    Args:
        maps: `[batch, rows, columns, channels]`.

    Returns:
        `[batch, rows, columns, 1]` in (0, 1).
    """
    return jax.nn.sigmoid(_attention(maps))


def drop_mask(maps: Maps, threshold: float = 0.8) -> jax.Array:
    """Give 0 where the attention a reaches `threshold` · max a of its image, else 1.

    Args:
        maps: `[batch, rows, columns, channels]`; a is their mean over channels.
        threshold: Share of the largest attention, in [0, 1].

    Returns:
        `[batch, rows, columns, 1]` of 0 and 1, which has no slope.
    """
    attention = _attention(maps)
    largest = jnp.max(attention, axis=(1, 2, 3), keepdims=True)
    return (attention < threshold * largest).astype(attention.dtype)


def dropped(
    key: RandomKey, maps: Maps, drop_rate: float = 0.75, *, threshold: float = 0.8
) -> jax.Array:
    """Multiply maps by the drop mask with `drop_rate`, else by the importance map.

    Args:
        key: Random key of the one draw.
        maps: `[batch, rows, columns, channels]`.
        drop_rate: Probability of the drop mask, in [0, 1].
        threshold: See `drop_mask`.

    Returns:
        Maps of the same shape and type.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlir_jax.objectives.adl import dropped
        >>> maps = jnp.asarray([1.0, 4.0, 2.0, 3.5]).reshape((1, 2, 2, 1))
        >>> dropped(jax.random.key(0), maps, 1.0, threshold=0.8)[0, :, :, 0]
        Array([[1., 0.],
               [2., 0.]], dtype=float32)
    """
    maps = jnp.asarray(maps)
    is_dropped = jax.random.bernoulli(key, drop_rate)
    selected = jnp.where(is_dropped, drop_mask(maps, threshold), importance_map(maps))
    return maps * selected.astype(maps.dtype)


def _attention(maps: Maps) -> jax.Array:
    wide = jnp.promote_types(maps.dtype, jnp.float32)
    return jnp.mean(jnp.asarray(maps, wide), axis=-1, keepdims=True)


def _checked(name: str, maps: PyTree) -> jax.Array:
    if getattr(maps, "ndim", None) != 4:
        what = getattr(maps, "shape", type(maps).__name__)
        raise ValueError(
            f"`layers` has {name!r}, which gives {what}; expected layers with maps "
            "[batch, rows, columns, channels]."
        )
    return jnp.asarray(maps)

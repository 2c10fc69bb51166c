"""Supervised classification of images of which random patches are hidden."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from unlir_jax.objectives import input_gradients, losses, network
from unlir_jax.objectives.classify import classify
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.types import Images, RandomKey, Variables

PATCHES = (0, 16, 32, 44, 56)
"""Sides of patches as published for images of 224 pixels; 0 hides nothing."""


@objective
def hide_and_seek(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    patches: Sequence[int] = PATCHES,
    share: float = 0.5,
    colour: Sequence[float] = (),
) -> Objective:
    """Minimise the cross-entropy of images of which random patches are hidden.

    Each image draws a side, and each of its patches is hidden with `share`, anew in
    every step; see `hidden`. Evaluation hides nothing.

    Metrics: as `classify`, of changed images in training.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        patches: Sides in pixels that are equally likely; 0 hides nothing.
        share: Probability of each patch to be hidden, in [0, 1]; 0.5 as published.
        colour: Mean colour of the training images in [0, 1], which hidden pixels get;
            none for the colour that the network sees as zero.

    Raises:
        ValueError: A setting out of range, no colour to hide with, or features that are
            kept.

    References:
        Singh & Lee, *Hide-and-Seek: Forcing a Network to be Meticulous for
        Weakly-supervised Object and Action Localization*, ICCV 2017, Section 3.1.
    """
    if isinstance(patches, int):
        patches = (patches,)
    if not patches or min(patches) < 0:
        raise ValueError(
            f"`patches`={tuple(patches)}; expected sides in pixels, 0 for no patch."
        )
    if not 0 <= share <= 1:
        raise ValueError(f"`share`={share}; expected a share in [0, 1].")
    input_gradients.check_images("hide_and_seek", apply.inputs)
    mean = tuple(colour) or apply.mean
    if len(mean) != 3 or not all(0 <= part <= 1 for part in mean):
        raise ValueError(
            f"`colour`={mean}; expected three numbers in [0, 1], the mean of the "
            "training images."
        )
    usual = classify(apply, classes, label_smoothing=label_smoothing)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        keys, own = network.keys_of(key, batch["position"])
        images = jnp.asarray(network.pixels(batch[apply.inputs]))
        changed = hidden(keys, images, patches=patches, share=share, colour=mean)
        logits, statistics = apply.train(variables, changed, own)
        targets = losses.targets(batch["label"], classes, label_smoothing)
        metrics = {"accuracy": losses.correct(logits, batch["label"])}
        return Outcome(losses.cross_entropy(logits, targets), metrics, statistics)

    return usual._replace(train=train)


def hidden(
    keys: jax.Array,
    images: Images,
    *,
    patches: Sequence[int] = PATCHES,
    share: float = 0.5,
    colour: Sequence[float],
) -> jax.Array:
    """Hide patches of a grid that begins in the first corner.

    Args:
        keys: Random keys, one an image.
        images: `[batch, height, width, 3]`.
        patches: Sides in pixels, of which each image draws one; 0 hides nothing.
        share: Probability of each patch to be hidden.
        colour: What hidden pixels become, `[3]`.

    Returns:
        Images of the same shape. Patches at the last edges are cut off.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlir_jax.objectives.hide_and_seek import hidden
        >>> keys, grey = jax.random.split(jax.random.key(0), 2), (0.5, 0.5, 0.5)
        >>> images = jnp.ones((2, 8, 8, 3))
        >>> found = hidden(keys, images, patches=(4,), share=1.0, colour=grey)
        >>> float(found.max())
        0.5
    """
    images = jnp.asarray(images)
    size = images.shape[1:3]

    def draw(key: jax.Array) -> jax.Array:
        choice, *each = jax.random.split(key, len(patches) + 1)
        masks = [_grid(k, n, share, size) for k, n in zip(each, patches, strict=True)]
        place = jax.random.randint(choice, (), 0, len(patches))
        return jnp.stack(masks)[place]

    colours = jnp.asarray(colour, images.dtype).reshape((1, 1, 1, 3))
    return jnp.where(jax.vmap(draw)(keys)[..., None], colours, images)


def _grid(key: jax.Array, side: int, share: float, size: tuple[int, ...]) -> jax.Array:
    """Draw where an image is hidden, `[height, width]`."""
    if not side:
        return jnp.zeros(size, bool)
    cells = tuple(-(-length // side) for length in size)
    drawn = jax.random.bernoulli(key, share, cells)
    rows, columns = (jnp.arange(length) // side for length in size)
    return drawn[rows[:, None], columns[None]]

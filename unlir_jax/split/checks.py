"""Arguments of explainers and metrics, checked before any work.

What is known is checked; inside `jax.jit` it is not, and an image that would be refused
gets NaN.
"""

import functools
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from unlir_jax import maps
from unlir_jax.core import random_keys
from unlir_jax.core.document_types import Record
from unlir_jax.split.functions import whole
from unlir_jax.split.scores import Score
from unlir_jax.types import Images, Labels, PyTree, SplitModel, Variables

INPUTS = "variables", "images", "labels", "saliency"
SLACK = 1e-4
"""How far rounding may take a pixel out of [0, 1]."""
STANDARDISED = 0.1
"""How far below 0 a pixel lies that was not rounded or resized but standardised."""
PICTURES = (1, 3, 4)
"""How many channels images have. Whatever has others, such as maps that are given to
a network cut at its own maps, has values of any range."""


def guarded[**P, R](
    model: SplitModel, score: Score | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check what an explainer or a metric of a cut network is called with.

    The function takes `variables, images, labels` first, and may take `saliency` and
    `key`; images, labels and the map reach it as arrays of JAX.

    Args:
        model: The cut network.
        score: Score that is explained or compared, which has to be defined for the
            network. Of a score of a region, label maps reach the function.

    Raises:
        TypeError: No arrays, images that are not floating point, labels that are not
            integer, a key that is none.
        ValueError: A wrong shape or number of channels, pixels that are not finite or
            outside of [0, 1], a label that is not a class, or a network of whose output
            the score makes no number. Inside `jax.jit` pixels and labels are unknown,
            and what is found for such an image is NaN.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        has_map = "saliency" in inspect.signature(function).parameters
        names = INPUTS if has_map else INPUTS[:3]

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            given: Record = dict(zip(names, args, strict=False)) | kwargs
            if any(name not in given for name in names):
                return function(*args, **kwargs)  # Which says what is missing.
            variables, *arrays = (given[name] for name in names)
            check_key(given.get("key"))
            check_batch(model, variables, arrays[0], arrays[1], score)
            for saliency in arrays[2:]:
                maps.check_saliency(saliency, arrays[0])
            arrays = [jnp.asarray(array) for array in arrays]
            arrays[1] = located(model, score, variables, arrays[0], arrays[1])
            others = {name: kwargs[name] for name in kwargs if name not in names}
            inputs = variables, *arrays, *args[len(names) :]
            found = function(*inputs, **others)  # pyright: ignore[reportCallIssue]
            images, labels = arrays[:2]
            if not traced(images, labels):
                return found
            logits = jax.eval_shape(whole(model), variables, images)
            return withheld(found, images, labels, count(score, logits))

        return called

    return decorate


def check_batch(
    model: SplitModel,
    variables: Variables,
    images: Images,
    labels: Labels,
    score: Score | None = None,
) -> None:
    """Refuse a batch that would give wrong or NaN results, before any work.

    Shapes and types are always checked; pixels and labels only where their values are
    known, that is outside `jax.jit`.

    Args:
        model: The cut network.
        variables: Variables of the network.
        images: `[batch, height, width, channels]` in [0, 1].
        labels: One class an image, or label maps.
        score: See `guarded`.

    Raises:
        TypeError: No arrays, images that are not floating point or labels that are not
            integer.
        ValueError: A wrong number of axes or channels, no image, as many labels as
            images, pixels that are not finite or outside of [0, 1], or a label that is
            not a class.
    """
    check_shapes(images, labels, channels_of(model))
    check_pixels(images)
    if traced(labels) and score is None:
        return
    logits = jax.eval_shape(whole(model), variables, images)
    if score is not None:
        # Traced: it says what it is not defined for, and costs no program.
        jax.eval_shape(score, logits, labels)
    check_labels(labels, count(score, logits))


def count(score: Score | None, logits: PyTree) -> int:
    """Count the labels that there are."""
    return (score.labels if score else 0) or logits.shape[-1]


def located(
    model: SplitModel,
    score: Score | None,
    variables: Variables,
    images: Images,
    labels: Labels,
) -> jax.Array:
    """Give label maps where a score is that of a region, else the labels.

    Raises:
        ValueError: A region of a known image is empty.
    """
    labels = jnp.asarray(labels)
    if score is None or score.places is None:
        return labels
    if labels.ndim == 3:
        return regions(score, None, labels)
    return regions(score, whole(model)(variables, images), labels)


def regions(
    score: Score, logits: PyTree, labels: Labels, names: Sequence[str] = ()
) -> jax.Array:
    """Give label maps where a score is that of a region, else the labels.

    Args:
        score: The score.
        logits: What the network gives the images, in which it looks for the classes.
        labels: One class an image, or label maps.
        names: Names of the images, for the error.

    Raises:
        ValueError: A region of a known image is empty.
    """
    labels = jnp.asarray(labels)
    if score.places is None:
        return labels
    if labels.ndim == 1:
        labels = score.places(logits, labels)
    if not traced(labels):
        empty = np.flatnonzero(~np.asarray(jnp.any(labels >= 0, axis=(1, 2))))
        if len(empty):
            first = int(empty[0])
            which = f" ({names[first]!r})" if names else ""
            raise ValueError(
                f"`labels`[{first}]{which} has no region: `score`={score.name!r} finds "
                "its class nowhere in the image; expected a class that the network "
                "finds there, such as the predicted one, or label maps."
            )
    return labels


def channels_of(model: SplitModel) -> int:
    """Count the channels of a network's images; 0 where its `mean` does not tell.

    Black is what a `mean` is when none is given.
    """
    return len(model.mean) if any(model.mean) else 0


def check_shapes(images: Images, labels: Labels, channels: int = 0) -> None:
    """Refuse images or labels of a wrong shape or type; see `check_batch`.

    Args:
        images: What should be `[batch, height, width, channels]`.
        labels: What should be `[batch]`.
        channels: How many there have to be; 0 where any number will do.
    """
    check_array("images", images, "[batch, height, width, channels]")
    check_array("labels", labels, "[batch] of integers")
    shape = jnp.shape(images)
    if len(shape) != 4 or not all(shape):
        raise ValueError(
            f"`images` has shape {shape}; expected [batch, height, width, channels], "
            "each at least 1, with values in [0, 1]."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"`images` are {images.dtype}; expected floating point in [0, 1]: divide "
            "8-bit images by 255."
        )
    if channels and shape[3] != channels:
        first = shape[1] == channels
        raise ValueError(
            f"`images` has shape {shape}; expected [batch, height, width, {channels}], "
            f"as the network's `mean` has {channels} channels: "
            + (
                "transpose(0, 2, 3, 1) moves the channels last."
                if first
                else "convert the images, or cut the network with another `mean`."
            )
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"`labels` are {labels.dtype}; expected one integer an image.")
    if jnp.ndim(labels) not in (1, 3) or jnp.shape(labels)[:1] != shape[:1]:
        raise ValueError(
            f"`labels` has shape {jnp.shape(labels)}; expected one class index for "
            f"each of the {shape[0]} images, or a label map for each."
        )


def check_array(name: str, value: object, expected: str) -> None:
    """Refuse what is no array of numbers, without a look at its values."""
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        raise TypeError(
            f"`{name}` is a {type(value).__name__}; expected an array {expected}, of "
            "NumPy or JAX."
        )
    if value.dtype == object:
        raise TypeError(
            f"`{name}` is an array of objects; expected an array {expected}, such as "
            "np.stack makes of arrays of one shape."
        )


def check_labels(labels: Labels, classes: int) -> None:
    """Refuse labels that are not classes, where their values are known.

    In label maps, -1 stands for places outside of the region.
    """
    if traced(labels) or not jnp.size(labels):
        return
    # As NumPy's: what is known inside `jax.jit` would be traced there otherwise.
    known = np.asarray(labels)
    low, high = int(known.min()), int(known.max())
    least = -1 if known.ndim == 3 else 0
    if low < least or high >= classes:
        raise ValueError(
            f"`labels` holds {low if low < least else high}; the network has classes "
            f"0 to {classes - 1}."
        )


def check_pixels(images: Images) -> None:
    """Refuse images that are not finite or outside of [0, 1], where they are known.

    On CPU the values are looked at where they are; elsewhere one number an image comes
    from the device.
    """
    if traced(images):
        return
    if _is_at_hand(images):
        view = np.asarray(images)
        # Both are NaN where a value is, and so is the comparison false.
        low, high = _bounds(images)
        if view.min() >= low and view.max() <= high:
            return
    with jax.ensure_compile_time_eval():
        fine = np.asarray(_plausible(images))
    if fine.all():
        return
    number = int(np.argmin(fine))
    image = np.asarray(images[number], np.float64)
    if not np.isfinite(image).all():
        value, advice = image[~np.isfinite(image)][0], "finite values in [0, 1]"
    else:
        low, high = image.min(), image.max()
        value = high if high > 1 + SLACK else low
        if low < -STANDARDISED:
            value, fix = low, "undo the standardisation (times std, plus mean)"
        elif value > 2:
            fix = "divide 8-bit images by 255"
        else:
            fix = "clip what lies outside"
        advice = f"values in [0, 1]: {fix}"
    raise ValueError(f"`images`[{number}] holds {value:.6g}; expected {advice}.")


def check_key(key: object) -> None:
    """Refuse what is no typed random key; None is none."""
    random_keys.check(key)


def withheld[Found](
    found: Found, images: Images, labels: Labels, classes: int
) -> Found:
    """Give NaN for what was found for images that would have been refused.

    Args:
        found: Arrays with one entry an image; whatever else there is stays.
        images: Known or traced.
        labels: Known or traced.
        classes: Number of classes.
    """
    labels = jnp.asarray(labels)
    known = (labels >= 0) & (labels < classes)
    if labels.ndim == 3:
        known = jnp.all(labels < classes, axis=(1, 2)) & jnp.any(known, axis=(1, 2))
    fine = _plausible(images) & known

    def give(leaf: PyTree) -> PyTree:
        own = jnp.ndim(leaf) and leaf.shape[0] == len(fine)
        if not own or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(fine.reshape((-1, *(1,) * (leaf.ndim - 1))), leaf, jnp.nan)

    return jax.tree.map(give, found)


def traced(*values: object) -> bool:
    """Tell whether something is unknown, as it is inside `jax.jit`."""
    return any(isinstance(value, core.Tracer) for value in values)


@jax.jit
def _plausible(images: Images) -> jax.Array:
    """Tell which images are finite and in [0, 1], `[batch]`."""
    # No least and largest value: XLA on CPU loses NaN there, see `compilation`.
    low, high = _bounds(images)
    fine = (images >= low) & (images <= high)
    return jnp.all(fine, axis=(1, 2, 3))


def _bounds(images: Images) -> tuple[float, float]:
    if images.shape[3] in PICTURES:
        return -SLACK, 1 + SLACK
    most = float(jnp.finfo(images.dtype).max)
    return -most, most


def _is_at_hand(images: Images) -> bool:
    """Tell whether NumPy can look at the values without moving them."""
    if images.dtype not in (np.float32, np.float64):
        return False
    if isinstance(images, np.ndarray):
        return True
    devices = images.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"

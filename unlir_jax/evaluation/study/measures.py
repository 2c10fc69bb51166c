"""Logits, and gradients by the pixels, of one network on the test split."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import memoize
from unlir_jax.data import pipeline, source
from unlir_jax.metrics.faithfulness import sparseness
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.objectives import input_gradients, losses
from unlir_jax.saliency import rectifiers
from unlir_jax.saliency.gradients import guided
from unlir_jax.statistics import calibration
from unlir_jax.types import (
    Images,
    Labels,
    Logits,
    PerImage,
    PyTree,
    SplitModel,
    Variables,
)

GRADIENTS = ("gradient_cosine", "gradient_total_variation", "gradient_gini")


class Frame(NamedTuple):
    """Say in which frame images are read, see `pipeline.evaluation`."""

    batch_size: int
    image_size: int
    crop: float
    interpolation: str


class Places(NamedTuple):
    """Hold places of the test split.

    Attributes:
        scored: Those whose explanations are scored, evenly spread.
        fitted: Those that the temperature is fitted on: every second of the others.
    """

    scored: np.ndarray
    fitted: np.ndarray


class Classified(NamedTuple):
    """Hold what a network says of all images that can be read.

    Attributes:
        index: Places in the data, `[images]`.
        logits: `[images, classes]`.
        labels: `[images]`.
    """

    index: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


def deal(size: int, count: int) -> Places:
    """Deal a test split out to scores, and to the fit of the temperature.

    Args:
        size: Number of images.
        count: Number of images to score.

    Raises:
        ValueError: Fewer than two images would be left, or none are to be scored.
    """
    if not 0 < count <= size - 2:
        raise ValueError(
            f"`images`={count} of a test split of {size} would be scored; expected at "
            f"least 1 and at most {size - 2}, for the temperature is fitted on others."
        )
    scored = spread(size, count)
    return Places(scored, np.setdiff1d(np.arange(size), scored)[::2])


def spread(size: int, count: int) -> np.ndarray:
    """Spread places evenly, as the limit of an evaluation does."""
    return np.linspace(0, size, count, endpoint=False).astype(int)


def classify(network: Pretrained, data: source.Source, frame: Frame) -> Classified:
    """Compute the logits of all images.

    Raises:
        FloatingPointError: They are not finite.
        ValueError: The network has another number of classes.
    """
    apply = _applied(network.model)
    index, logits = [], []
    for batch in pipeline.evaluation(data, frame=network.frame, **frame._asdict()):
        given = jnp.asarray(batch["image"], jnp.float32) / 255
        kept = batch["weight"] > 0
        index.append(batch["index"][kept])
        logits.append(np.asarray(apply(network.variables, given))[kept])
    places, found = np.concatenate(index), np.concatenate(logits)
    if found.shape[1] != len(data.classes):
        raise ValueError(
            f"{network.name} has {found.shape[1]} classes, and the data has "
            f"{len(data.classes)}; expected a network of these classes."
        )
    if not np.isfinite(found).all():
        raise FloatingPointError(
            f"The logits of {network.name} are not finite; expected numbers: look at "
            "its training."
        )
    return Classified(places, found, np.asarray(data.labels)[places])


def calibrate(found: Classified, places: Places) -> dict[str, float]:
    """Fit the temperature, and measure accuracy and calibration on all other images.

    Returns:
        `temperature`, `accuracy`, `nll`, `ece`, and `nll_calibrated` and
        `ece_calibrated` at that temperature.
    """
    fitted = np.isin(found.index, places.fitted)
    best = calibration.fit_temperature(found.logits[fitted], found.labels[fitted])
    degree = float(f"{best:.6g}")
    logits, labels = found.logits[~fitted], found.labels[~fitted]
    return {
        "temperature": degree,
        "accuracy": float(np.mean(logits.argmax(1) == labels)),
        "nll": calibration.negative_log_likelihood(logits, labels),
        "ece": calibration.expected_calibration_error(logits, labels),
        "nll_calibrated": calibration.negative_log_likelihood(logits, labels, degree),
        "ece_calibrated": calibration.expected_calibration_error(
            logits, labels, degree
        ),
    }


def gradients(
    network: Pretrained, data: source.Source, places: np.ndarray, frame: Frame
) -> dict[str, np.ndarray]:
    """Measure the gradient of the cross-entropy by the pixels, image by image.

    The cosine with the guided gradient is NaN for a network without rectifiers.

    Returns:
        By name of `GRADIENTS`, `[images]`; NaN for an image that cannot be read.
    """
    measure = functools.partial(_measured(network.model), network.variables)
    return each_image(measure, network, data, places, frame)


def alignment(
    network: Pretrained, data: source.Source, places: np.ndarray, frame: Frame
) -> np.ndarray:
    """Measure |<x, g>| / ‖g‖, g the gradient of the predicted class's logit.

    See `input_gradients.alignment`. No temperature changes it.

    Returns:
        `[images]`; NaN for an image that cannot be read.
    """
    measure = functools.partial(_aligned(network.model), network.variables)
    return each_image(measure, network, data, places, frame)["alignment"]


def each_image(
    measure: Callable[[Images, Labels], Mapping[str, PerImage]],
    network: Pretrained,
    data: source.Source,
    places: np.ndarray,
    frame: Frame,
) -> dict[str, np.ndarray]:
    """Measure some images batch by batch; NaN for one that cannot be read."""
    found: dict[str, np.ndarray] = {}
    some = source.subset(data, places)
    for batch in pipeline.evaluation(some, frame=network.frame, **frame._asdict()):
        given = jnp.asarray(batch["image"], jnp.float32) / 255
        labels = jnp.asarray(np.maximum(batch["label"], 0))
        kept = batch["weight"] > 0
        for name, each in measure(given, labels).items():
            values = found.setdefault(name, np.full(len(places), np.nan))
            values[batch["index"][kept]] = np.asarray(each)[kept]
    return found


def input_gradient(network: Pretrained, images: Images, labels: Labels) -> np.ndarray:
    """Differentiate the cross-entropy by the pixels."""
    return np.asarray(_differentiated(network.model)(network.variables, images, labels))


@memoize.remember
def _applied(model: SplitModel) -> Callable[[Variables, Images], Logits]:
    return jax.jit(lambda variables, images: _logits(model, variables, images))


@memoize.remember
def _differentiated(model: SplitModel) -> Callable[..., jax.Array]:
    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        run = functools.partial(_logits, model, variables)
        return _plain(run, images, labels)

    return compute


@memoize.remember
def _measured(model: SplitModel) -> Callable[..., dict[str, PerImage]]:
    @jax.jit
    def compute(
        variables: Variables, images: Images, labels: Labels
    ) -> dict[str, PerImage]:
        run = functools.partial(_logits, model, variables)
        plain = _plain(run, images, labels)
        cosine = jnp.full(len(images), jnp.nan)
        if rectifiers.has_any(run, images):
            ruled = guided.ruled("guided", run, images)
            cosine = input_gradients.cosine(plain, _plain(ruled, images, labels))
        return {
            "gradient_cosine": cosine,
            "gradient_total_variation": input_gradients.total_variation(plain),
            "gradient_gini": sparseness.gini_index(plain.reshape((len(plain), -1))),
        }

    return compute


@memoize.remember
def _aligned(model: SplitModel) -> Callable[..., dict[str, PerImage]]:
    @jax.jit
    def compute(
        variables: Variables, images: Images, labels: Labels
    ) -> dict[str, PerImage]:
        del labels

        def highest(images: Images) -> jax.Array:
            return jnp.sum(jnp.max(_logits(model, variables, images), axis=1))

        slope = jax.grad(highest)(images)
        return {"alignment": input_gradients.alignment(images, slope)}

    return compute


def _plain(
    run: Callable[[Images], Logits], images: Images, labels: Labels
) -> jax.Array:
    def both(images: Images) -> tuple[Logits, PyTree]:
        return run(images), None

    classes = jax.eval_shape(run, images).shape[-1]
    targets, counts = losses.targets(labels, classes), jnp.ones(len(images))
    return input_gradients.differentiated(both, images, targets, counts)[0]


def _logits(model: SplitModel, variables: Variables, images: Images) -> Logits:
    return model.head(variables, model.features(variables, images))

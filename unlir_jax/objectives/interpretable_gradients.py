"""Supervised classification whose input gradient resembles the guided one."""

from collections.abc import Callable

import jax

from unlir_jax.core import choices
from unlir_jax.objectives import input_gradients, losses, network
from unlir_jax.objectives.classify import classify, measured, mixed
from unlir_jax.objectives.input_gradients import Distance
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.saliency.gradients import guided
from unlir_jax.types import Images, Logits, PerImage, PyTree, RandomKey, Variables

MEASURED = ("gradient_cosine", "gradient_total_variation")


@objective
def interpretable_gradients(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    weight: float = 7.5e-3,
    distance: Distance = "cosine",
    detached: bool = True,
) -> Objective:
    """Minimise cross-entropy + `weight` · distance(input gradient, guided gradient).

    Both are gradients of the cross-entropy by the pixels, summed over the batch, in one
    forward pass: norms see the same batch, and their statistics move once. The guided
    one passes rectifiers as `guided.ruled` says.

    Metrics: as `classify`; `gradient_cosine`, the cosine of the two gradients, and when
    evaluated `gradient_total_variation` of the plain one. With `weight` 0 a step is
    that of `classify`, bit for bit.

    Args:
        apply: A network that takes images, and has ReLU, ReLU6, GELU or SiLU.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        mixup: Strength of mixup, 0 for none, see `mixing.mix`.
        cutmix: Strength of cutmix, 0 for none.
        weight: Weight λ of the distance.
        distance: See `input_gradients.distance`.
        detached: Whether the guided gradient is a constant that the plain one is drawn
            to; else it is learned too.

    Raises:
        ValueError: A setting out of range, or features that are kept. When called: a
            network without rectifiers.

    References:
        Torres Figueroa et al., *A Learning Paradigm for Interpretable Gradients*,
        VISAPP 2024.
    """
    if not weight >= 0:
        raise ValueError(f"`weight`={weight}; expected 0 or more.")
    choices.check("distance", distance, Distance)
    input_gradients.check_images("interpretable_gradients", apply.inputs)
    smoothed = {"label_smoothing": label_smoothing, "mixup": mixup, "cutmix": cutmix}
    usual = classify(apply, classes, **smoothed)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        inputs, targets, key = mixed(apply, classes, batch, key, **smoothed)

        def run(images: Images) -> tuple[Logits, PyTree]:
            return apply.train(variables, images, key)

        given = inputs, targets, batch["weight"]
        plain, (loss, logits, statistics) = input_gradients.differentiated(run, *given)
        other = _guided(run, *given)
        if detached:
            other = jax.lax.stop_gradient(other)
        apart = input_gradients.distance(distance, plain, other)
        metrics = {
            "accuracy": losses.correct(logits, batch["label"]),
            "gradient_cosine": input_gradients.cosine(plain, other),
        }
        return Outcome(loss + weight * apart, metrics, statistics)

    step = train if weight else usual.train
    metrics = (*usual.metrics, *MEASURED)
    evaluate = _evaluation(apply, classes)
    return Objective(step, evaluate, metrics, check=evaluate)


def _evaluation(
    apply: Apply, classes: int
) -> Callable[[Variables, Batch], dict[str, PerImage]]:
    def evaluate(variables: Variables, batch: Batch) -> dict[str, PerImage]:
        images = network.pixels(batch[apply.inputs])
        targets = losses.targets(batch["label"], classes)

        def run(images: Images) -> tuple[Logits, PyTree]:
            return apply.evaluate(variables, images), None

        given = images, targets, batch["weight"]
        plain, (_, logits, _) = input_gradients.differentiated(run, *given)
        return measured(logits, batch["label"], classes) | {
            "gradient_cosine": input_gradients.cosine(plain, _guided(run, *given)),
            "gradient_total_variation": input_gradients.total_variation(plain),
        }

    return evaluate


def _guided(
    run: Callable[[Images], tuple[Logits, PyTree]],
    images: Images,
    targets: Logits,
    weight: PerImage,
) -> jax.Array:
    """Differentiate under the guided rule; a compiler finds the forward pass done."""

    def logits(images: Images) -> Logits:
        return run(images)[0]

    ruled = guided.ruled("guided", logits, images)
    given = images, targets, weight
    return input_gradients.differentiated(lambda x: (ruled(x), None), *given)[0]

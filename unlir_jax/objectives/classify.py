"""Supervised classification."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax.objectives import losses, mixing, network
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.types import Array, Labels, Logits, PerImage, RandomKey, Variables


@objective
def classify(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> Objective:
    """Minimise the cross-entropy of the right class.

    Metrics: `loss` (without smoothing or mixing when evaluated), `accuracy` and, from
    six classes on, `top5_accuracy`.

    Args:
        apply: The network.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        mixup: Strength of mixup, 0 for none, see `mixing.mix`.
        cutmix: Strength of cutmix, 0 for none; needs images.

    Raises:
        ValueError: A strength out of range.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing`={label_smoothing}; expected it in [0, 1).")
    mixing.check_strengths(mixup, cutmix)
    if cutmix and apply.inputs != "image":
        raise ValueError(
            f"`cutmix`={cutmix} cuts images, but this network is trained on cached "
            "features; expected cutmix=0, or no cache."
        )

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        inputs, targets, key = mixed(
            *(apply, classes, batch, key),
            label_smoothing=label_smoothing,
            mixup=mixup,
            cutmix=cutmix,
        )
        logits, statistics = apply.train(variables, inputs, key)
        loss = losses.cross_entropy(logits, targets)
        accuracy = losses.correct(logits, batch["label"])
        return Outcome(loss, {"accuracy": accuracy}, statistics)

    return Objective(train, *evaluation(apply, classes))


def mixed(
    apply: Apply,
    classes: int,
    batch: Batch,
    key: RandomKey,
    *,
    label_smoothing: float,
    mixup: float,
    cutmix: float,
) -> tuple[Array, jax.Array, RandomKey]:
    """Give what a network learns from: mixed inputs, their targets, and its own key."""
    mix_key, dropout_key = jax.random.split(key)
    inputs, targets = mixing.mix(
        mix_key,
        batch["position"],
        network.pixels(batch[apply.inputs]),
        losses.targets(batch["label"], classes, label_smoothing),
        batch["weight"],
        mixup=mixup,
        cutmix=cutmix,
    )
    # Devices of `pmap` would draw alike; the first row's place tells them apart.
    return inputs, targets, jax.random.fold_in(dropout_key, batch["position"][0])


def evaluation(
    apply: Apply, classes: int
) -> tuple[Callable[[Variables, Batch], dict[str, PerImage]], tuple[str, ...]]:
    """Make `Objective.evaluate` and list what it gives, for what decides on classes."""

    def evaluate(variables: Variables, batch: Batch) -> dict[str, PerImage]:
        logits = apply.evaluate(variables, network.pixels(batch[apply.inputs]))
        return measured(logits, batch["label"], classes)

    metrics = ("loss", "accuracy") + (("top5_accuracy",) if classes > 5 else ())
    return evaluate, metrics


def measured(logits: Logits, labels: Labels, classes: int) -> dict[str, PerImage]:
    """Measure logits of images that are not mixed."""
    wide = jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32))
    found = {
        "loss": losses.cross_entropy(wide, losses.targets(labels, classes)),
        "accuracy": losses.correct(wide, labels),
    }
    if classes > 5:
        found["top5_accuracy"] = losses.correct(wide, labels, 5)
    return found

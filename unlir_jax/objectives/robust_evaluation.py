"""Accuracy under attack in evaluations of a training, and a warning about it."""

import jax

from unlir_jax.core import random_keys
from unlir_jax.objectives import crafting, losses, network
from unlir_jax.objectives.crafting import Ascent
from unlir_jax.objectives.objective import Apply, Batch, Numbers, Objective
from unlir_jax.types import PerImage, Variables

GAP, SHARE = 0.2, 0.5
"""By how much, and to which share, PGD lowers what FGSM leaves, for a warning."""


def extended(
    objective: Objective,
    apply: Apply,
    classes: int,
    ascent: Ascent,
    *,
    single_step: bool = False,
) -> Objective:
    """Let an objective measure accuracy under attack.

    `robust_accuracy` counts images that the network gets right as they are, and after
    PGD from a random point; `fgsm_accuracy` after one step of the radius from the image
    itself. The network is in evaluation mode. What is drawn for an image does not
    depend on its batch. It takes `ascent.steps` + 1 gradients and two more passes.

    Args:
        objective: An objective of a classifier.
        apply: The network.
        classes: Number of classes.
        ascent: Attack; of no steps, or of a radius of 0, there is none.
        single_step: See `overfitting`.
    """
    if not ascent.steps or not ascent.epsilon:
        return objective
    one = ascent._replace(steps=1, step_size=ascent.epsilon, random_start=False)
    attacks = {
        "robust_accuracy": crafting.climbing(apply, ascent, "evaluation", "label"),
        "fgsm_accuracy": crafting.climbing(apply, one, "evaluation", "label"),
    }

    def evaluate(variables: Variables, batch: Batch) -> dict[str, PerImage]:
        images, labels = network.pixels(batch[apply.inputs]), batch["label"]
        found = objective.evaluate(variables, batch)
        key = jax.random.key(0)
        keys = random_keys.per_image(key, images)
        for name, craft in attacks.items():
            changed = craft(variables, images, labels, keys, key)
            right = losses.correct(apply.evaluate(variables, changed), labels)
            found[name] = found["accuracy"] * right
        return found

    def notice(known: Numbers, best: Numbers) -> str:
        return overfitting(known, best, ascent.steps, single_step)

    metrics = (*objective.metrics, *attacks)
    return objective._replace(evaluate=evaluate, metrics=metrics, notice=notice)


def overfitting(
    known: Numbers, best: Numbers, steps: int, single_step: bool = False
) -> str:
    """Say that a training has overfitted to attacks of one step, if it has.

    It has where PGD leaves less than half of what one step leaves, and the two are more
    than 20 points apart. The one step is FGSM on the test images; in a training with
    one step it is that one as well, on the training images.

    Args:
        known: Last numbers, with names such as `test/robust_accuracy`.
        best: The best evaluation so far, and its `step`.
        steps: Number of steps of PGD.
        single_step: Whether the training crafts with one step.

    Returns:
        A sentence, or "".

    References:
        Wong et al., *Fast is Better than Free*, ICLR 2020, Section 5.4.
    """
    robust = known["test/robust_accuracy"]
    single, where = known["test/fgsm_accuracy"], "test images are right after FGSM"
    trained = known.get("train/adversarial_accuracy", 0.0)
    if single_step and trained > single:
        single, where = trained, "training images are right after their one step"
    if single - robust <= GAP or robust >= SHARE * single:
        return ""
    before = best.get("test/robust_accuracy", 0.0)
    more = f"; step {best['step']} had {before:.1%}" if before > robust else ""
    return (
        f"catastrophic overfitting: {single:.1%} of the {where}, and {robust:.1%} of "
        f"the test images after PGD with {steps} steps{more}"
    )

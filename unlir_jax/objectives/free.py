"""Free adversarial training: one gradient moves the parameters and the images.

Shafahi et al., *Adversarial Training for Free!*, NeurIPS 2019.
"""

import jax
import jax.numpy as jnp

from unlir_jax.objectives import losses, network
from unlir_jax.objectives.crafting import Ascent
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome, Replay
from unlir_jax.types import Images, RandomKey, Variables


def replayed(
    usual: Objective,
    apply: Apply,
    classes: int,
    ascent: Ascent,
    times: int,
    label_smoothing: float = 0.0,
) -> Objective:
    """Let an objective learn from x + d, where d moves with each step (Algorithm 1).

    d starts at 0, and lasts: from step to step, and from batch to batch. In each step
    one derivative gives the slopes of the loss by the parameters and by d. Then
    d ← clip(d + `step_size` · sign(slope), -`epsilon`, `epsilon`). `times` steps in a
    row see the same batch, and each updates the parameters.

    Args:
        usual: The objective of images as they are.
        apply: The network.
        classes: Number of classes.
        ascent: Has the radius and the length of a step; as published they are equal.
        times: The published m.
        label_smoothing: Share of the mass that is spread over all classes.

    Note:
        Images stay in [0, 1], which Algorithm 1 leaves out. The slope is taken at the
        clipped image, and passes the clip.
    """

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        _, own = network.keys_of(key, batch["position"])
        images, labels = network.pixels(batch[apply.inputs]), batch["label"]
        changed = added(images, batch["change"])
        logits, statistics = apply.train(variables, changed, own)
        targets = losses.targets(labels, classes, label_smoothing)
        metrics = {"adversarial_accuracy": losses.correct(logits, labels)}
        return Outcome(losses.cross_entropy(logits, targets), metrics, statistics)

    def move(change: jax.Array, slope: jax.Array) -> jax.Array:
        slope = jnp.where(jnp.isfinite(slope), slope, 0)
        moved = change + ascent.step_size * jnp.sign(slope)
        return jnp.clip(moved, -ascent.epsilon, ascent.epsilon)

    return usual._replace(train=train, replay=Replay(times, move))


def added(images: Images, change: jax.Array) -> jax.Array:
    """Add a change to images in [0, 1]; its derivative is 1, also where it is cut."""
    cut = jnp.clip(jnp.asarray(images) + change, 0, 1)
    # The difference is 0, and has a slope.
    return jax.lax.stop_gradient(cut) + (change - jax.lax.stop_gradient(change))

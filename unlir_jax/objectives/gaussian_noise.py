"""Supervised classification of noisy images, as randomised smoothing needs it."""

import functools
import math

import jax
import jax.numpy as jnp

from unlir_jax.objectives import input_gradients, losses, network
from unlir_jax.objectives.classify import classify
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.types import RandomKey, Variables


@objective
def gaussian_noise(
    apply: Apply, classes: int, *, label_smoothing: float = 0.0, sigma: float = 0.25
) -> Objective:
    """Minimise the cross-entropy of x + N(0, `sigma`² I), which is not clipped.

    Metrics: as `classify`, of noisy images in training and of plain ones when
    evaluated.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        sigma: Standard deviation of the noise, for images in [0, 1]: the one of
            `attacks.randomised_smoothing.certify`.

    Raises:
        ValueError: A setting out of range, or features that are kept.

    References:
        Cohen, Rosenfeld & Kolter, *Certified Adversarial Robustness via Randomized
        Smoothing*, ICML 2019, Section 3.3.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"`sigma`={sigma}; expected 0 or more.")
    input_gradients.check_images("gaussian_noise", apply.inputs)
    usual = classify(apply, classes, label_smoothing=label_smoothing)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        keys, own = network.keys_of(key, batch["position"])
        images = jnp.asarray(network.pixels(batch[apply.inputs]))
        draw = functools.partial(
            jax.random.normal, shape=images.shape[1:], dtype=images.dtype
        )
        noise = jax.vmap(draw)(keys)
        logits, statistics = apply.train(variables, images + sigma * noise, own)
        targets = losses.targets(batch["label"], classes, label_smoothing)
        metrics = {"accuracy": losses.correct(logits, batch["label"])}
        return Outcome(losses.cross_entropy(logits, targets), metrics, statistics)

    return usual._replace(train=train if sigma else usual.train)

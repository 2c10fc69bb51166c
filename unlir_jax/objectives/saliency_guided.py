"""Supervised classification that does not change without the least salient pixels."""

import jax
import jax.numpy as jnp

from unlir_jax.objectives import input_gradients, losses
from unlir_jax.objectives.classify import classify, mixed
from unlir_jax.objectives.gradient_penalties import PLAIN
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.runtime import mesh
from unlir_jax.types import Images, Logits, PyTree, RandomKey, Variables


@objective
def saliency_guided(
    apply: Apply, classes: int, *, weight: float = 1.0, share: float = 0.5
) -> Objective:
    """Minimise cross-entropy + `weight` · KL(p(x), p(x̃)).

    x̃ is the image, of which the `share` of pixels with the smallest gradient of the
    right class's logit is replaced: each colour by a number between the least and the
    greatest that the image has of it. Norms keep the statistics of x.

    Metrics: as `classify`, and in training the `penalty`, the divergence.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        weight: Weight of the divergence, 0 or more; 1 as published.
        share: Share of pixels that are replaced, in (0, 1); half as published.

    Raises:
        ValueError: A setting out of range, or features that are kept.

    References:
        Ismail, Corrada Bravo & Feizi, *Improving Deep Learning Interpretability by
        Saliency Guided Training*, NeurIPS 2021, Eq. 2 and Algorithm 1.

    Note:
        The released script ranks signed gradients unless told `--abs`, in eval mode.
        It looks places of pixels up among flattened colours, and so replaces the first
        colour alone (`Scripts/interpretable.py` at 0e8d2e2). Ours replaces all colours.
    """
    if not weight >= 0:
        raise ValueError(f"`weight`={weight}; expected 0 or more.")
    if not 0 < share < 1:
        raise ValueError(f"`share`={share}; expected a share in (0, 1).")
    input_gradients.check_images("saliency_guided", apply.inputs)
    usual = classify(apply, classes)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        images, targets, key = mixed(apply, classes, batch, key, **PLAIN)
        own, other = jax.random.split(key)

        def right(images: Images) -> tuple[jax.Array, tuple[Logits, PyTree]]:
            logits, statistics = apply.train(variables, images, own)
            counted = (batch["weight"] > 0)[:, None]
            return jnp.sum(jnp.where(counted, targets * logits, 0)), (
                logits,
                statistics,
            )

        slope, (logits, statistics) = jax.grad(right, has_aux=True)(images)
        salience = jnp.sum(jnp.abs(jax.lax.stop_gradient(slope)), axis=-1)
        changed = _replaced(jnp.asarray(images), salience, share, other, batch)
        without, _ = apply.train(variables, changed, own)
        log_first, log_second = (
            jax.nn.log_softmax(each.astype(jnp.float32)) for each in (logits, without)
        )
        apart = jnp.sum(jnp.exp(log_first) * (log_first - log_second), axis=-1)
        metrics = {
            "accuracy": losses.correct(logits, batch["label"]),
            "penalty": apart,
        }
        loss = losses.cross_entropy(logits, targets) + weight * apart
        return Outcome(loss, metrics, statistics)

    return usual._replace(train=train)


def _replaced(
    images: jax.Array, salience: jax.Array, share: float, key: RandomKey, batch: Batch
) -> jax.Array:
    """Replace the least salient pixels; of equal ones, the first in reading order."""
    rows = salience.reshape(len(salience), -1)
    count = round(share * rows.shape[1])
    places = jnp.argsort(jnp.argsort(rows, axis=1), axis=1)
    chosen = (places < count).reshape(salience.shape)
    keys = mesh.per_row_keys(key, jnp.asarray(batch["position"]))
    drawn = jax.vmap(lambda k: jax.random.uniform(k, images.shape[1:]))(keys)
    low, high = (
        reduce(images, axis=(1, 2), keepdims=True) for reduce in (jnp.min, jnp.max)
    )
    noise = (low + drawn * (high - low)).astype(images.dtype)
    return jnp.where(chosen[..., None], noise, images)

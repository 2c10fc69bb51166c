"""Supervised classification whose gradients by the pixels are kept small."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax.objectives import input_gradients, losses
from unlir_jax.objectives.classify import classify, mixed
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.runtime import mesh
from unlir_jax.types import Images, Logits, PerImage, PyTree, RandomKey, Variables

PLAIN = {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0}
Penalty = Callable[
    [Callable[[Images], tuple[Logits, PyTree]], Images, Logits, Batch, RandomKey],
    tuple[PerImage, PerImage, Logits, PyTree],
]
"""`(run, images, targets, batch, key) -> (penalty, loss, logits, statistics)`."""


@objective
def gradient_penalty(apply: Apply, classes: int, *, weight: float) -> Objective:
    """Minimise cross-entropy + `weight` · ‖its gradient by the pixels‖².

    Metrics: as `classify`, and in training the `penalty`.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        weight: Weight of the penalty, 0 or more; 0 is `classify`.

    Raises:
        ValueError: A negative weight, or features that are kept.

    References:
        Drucker & LeCun, *Improving Generalization Performance Using Double
        Backpropagation*, IEEE Transactions on Neural Networks 1992; Ross &
        Doshi-Velez, *Improving the Adversarial Robustness and Interpretability of Deep
        Neural Networks by Regularizing Their Input Gradients*, AAAI 2018.
    """

    def penalty(
        run: Callable[[Images], tuple[Logits, PyTree]],
        images: Images,
        targets: Logits,
        batch: Batch,
        key: RandomKey,
    ) -> tuple[PerImage, PerImage, Logits, PyTree]:
        del key
        given = images, targets, batch["weight"]
        slope, (loss, logits, more) = input_gradients.differentiated(run, *given)
        return _square(slope), loss, logits, more

    return _penalised("gradient_penalty", apply, classes, weight, penalty)


@objective
def jacobian_penalty(
    apply: Apply, classes: int, *, weight: float = 0.01, projections: int = 1
) -> Objective:
    """Minimise cross-entropy + `weight` / 2 · ‖Jacobian of the logits by the pixels‖².

    The norm is estimated without bias: `classes` times the mean of ‖vᵀ J‖² over random
    directions v of length 1. Where norms see the batch, J is that of all rows' logits.

    Metrics: as `classify`, and in training the `penalty`, ‖J‖² / 2.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        weight: Weight of the penalty, 0 or more; 0.01 as published, 0 is `classify`.
        projections: Number of directions for each image, at least 1.

    Raises:
        ValueError: A setting out of range, or features that are kept.

    References:
        Hoffman, Roberts & Yaida, *Robust Learning with Jacobian Regularization*,
        arXiv 1908.02729, Algorithm 1.
    """
    if projections < 1:
        raise ValueError(f"`projections`={projections}; expected at least 1.")

    def penalty(
        run: Callable[[Images], tuple[Logits, PyTree]],
        images: Images,
        targets: Logits,
        batch: Batch,
        key: RandomKey,
    ) -> tuple[PerImage, PerImage, Logits, PyTree]:
        logits, pull, more = jax.vjp(run, images, has_aux=True)
        keys = mesh.per_row_keys(key, jnp.asarray(batch["position"]))
        counted = (batch["weight"] > 0)[:, None]
        squares = []
        for number in range(projections):
            drawn = jax.vmap(
                lambda k, n=number: jax.random.normal(
                    jax.random.fold_in(k, n), (classes,)
                )
            )(keys)
            drawn = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
            (slope,) = pull(jnp.where(counted, drawn, 0).astype(logits.dtype))
            squares.append(_square(slope))
        estimate = classes * jnp.mean(jnp.stack(squares), axis=0)
        return estimate / 2, losses.cross_entropy(logits, targets), logits, more

    return _penalised("jacobian_penalty", apply, classes, weight, penalty)


@objective
def right_reasons(apply: Apply, classes: int, *, weight: float) -> Objective:
    """Minimise cross-entropy + `weight` · ‖a gradient outside of the object's mask‖².

    The gradient is that of the sum of all classes' log-probabilities by the pixels, as
    published. Pixels that the mask calls void are not looked at.

    Metrics: as `classify`, and in training the `penalty`.

    Args:
        apply: A network that takes images; the data has masks.
        classes: Number of classes.
        weight: Weight of the penalty, 0 or more; 0 is `classify`.

    Raises:
        ValueError: A negative weight, or features that are kept.

    References:
        Ross, Hughes & Doshi-Velez, *Right for the Right Reasons: Training
        Differentiable Models by Constraining their Explanations*, IJCAI 2017, Eq. 1.
    """

    def penalty(
        run: Callable[[Images], tuple[Logits, PyTree]],
        images: Images,
        targets: Logits,
        batch: Batch,
        key: RandomKey,
    ) -> tuple[PerImage, PerImage, Logits, PyTree]:
        del key
        # Cross-entropy with ones for targets is minus the sum over all classes.
        ones, counts = jnp.ones_like(targets), batch["weight"]
        slope, (_, logits, more) = input_gradients.differentiated(
            run, images, ones, counts
        )
        outside = jnp.asarray(batch["mask"]) == 0
        held = jnp.where(outside[..., None], slope, 0)
        return _square(held), losses.cross_entropy(logits, targets), logits, more

    found = _penalised("right_reasons", apply, classes, weight, penalty)
    return found._replace(annotations=("mask",))


def _penalised(
    name: str, apply: Apply, classes: int, weight: float, penalty: Penalty
) -> Objective:
    """Add a penalty to `classify`, which evaluates; nothing at weight 0."""
    if not weight >= 0:
        raise ValueError(f"`weight`={weight}; expected 0 or more.")
    input_gradients.check_images(name, apply.inputs)
    usual = classify(apply, classes)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        inputs, targets, key = mixed(apply, classes, batch, key, **PLAIN)
        own, other = jax.random.split(key)

        def run(images: Images) -> tuple[Logits, PyTree]:
            return apply.train(variables, images, own)

        added, loss, logits, statistics = penalty(run, inputs, targets, batch, other)
        metrics = {
            "accuracy": losses.correct(logits, batch["label"]),
            "penalty": added,
        }
        return Outcome(loss + weight * added, metrics, statistics)

    return usual._replace(train=train) if weight else usual


def _square(slope: jax.Array) -> PerImage:
    wide = slope.astype(jnp.promote_types(slope.dtype, jnp.float32))
    return jnp.sum(jnp.square(wide), axis=(1, 2, 3))

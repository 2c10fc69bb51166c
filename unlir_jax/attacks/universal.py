"""Universal perturbations: one change with which a network errs on many images.

Moosavi-Dezfooli, Fawzi, Fawzi & Frossard, *Universal Adversarial Perturbations*, CVPR
2017; Shafahi, Najibi, Xu, Dickerson, Davis & Goldstein, *Universal Adversarial
Training*, AAAI 2020, arXiv 1811.11304.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks import checks, losses, norms, settings
from unlir_jax.core import memoize, random_keys
from unlir_jax.types import Images, Labels, PyTree, RandomKey, SplitModel, Variables


class Universal(NamedTuple):
    """Hold one perturbation of many images.

    Attributes:
        perturbation: `[height, width, channels]`, in the ball of the norm.
        images: The images with it, clipped to [0, 1].
    """

    perturbation: jax.Array
    images: jax.Array


Find = Callable[..., Universal]


@memoize.remember
def universal(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 10 / 255,
    epochs: int = 10,
    batch_size: int = 32,
    step_size: float | None = None,
    loss: losses.Name = "cross_entropy",
    most: float = 9.0,
) -> Find:
    """Make `(variables, images, labels, *, targets=None, key=None) -> Universal`.

    Each step raises the mean loss of a batch along the steepest direction of the norm,
    and projects the perturbation onto the ball (Shafahi et al., Algorithm 2). The loss
    of an image counts up to `most`, so that no image dominates.

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Radius: in [0, 1] for `linf`, a distance over all pixels and channels
            for `l2`.
        epochs: Number of times that all images are looked at.
        batch_size: Number of images of a step.
        step_size: Length of each step in the norm; by default a tenth of `epsilon`.
        loss: `cross_entropy`, `margin` or `dlr`.
        most: Loss from which an image has no more gradient.

    Returns:
        A function whose images are shuffled anew in each epoch where it is given a key,
        and in their order otherwise. `apply` adds the perturbation to other images.

    Raises:
        TypeError: When called: no arrays, or arrays of another type.
        ValueError: A setting that makes no sense; or when called: as an attack.

    References:
        Shafahi et al., *Universal Adversarial Training*, AAAI 2020, Section 3.

    Note:
        The result depends on all images together, unlike that of an attack. The cross
        entropy is followed as in `losses.log_odds`.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> images = jnp.full((4, 4, 4, 3), 0.4).at[..., 0].set(0.5)
        >>> labels = jnp.zeros(4, int)
        >>> found = attacks.universal(model, epsilon=0.1)({}, images, labels)
        >>> told = attacks.outcome(model)({}, images, found.images, labels)
        >>> told["success"].tolist()
        [True, True, True, True]
    """
    given = {"norm": norm, "epsilon": epsilon, "steps": epochs, "restarts": batch_size}
    _check(given, most)
    size = epsilon / 10 if step_size is None else step_size
    settings.check_positive("step_size", size)
    step = _step(model, losses.resolve(loss), norm, epsilon, size, most)

    def find(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        targets: Labels | None = None,
        key: RandomKey | None = None,
    ) -> Universal:
        checks.check_call(model, variables, images, labels, targets, key)
        checks.check_reach(epsilon, norm, images)
        _check_known(variables, images, labels, targets, key)
        originals = np.clip(np.asarray(images), 0, 1)
        aim = losses.Aim(np.asarray(labels), targets)
        aim = jax.tree.map(np.asarray, aim)
        change = jnp.zeros(originals.shape[1:], originals.dtype)
        few = min(batch_size, len(originals))
        for epoch in range(epochs):
            order = _order(key, epoch, len(originals))
            for first in range(0, len(order), few):
                # The last batch is filled up from the first images of the epoch.
                rows = np.take(order, np.arange(first, first + few), mode="wrap")
                goal = jax.tree.map(lambda leaf, rows=rows: leaf[rows], aim)
                change = step(variables, change, originals[rows], goal)
        return Universal(change, apply(originals, change))

    return find


def _check(given: dict, most: float) -> None:
    names = {"steps": "epochs", "restarts": "batch_size"}
    try:
        checks.check_settings(given, ("linf", "l2"))
    except ValueError as error:
        text = str(error)
        for name, own in names.items():
            text = text.replace(f"`{name}`", f"`{own}`")
        raise ValueError(text) from error
    settings.check_positive("most", most)


def _check_known(*arrays: PyTree) -> None:
    if split.traced(*arrays):
        raise ValueError(
            "`universal` loops over batches on the host; expected arrays, and no call "
            "inside jax.jit or another transformation."
        )


def _order(key: RandomKey | None, epoch: int, count: int) -> np.ndarray:
    if key is None:
        return np.arange(count)
    random_keys.check(key)
    return np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), count))


def apply(images: Images, perturbation: jax.Array) -> jax.Array:
    """Add a perturbation to images, and clip them to [0, 1]."""
    return jnp.clip(jnp.asarray(images) + perturbation[None], 0, 1)


@memoize.remember
def _step(
    model: SplitModel,
    loss: losses.Loss,
    norm: str,
    epsilon: float,
    size: float,
    most: float,
) -> Callable[..., jax.Array]:
    network = split.whole(model)

    @jax.jit
    def step(variables, change, images, aim):
        def total(change: jax.Array) -> jax.Array:
            logits = network(variables, apply(images, change)).astype(images.dtype)
            return jnp.mean(jnp.minimum(loss(logits, aim), most))

        slope = jax.grad(total)(change)
        slope = jnp.where(jnp.isfinite(slope), slope, 0)
        change = change + size * norms.steepest(slope[None], norm)[0]
        if norm == "linf":
            return jnp.clip(change, -epsilon, epsilon)
        length = norms.length(change[None], norm)[0]
        return change * jnp.minimum(1, epsilon / jnp.maximum(length, 1e-12))

    return step

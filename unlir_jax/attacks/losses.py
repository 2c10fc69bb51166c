"""Losses that an attack raises, `(logits, aim) -> [batch]`, and what success means."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.core import choices
from unlir_jax.split import rows
from unlir_jax.types import Labels, Logits

Name = Literal["cross_entropy", "margin", "dlr"]


class Aim(NamedTuple):
    """Say what an attack is after.

    Attributes:
        labels: Classes of the images, `[batch]`.
        targets: Classes to reach, `[batch]`; None where any wrong class will do.
    """

    labels: Labels
    targets: Labels | None = None


Loss = Callable[[Logits, Aim], jax.Array]
"""`(logits, aim) -> [batch]`, the higher the nearer to success."""
Success = Callable[[Logits, Aim], jax.Array]
"""`(logits, aim) -> [batch]` of bool."""


def succeeded(logits: Logits, aim: Aim) -> jax.Array:
    """Tell for which images an attack has succeeded, `[batch]`.

    The predicted class is the first of the highest logits. It has to be the target
    where there is one, and otherwise any class but the label. Logits that are NaN
    predict nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import losses
        >>> logits = jnp.asarray([[0.0, 1.0, 2.0]])
        >>> losses.succeeded(logits, losses.Aim(jnp.asarray([0]))).tolist()
        [True]
        >>> losses.succeeded(
        ...     logits, losses.Aim(jnp.asarray([0]), jnp.asarray([1]))
        ... ).tolist()
        [False]
    """
    predicted = jnp.argmax(logits, axis=-1)
    numbers = ~jnp.any(jnp.isnan(logits), axis=-1)
    if aim.targets is None:
        return numbers & (predicted != aim.labels)
    return numbers & (predicted == aim.targets)


def erred(logits: Logits, aim: Aim) -> jax.Array:
    """Tell for which images the network errs, whatever the target, `[batch]`."""
    return succeeded(logits, Aim(aim.labels))


def cross_entropy(logits: Logits, aim: Aim) -> jax.Array:
    """Give the cross entropy of the label, or minus that of the target.

    References:
        Goodfellow et al., *Explaining and Harnessing Adversarial Examples*, ICLR 2015.
    """
    if aim.targets is None:
        return -rows.log_softmax(logits, aim.labels)
    return rows.log_softmax(logits, aim.targets)


def log_odds(logits: Logits, aim: Aim) -> jax.Array:
    """Give the logarithm of the odds against the label, or for the target.

    It is `log sum_{j != y} exp z_j - z_y`. The cross entropy is its softplus, so both
    have one order and, up to a positive factor an image, one gradient. The gradient of
    the cross entropy vanishes in rounding where a network is sure; this one does not.
    """
    if aim.targets is None:
        return _rest(logits, aim.labels) - rows.take(logits, aim.labels)
    return rows.take(logits, aim.targets) - _rest(logits, aim.targets)


def margin(logits: Logits, aim: Aim) -> jax.Array:
    """Give the largest other logit minus the label's, or the target's minus that.

    References:
        Carlini & Wagner, *Towards Evaluating the Robustness of Neural Networks*,
        S&P 2017, function f6.
    """
    if aim.targets is None:
        return -rows.margin(logits, aim.labels)
    return rows.margin(logits, aim.targets)


def dlr(logits: Logits, aim: Aim) -> jax.Array:
    """Give the difference of logits ratio, which a scale of the logits leaves alone.

    Untargeted `-(z_y - max_{j != y} z_j) / (z_(1) - z_(3))` (Eq. 6), targeted
    `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)` (Eq. 7), `z_(i)` being the i-th
    largest. Where the denominator is 0, 1e-12 stands for it, as in AutoAttack.

    Raises:
        ValueError: Fewer than 3 classes, or 4 with targets.

    References:
        Croce & Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks*, ICML 2020, Section 4.
    """
    least = 3 if aim.targets is None else 4
    if logits.shape[-1] < least:
        raise ValueError(
            f"`loss`='dlr' of {logits.shape[-1]} classes; expected at least {least} "
            f"{'without' if aim.targets is None else 'with'} targets: 'cross_entropy' "
            "and 'margin' need 2."
        )
    largest = jax.lax.top_k(logits, least)[0]
    own = rows.take(logits, aim.labels)
    if aim.targets is None:
        spread = largest[:, 0] - largest[:, 2]
        return -rows.margin(logits, aim.labels) / (spread + 1e-12)
    spread = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return (rows.take(logits, aim.targets) - own) / (spread + 1e-12)


NAMED: Mapping[str, Loss] = MappingProxyType(
    {"cross_entropy": log_odds, "margin": margin, "dlr": dlr}
)
"""Losses by name; of the cross entropy only order and direction count."""


def resolve(loss: Name) -> Loss:
    """Give the loss of a name.

    Raises:
        ValueError: There is none.
    """
    choices.check("loss", loss, Name)
    return NAMED[loss]


def _rest(logits: Logits, labels: Labels) -> jax.Array:
    """Give the log-sum-exp of the logits of all other classes."""
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)

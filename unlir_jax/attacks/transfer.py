"""Transfer: images that deceive one network, judged by another."""

from collections.abc import Callable

import jax

from unlir_jax.attacks.outcome import outcome
from unlir_jax.attacks.spec import Attack
from unlir_jax.core import memoize
from unlir_jax.types import Images, Labels, RandomKey, SplitModel, Variables

Transfer = Callable[..., dict[str, jax.Array]]


@memoize.remember
def transfer(source: SplitModel, target: SplitModel, attack: Attack) -> Transfer:
    """Make a function that attacks one network, and judges the images by another.

    Args:
        source: The network that is attacked.
        target: The network that is to be deceived.
        attack: An attack of `source`.

    Returns:
        `(source_variables, target_variables, images, labels, *, targets=None, key=None)
        -> measures`, `[batch]` each: what `outcome` says of the target, and
        `source_success`.

    Raises:
        ValueError: The attack is of another network than `source`.

    References:
        Papernot, McDaniel & Goodfellow, *Transferability in Machine Learning: from
        Phenomena to Black-Box Attacks using Adversarial Samples*, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(
        ...     lambda w, x: x, lambda w, x: w * x.mean((1, 2))
        ... )
        >>> image = jnp.full((1, 4, 4, 3), 0.4).at[..., 0].set(0.5)
        >>> judged = attacks.transfer(model, model, attacks.fgsm(model, epsilon=0.1))
        >>> found = judged(jnp.ones((1, 3)), -jnp.ones((1, 3)), image, jnp.asarray([0]))
        >>> bool(found["source_success"][0]), bool(found["success"][0])
        (True, False)
    """
    if attack.model is not source:
        raise ValueError(
            f"`attack`={attack.name!r} is of another network than `source`; expected "
            f"attacks.{attack.name}(source)."
        )

    def judge(
        source_variables: Variables,
        target_variables: Variables,
        images: Images,
        labels: Labels,
        *,
        targets: Labels | None = None,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        given = images, labels
        found = attack(source_variables, *given, targets=targets, key=key)
        own = outcome(source)(source_variables, images, found, labels, targets=targets)
        told = outcome(target)(target_variables, images, found, labels, targets=targets)
        return told | {"source_success": own["success"]}

    return judge

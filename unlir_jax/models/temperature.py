"""Networks whose logits are divided by a temperature, which calibrates them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from unlir_jax.core import memoize
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.types import Features, Images, SplitModel, Variables

NAME = "temperature"
"""Collection of the variables that holds it, so that all share one program."""


def divided(network: Pretrained, temperature: float) -> Pretrained:
    """Divide the logits of a network by a temperature.

    No prediction changes. Probabilities do, and all that is explained or measured by
    them.

    Args:
        network: The network, with variables in a dictionary, as Linen has them.
        temperature: Divisor of the logits, above 0; 1 leaves the network as it is.

    Raises:
        ValueError: No temperature, or variables of another kind.

    References:
        Guo, Pleiss, Sun & Weinberger, *On Calibration of Modern Neural Networks*, ICML
        2017, Section 4.2.

    Example:
        >>> import numpy as np
        >>> import unlir_jax
        >>> from unlir_jax.models import temperature
        >>> network = unlir_jax.load("cifar_resnet8", "random", num_classes=2)
        >>> halved = temperature.divided(network, 2.0)
        >>> images = np.full((1, 32, 32, 3), 0.5, np.float32)
        >>> def logits(of):
        ...     maps = of.model.features(of.variables, images)
        ...     return of.model.head(of.variables, maps)
        >>> bool(np.allclose(2 * logits(halved), logits(network)))
        True
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"`temperature`={temperature}; expected a finite number above 0."
        )
    if temperature == 1:
        return network
    if not isinstance(network.variables, Mapping) or NAME in network.variables:
        raise ValueError(
            f"`temperature`={temperature} divides logits of networks whose variables "
            f"are a dictionary without {NAME!r}; expected such a network, or 1."
        )
    added = {NAME: {"logits": jnp.float32(temperature)}}
    return network._replace(
        model=_divided(network.model), variables={**network.variables, **added}
    )


def restored(variables: Variables, like: Variables) -> Variables:
    """Give variables the temperature of others, if these have one."""
    if isinstance(like, Mapping) and NAME in like:
        return {**variables, NAME: like[NAME]}
    return variables


@memoize.remember
def _divided(model: SplitModel) -> SplitModel:
    def head(variables: Variables, features: Features) -> jax.Array:
        logits = jnp.asarray(model.head(_own(variables), features))
        return logits / _temperature(variables)

    def features(variables: Variables, images: Images) -> Features:
        return model.features(_own(variables), images)

    def run(variables: Variables, images: Images) -> jax.Array:
        if model.run is None:
            raise TypeError("This network has no run; expected one that has.")
        logits = jnp.asarray(model.run(_own(variables), images))
        return logits / _temperature(variables)

    whole = None if model.run is None else run
    return model._replace(features=features, head=head, run=whole)


def _temperature(variables: Variables) -> jax.Array:
    return variables[NAME]["logits"]


def _own(variables: Variables) -> Variables:
    return {name: each for name, each in variables.items() if name != NAME}

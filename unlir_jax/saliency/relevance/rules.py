"""Rules of relevance propagation, as functions with the derivatives that they want.

What goes back is relevance divided by activation. So the ways around layers, sums,
pooling and ReLU need no rule: their plain derivative is one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.split.linear import Linear

STABLE = 1e-6


class Part(NamedTuple):
    """Describe a part of what a layer passes back.

    Attributes:
        values: Function values whose derivative passes relevance on.
        total: Values that relevance is divided by.
        share: Share of the layer's relevance that the part takes.
    """

    values: jax.Array
    total: jax.Array
    share: jax.Array | float = 1.0


class Rule(NamedTuple):
    """Hold a rule.

    Attributes:
        name: Name, with its settings.
        parts: `(layer, scale) -> parts`. `scale` multiplies the inputs; it is 1, and
            the derivative by it is the relevance of the inputs.
        stabilizer: Number that is added to what relevance is divided by, with its sign.
    """

    name: str
    parts: Callable[[Linear, jax.Array | float], Sequence[Part]]
    stabilizer: float = STABLE


def follow(rule: Rule, layer: Linear, scale: jax.Array | float = 1.0) -> jax.Array:
    """Give the output of a layer, whose derivative is that of a rule."""
    stop = jax.lax.stop_gradient
    output = stop(layer.output)
    found = output
    for part in rule.parts(layer, scale):
        total = part.total + jnp.where(part.total >= 0, 1, -1) * rule.stabilizer
        # Where nothing contributes, nothing is passed on.
        factor = stop(jnp.where(part.total == 0, 0, part.share * output / total))
        found = found + (part.values - stop(part.values)) * factor
    return found


def _apply(
    layer: Linear,
    inputs: jax.Array,
    change: Callable[[jax.Array], jax.Array] = lambda values: values,
    bias: bool = True,
) -> jax.Array:
    """Apply a layer with a changed kernel and bias."""
    found = layer.apply(change(layer.kernel), inputs)
    if not bias:
        return found
    shape = (1,) * (found.ndim - layer.bias.ndim) + layer.bias.shape
    return found + change(layer.bias).reshape(shape)


def _ones(values: jax.Array) -> jax.Array:
    # Where XLA on CPUs knew that the kernel is constant, VGG-11 gave NaN or 1e240.
    return jax.lax.optimization_barrier(jnp.ones_like(values))


def _positive(values: jax.Array) -> jax.Array:
    return jnp.maximum(values, 0)


def _negative(values: jax.Array) -> jax.Array:
    return jnp.minimum(values, 0)


@jax.custom_jvp
def _present(inputs: jax.Array) -> jax.Array:
    """Give inputs as they are; zeros pass nothing on."""
    return inputs


@_present.defjvp
def _present_derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (inputs,), (slope,) = primals, tangents
    return inputs, slope * (inputs != 0).astype(slope.dtype)


def _split(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Part inputs into positive and negative ones; zeros pass nothing on."""
    zero = jnp.zeros_like(inputs)
    return jnp.where(inputs > 0, inputs, zero), jnp.where(inputs < 0, inputs, zero)


def epsilon(value: float = STABLE, *, bias: bool = True) -> Rule:
    """Divide relevance by contributions: Bach et al., PLOS ONE 2015, Eq. 58.

    Args:
        value: Number that is added to the sum of contributions, with its sign.
        bias: Whether biases take relevance, which is then lost.
    """

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        values = _apply(layer, layer.inputs * scale, bias=bias)
        return (Part(values, values),)

    return Rule(f"epsilon({value:g})", parts, value)


def gamma(
    value: float = 0.25, *, stabilizer: float = STABLE, bias: bool = True
) -> Rule:
    """Favour contributions of the output's sign: Montavon et al., 2019.

    Inputs may be negative (Andéol et al., 2021).

    Args:
        value: Number by which contributions of that sign count more.
        stabilizer: See `Rule`.
        bias: Whether biases take relevance, which is then lost.
    """

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        inputs = _present(layer.inputs * scale)
        # What has one sign is half of the sum plus or minus that of magnitudes: two
        # products instead of four, and nothing cancels on the output's own side.
        plain = _apply(layer, inputs, bias=bias) * (1 + value / 2)
        size = _apply(layer, jnp.abs(inputs), jnp.abs, bias) * (value / 2)
        above, below = plain + size, plain - size
        share = layer.output.dtype.type
        return (
            Part(above, above, (layer.output > 0).astype(share)),
            Part(below, below, (layer.output < 0).astype(share)),
        )

    return Rule(f"gamma({value:g})", parts, stabilizer)


def alpha_beta(
    alpha: float = 2.0,
    beta: float = 1.0,
    *,
    stabilizer: float = STABLE,
    bias: bool = True,
) -> Rule:
    """Weigh positive contributions by alpha, negative ones by beta: Bach et al., 2015.

    Args:
        alpha: Weight of positive contributions.
        beta: Weight of negative ones, `alpha - 1`.
        stabilizer: See `Rule`.
        bias: Whether biases take relevance, which is then lost.

    Raises:
        ValueError: Weights that are negative, or do not differ by 1.
    """
    if beta < 0 or abs(alpha - beta - 1) > 1e-9:
        raise ValueError(
            f"`alpha`={alpha} and `beta`={beta}; expected beta of at least 0 and alpha "
            "= beta + 1, such as (2, 1) or (1, 0)."
        )

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        high, low = _split(layer.inputs * scale)
        above = _apply(layer, high, _positive, bias) + _apply(
            layer, low, _negative, False
        )
        found = [Part(above, above, alpha)]
        if beta:
            below = _apply(layer, high, _negative, bias) + _apply(
                layer, low, _positive, False
            )
            found.append(Part(below, below, -beta))
        return found

    return Rule(f"alpha_beta({alpha:g}, {beta:g})", parts, stabilizer)


def z_plus(*, stabilizer: float = STABLE, bias: bool = True) -> Rule:
    """Pass relevance along positive contributions: `alpha_beta(1, 0)`."""
    rule = alpha_beta(1.0, 0.0, stabilizer=stabilizer, bias=bias)
    return rule._replace(name="z_plus")


def z_box(
    low: Sequence[float], high: Sequence[float], *, stabilizer: float = STABLE
) -> Rule:
    """Treat inputs that lie in a box, such as pixels: Montavon et al., 2017.

    Args:
        low: Lowest value of each channel, as the first layer sees it.
        high: Highest value.
        stabilizer: See `Rule`.
    """

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        shape, dtype = layer.inputs.shape, layer.inputs.dtype
        ends = (jnp.asarray(end, dtype).reshape((1, 1, 1, -1)) for end in (low, high))
        least, most = (jnp.broadcast_to(end, shape) * scale for end in ends)
        values = _apply(layer, layer.inputs * scale) - _apply(layer, least, _positive)
        values = values - _apply(layer, most, _negative)
        return (Part(values, values),)

    return Rule("z_box", parts, stabilizer)


def flat(*, stabilizer: float = STABLE) -> Rule:
    """Pass relevance to all inputs alike: Lapuschkin et al., 2019."""

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        inputs = jnp.ones_like(layer.inputs) * scale
        values = _apply(layer, inputs, _ones, False)
        return (Part(values, values),)

    return Rule("flat", parts, stabilizer)


def w_square(*, stabilizer: float = STABLE) -> Rule:
    """Pass relevance along squared weights: Montavon et al., 2017."""

    def parts(layer: Linear, scale: jax.Array | float) -> Sequence[Part]:
        inputs = jnp.ones_like(layer.inputs) * scale
        values = _apply(layer, inputs, jnp.square, True)
        return (Part(values, values),)

    return Rule("w_square", parts, stabilizer)

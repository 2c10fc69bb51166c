"""GELU, SiLU and their kin in a traced function, however they are written.

Such a rectifier is a product of scalar functions of one array, with a sigmoid in it. It
is near 0 for very negative values, and near the value itself for very positive ones.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core

from unlir_jax.core.equations import bind

Constant = Callable[[Any], float | None]
"""`variable -> number` that it is everywhere, or None."""
SIGMOIDS: dict[str, Callable[..., float]] = {
    "tanh": math.tanh,
    "erf": math.erf,
    "erfc": math.erfc,
    "logistic": lambda value: 1 / (1 + math.exp(-value)),
}
SCALAR: dict[str, Callable[..., float]] = {
    **SIGMOIDS,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": lambda value: -value,
    "square": lambda value: value * value,
    "integer_pow": lambda value, y: value**y,
    **dict.fromkeys(("convert_element_type", "copy", "broadcast_in_dim"), float),
}
FAR, NEAR = 20.0, 0.01
"""How far from 0 a rectifier is tried, and how near it has to be to 0 or the value."""
DEEP, LONG = 8, 16
"""How many equations a rectifier may have one behind the other, and in all."""


class Smooth(NamedTuple):
    """Hold a rectifier: the variable that it takes, and the function."""

    variable: Any
    function: Callable[[Any], Any]


def find(equation: Any, makers: Mapping[Any, Any], constant: Constant) -> Smooth | None:
    """Tell whether an equation is the end of a smooth rectifier.

    Args:
        equation: An equation of a traced function.
        makers: The equation that makes each variable before it.
        constant: Gives the number that a variable is everywhere, or None.
    """
    if equation.primitive.name != "mul":
        return None
    output = equation.outvars[0].aval
    if not output.ndim or not jnp.issubdtype(output.dtype, jnp.floating):
        return None
    for variable in _origins(equation, makers, constant):
        steps = _steps(equation, variable, makers, constant)
        if steps and any(step.primitive.name in SIGMOIDS for step in steps):
            rectifies = _rectifies(variable, steps, constant)
            function = _function(variable, steps, constant)
            return Smooth(variable, function) if rectifies else None
    return None


def _origins(
    equation: Any, makers: Mapping[Any, Any], constant: Constant
) -> Iterator[Any]:
    """List what may be the argument, the nearest first."""
    level = [equation]
    for _ in range(DEEP):
        inputs = [v for step in level for v in step.invars if constant(v) is None]
        inputs = list(dict.fromkeys(inputs))
        yield from inputs
        level = [makers[v] for v in inputs if v in makers and _is_scalar(makers[v])]


def _is_scalar(equation: Any) -> bool:
    return equation.primitive.name in SCALAR


def _steps(
    equation: Any, origin: Any, makers: Mapping[Any, Any], constant: Constant
) -> list[Any]:
    """List the equations from an argument on, in order; none if they take more."""
    steps: list[Any] = []

    def follow(step: Any) -> bool:
        if any(step is known for known in steps):
            return True
        if len(steps) >= LONG or not _is_scalar(step):
            return False
        for variable in step.invars:
            if constant(variable) is not None or variable is origin:
                continue
            if variable not in makers or not follow(makers[variable]):
                return False
        steps.append(step)
        return True

    return steps if follow(equation) else []


def _rectifies(origin: Any, steps: list[Any], constant: Constant) -> bool:
    """Try a function far below and far above 0, on numbers."""

    def call(value: float) -> float:
        known = {origin: value}
        for step in steps:
            inputs = [
                known[v] if (number := constant(v)) is None else number
                for v in step.invars
            ]
            power = {k: v for k, v in step.params.items() if k == "y"}
            known[step.outvars[0]] = SCALAR[step.primitive.name](*inputs, **power)
        return known[steps[-1].outvars[0]]

    return abs(call(-FAR)) < NEAR and abs(call(FAR) - FAR) < NEAR


def _function(
    origin: Any, steps: list[Any], constant: Constant
) -> Callable[[Any], Any]:
    def call(values: Any) -> Any:
        known = {origin: values}

        def read(variable: Any) -> Any:
            if isinstance(variable, core.Literal):
                return variable.val
            if variable in known:
                return known[variable]
            number = constant(variable) or 0.0
            return jnp.full(variable.aval.shape, number, variable.aval.dtype)

        for step in steps:
            (known[step.outvars[0]],) = bind(step, [read(v) for v in step.invars])
        return known[steps[-1].outvars[0]]

    return call

"""Equations of a traced function: one alone, or all of them in other ways."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

Read = Callable[[Any], Any]
"""Give the value of a variable."""
Apply = Callable[[Any, Sequence[Any], Read], Sequence[Any]]
"""`(equation, inputs, read) -> outputs`."""


def bind(equation: Any, inputs: Sequence[Any]) -> list[Any]:
    """Compute one equation as it is.

    Args:
        equation: Equation of a jaxpr.
        inputs: Values of its inputs.

    Returns:
        Values of its outputs.
    """
    bound = equation.primitive.get_bind_params(equation.params)
    # Older versions of JAX give the functions apart.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = equation.primitive.bind(*functions, *inputs, **params)
    return outputs if equation.primitive.multiple_results else [outputs]


def evaluate(
    jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], apply: Apply
) -> list[Any]:
    """Compute a sequence of equations, each by a function.

    Args:
        jaxpr: The sequence.
        consts: Arrays that it closes over.
        arguments: Its inputs: arrays, or whatever the function takes in their place.
        apply: Computes an equation. Literals reach it as they are.

    Returns:
        What the sequence gives.
    """
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        literal = isinstance(variable, core.Literal)
        return variable.val if literal else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        outputs = apply(equation, inputs, read)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]

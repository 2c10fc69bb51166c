"""Single equations of a traced function, computed as they are."""

from collections.abc import Sequence
from typing import Any


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

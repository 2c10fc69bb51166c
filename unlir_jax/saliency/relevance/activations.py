"""Activations of a traced function, each as a constant multiple of its inputs.

That is the rule of relevance that passes it on unchanged. Of GELU and SiLU as they are
written out, `x g(x)`, the gate `g` is constant, which is the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from unlir_jax.core.equations import bind
from unlir_jax.saliency import rectifiers
from unlir_jax.split.linear import identity

NAMES = (
    *("relu6", "gelu", "silu", "swish", "hard_swish", "hard_silu", "elu", "celu"),
    *("selu", "leaky_relu", "softplus", "mish", "hard_tanh", "soft_sign", "squareplus"),
)
"""Functions of `jax.nn`, which are traced under their names."""


def passed(function: Callable[..., Any], *example: Any) -> Callable[..., Any]:
    """Trace a function, and replace its activations.

    Args:
        function: Gives an array, or a tree of them.
        *example: Arguments of the shapes and types that it will be called with.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*example)
    structure = jax.tree.structure(shapes)

    def called(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        found = _evaluate(closed.jaxpr, closed.consts, leaves)
        return jax.tree.unflatten(structure, found)

    return called


def _evaluate(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    scope = rectifiers.Scope(jaxpr, [None] * len(jaxpr.invars))
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        literal = isinstance(variable, core.Literal)
        return variable.val if literal else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        values.update(
            zip(equation.outvars, _apply(equation, inputs, scope), strict=True)
        )
    return [read(variable) for variable in jaxpr.outvars]


BENT = ("tanh", "logistic", "erf", "erfc")
"""Operations that are activations, or gates within one, as in `x * logistic(x)`."""
LINEAR = ("add", "sub", "mul", "div", "neg", "convert_element_type")


def _apply(equation: Any, inputs: list[Any], scope: rectifiers.Scope) -> list[Any]:
    name = equation.primitive.name
    if name in BENT:
        (output,) = bind(equation, inputs)
        if _is_gate(equation.outvars[0], scope):
            return [jax.lax.stop_gradient(output)]
        return [identity(inputs[0], output)]
    if name == "clamp":
        interval = scope.interval(equation)
        found = bind(equation, inputs)
        if interval is None:
            return found
        return [identity(inputs[interval.operand], each) for each in found]
    if name in rectifiers.DERIVED:
        body, _ = rectifiers.open_body(equation)
        found = bind(equation, inputs)
        if not rectifiers.is_rectifier(body, scope.constants(equation)):
            return found
        return [identity(inputs[0], each) for each in found]
    if name not in rectifiers.WRAPPERS:
        return bind(equation, inputs)
    if equation.params.get("name") in NAMES and len(equation.outvars) == 1:
        (output,) = bind(equation, inputs)
        return [identity(inputs[0], output)]
    body, consts = rectifiers.open_body(equation)
    return _evaluate(body, consts, inputs)


def _is_gate(variable: Any, scope: rectifiers.Scope) -> bool:
    """Tell whether a value, but for constants, becomes a factor of another value."""
    for equation in scope.users.get(variable, ()):
        others = [v for v in equation.invars if v is not variable]
        constant = all(scope.constant(other) is not None for other in others)
        if equation.primitive.name == "mul" and not constant:
            return True
        if equation.primitive.name in LINEAR and constant:
            if _is_gate(equation.outvars[0], scope):
                return True
    return False

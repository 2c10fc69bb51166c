"""Operations of a traced function, with derivatives that are not their own.

Each activation becomes a constant multiple of its inputs. That is the rule of relevance
that passes it on unchanged. Of GELU and SiLU as they are written out, `x g(x)`, the
gate `g` is constant, which is the same. What becomes of softmax, products, sums and
divisors is said by `Rules`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from unlir_jax.core.equations import bind, evaluate
from unlir_jax.saliency import rectifiers
from unlir_jax.split.linear import identity

NAMES = (
    *("relu6", "gelu", "silu", "swish", "hard_swish", "hard_silu", "elu", "celu"),
    *("selu", "leaky_relu", "softplus", "mish", "hard_tanh", "soft_sign", "squareplus"),
)
"""Functions of `jax.nn`, which are traced under their names."""
BENT = ("tanh", "logistic", "erf", "erfc")
"""Operations that are activations, or gates within one, as in `x * logistic(x)`."""
LINEAR = ("add", "sub", "mul", "div", "neg", "convert_element_type")
LOOPS = ("scan", "while", "cond")
_UNTOUCHED = "untouched"


class Rules(NamedTuple):
    """Say what becomes of operations on values that depend on the arguments.

    Attributes:
        softmax: Its `own` derivative, none at all as it is `constant`, or the relevance
            of the weights `passed` on to the scores.
        products: Whether each factor of a product has half of its derivative.
        sums: Whether the terms of a sum share its relevance, image by image, by the
            magnitudes of what each term has in all.
        divisors: Whether divisors and reciprocal roots, as norms have, are constant.
    """

    softmax: Literal["own", "constant", "passed"] = "own"
    products: bool = False
    sums: bool = False
    divisors: bool = False


OWN = Rules()


class _Traced(NamedTuple):
    """Hold a value, and whether it depends on the arguments."""

    value: Any
    moves: bool = False


def replaced(
    function: Callable[..., Any], *example: Any, rules: Rules = OWN
) -> Callable[..., Any]:
    """Trace a function, and replace the derivatives of its operations.

    Args:
        function: Gives an array, or a tree of them. What it closes over is constant.
        *example: Arguments of the shapes and types that it will be called with.
        rules: What is replaced besides activations.

    Raises:
        ValueError: When called: with rules, the function has a loop or branch; or none
            of its results depends on the arguments.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*example)
    structure = jax.tree.structure(shapes)

    def called(*arguments: Any) -> Any:
        leaves = [_Traced(leaf, True) for leaf in jax.tree.leaves(arguments)]
        found = _evaluate(closed.jaxpr, closed.consts, leaves, rules)
        if rules.softmax == "constant" and not any(each.moves for each in found):
            raise ValueError(
                "The network gives weights of a softmax, which are constant here; "
                "expected one that gives logits."
            )
        return jax.tree.unflatten(structure, [each.value for each in found])

    return called


def untouched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function whose operations keep their derivatives in what calls it."""

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    called.__name__ = _UNTOUCHED
    return jax.jit(called)


def _evaluate(
    jaxpr: Any, consts: Sequence[Any], arguments: Sequence[_Traced], rules: Rules
) -> list[_Traced]:
    scope = rectifiers.Scope(jaxpr, [None] * len(jaxpr.invars))

    def apply(equation: Any, inputs: Sequence[Any], read: Any) -> list[_Traced]:
        known = [*map(_traced, inputs)]
        if not any(each.moves for each in known):
            return [_Traced(v) for v in bind(equation, [each.value for each in known])]
        name = equation.primitive.name
        if name in rectifiers.WRAPPERS and not _is_whole(equation):
            body, consts = rectifiers.open_body(equation)
            return _evaluate(body, consts, known, rules)
        if name in LOOPS and rules != OWN:
            raise ValueError(
                f"The network has a `{name}`, in which no derivative can be replaced; "
                "expected layers that are written out, not looped over."
            )
        changed = _ruled(equation, known, scope, rules, read)
        return _activated(equation, known, scope) if changed is None else changed

    return [*map(_traced, evaluate(jaxpr, consts, arguments, apply))]


def _traced(value: Any) -> _Traced:
    return value if isinstance(value, _Traced) else _Traced(value)


def _is_whole(equation: Any) -> bool:
    """Tell whether a wrapper is an activation, or is to stay as it is."""
    return equation.params.get("name") in (*NAMES, _UNTOUCHED)


def _moving(values: Sequence[Any]) -> list[_Traced]:
    return [_Traced(v, jnp.issubdtype(v.dtype, jnp.inexact)) for v in values]


def _activated(
    equation: Any, known: Sequence[_Traced], scope: rectifiers.Scope
) -> list[_Traced]:
    """Compute an equation, as a constant multiple if it is an activation."""
    name, inputs = equation.primitive.name, [each.value for each in known]
    found = bind(equation, inputs)
    if name == "stop_gradient":
        return [_Traced(each) for each in found]
    if name in BENT:
        if _is_gate(equation.outvars[0], scope):
            return [_Traced(jax.lax.stop_gradient(found[0]))]
        return _moving([identity(inputs[0], found[0])])
    operand = None
    if name == "clamp":
        interval = scope.interval(equation)
        operand = None if interval is None else interval.operand
    elif name in rectifiers.DERIVED:
        body, _ = rectifiers.open_body(equation)
        pure = rectifiers.is_rectifier(body, scope.constants(equation))
        operand = 0 if pure else None
    elif equation.params.get("name") in NAMES and len(found) == 1:
        operand = 0
    if operand is None:
        return _moving(found)
    return _moving([identity(inputs[operand], each) for each in found])


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


def _ruled(
    equation: Any,
    known: Sequence[_Traced],
    scope: rectifiers.Scope,
    rules: Rules,
    read: Callable[[Any], Any],
) -> list[_Traced] | None:
    """Compute an equation by a rule; None where there is none for it."""
    name, inputs = equation.primitive.name, [each.value for each in known]
    both = len(known) == 2 and all(each.moves for each in known)
    stop = jax.lax.stop_gradient
    scores = softmax_of(equation, scope) if name == "div" else None
    if scores is not None and rules.softmax != "own":
        (weights,) = bind(equation, inputs)
        if rules.softmax == "constant":
            return [_Traced(stop(weights))]
        return _moving([identity(_traced(read(scores)).value, weights)])
    if name == "div" and rules.divisors and scores is None and known[1].moves:
        found = bind(equation, [inputs[0], stop(inputs[1])])
        return _moving(found) if known[0].moves else [_Traced(each) for each in found]
    if name == "rsqrt" and rules.divisors:
        return [_Traced(stop(bind(equation, inputs)[0]))]
    if name in ("mul", "dot_general") and rules.products and both:
        return _moving(bind(equation, [_halved(each) for each in inputs]))
    if name in ("square", "integer_pow") and rules.products:
        return _moving([identity(inputs[0], bind(equation, inputs)[0])])
    if name in ("add", "add_any") and rules.sums and both and inputs[0].ndim:
        return _moving([_sum(*inputs)])
    return None


def softmax_of(equation: Any, scope: rectifiers.Scope) -> Any:
    """Give the variable of the scores whose softmax a division gives, or None."""

    def made(variable: Any, names: Sequence[str]) -> Any:
        literal = isinstance(variable, core.Literal)
        maker = None if literal else scope.makers.get(variable)
        while maker is not None and maker.primitive.name in rectifiers.SHAPING:
            maker = scope.makers.get(maker.invars[0])
        return maker if maker is not None and maker.primitive.name in names else None

    above, below = equation.invars
    exponential, total = made(above, ("exp",)), made(below, ("reduce_sum",))
    if exponential is None or total is None:
        return None
    if made(total.invars[0], ("exp",)) is not exponential:
        return None
    shifted = made(exponential.invars[0], ("sub",))
    if shifted is not None and made(shifted.invars[1], ("stop_gradient",)) is not None:
        return shifted.invars[0]
    return exponential.invars[0]


def _halved(values: jax.Array) -> jax.Array:
    half = values * jnp.asarray(0.5, values.dtype)
    return half + jax.lax.stop_gradient(half)


@jax.custom_vjp
def _sum(first: jax.Array, second: jax.Array) -> jax.Array:
    """Add, and share the relevance of each image among the terms.

    A term has all of its relevance in proportion to `|R|`, where `R` is what it would
    have by its contributions: Chefer et al., CVPR 2021, Eq. 8 and 9.
    """
    return first + second


def _sum_forward(first: jax.Array, second: jax.Array) -> tuple[jax.Array, Any]:
    return first + second, (first, second)


def _sum_backward(kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes = tuple(range(1, gradient.ndim))
    own = [jnp.sum(term * gradient, axis=axes, keepdims=True) for term in kept]
    size = jnp.abs(own[0]) + jnp.abs(own[1])
    share = (own[0] + own[1]) / jnp.where(size == 0, 1, size)
    return gradient * jnp.sign(own[0]) * share, gradient * jnp.sign(own[1]) * share


_sum.defvjp(_sum_forward, _sum_backward)

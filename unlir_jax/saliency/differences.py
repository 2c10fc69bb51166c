"""Derivatives of a traced function that are ratios of differences to a reference.

A function is computed for its input and for a reference. What is linear keeps its
derivative. Of a function of one value, entry by entry, the derivative is
`(f(x) - f(r)) / (x - r)`: the rule rescale. What is written out, as `x * sigmoid(x)`,
is one such function. Of a product `a b` the derivative by `a` is the mean of `b` for
the input and the reference, and a maximum is rescaled where it comes from. So
`f(x) - f(r)` is the sum over all entries of `(x - r)` times the derivative.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.core.equations import bind, evaluate
from unlir_jax.saliency import derivatives, rectifiers

SMALL = 1e-7
"""Differences below which a derivative is the plain one, as in the authors' code."""
LINEAR = (
    *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice"),
    *("dynamic_slice", "concatenate", "stack", "pad", "rev", "gather", "cumsum"),
    *("reduce_sum", "reduce_window_sum", "reduce_precision", "split"),
    *("add", "add_any", "sub", "neg", "convert_element_type", "copy", "copy_p"),
    *("stop_gradient", "sharding_constraint", "real", "scatter-add"),
    "optimization_barrier",
)
EACH = (
    *("add", "add_any", "sub", "neg", "convert_element_type", "copy", "copy_p"),
    *("gt", "ge", "lt", "le", "eq", "ne"),
)
"""Operations that work entry by entry, of which comparisons have no derivative."""
SCALED = ("mul", "div")
CURVED = (
    *("tanh", "logistic", "erf", "erfc", "exp", "exp2", "expm1", "log", "log1p"),
    *("rsqrt", "sqrt", "cbrt", "abs", "sign", "square", "integer_pow", "sin", "cos"),
)
PRODUCTS = ("mul", "dot_general", "conv_general_dilated")
LARGEST = ("reduce_max", "reduce_window_max")


class Pair(NamedTuple):
    """Hold a value for the input, and what it is for the reference.

    Attributes:
        value: Value for the input, whose derivative is made of differences.
        reference: Value for the reference; the same array where it cannot differ.
        moves: Whether it has a derivative.
        root: Pair of which it is a function, entry by entry; None for itself.
        slope: Plain derivative by the root.
    """

    value: Any
    reference: Any
    moves: bool = False
    root: Any = None
    slope: Any = 1.0


def of_pair(
    function: Callable[[jax.Array], jax.Array], example: jax.Array
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Trace a function, and make one of an input and a reference.

    Args:
        function: Gives an array.
        example: Argument of the shape and type that it will be called with.

    Returns:
        `(input, reference) -> function(input)`, whose derivative by the input is made
        of differences.

    Raises:
        ValueError: When called: an operation has no rule, such as sorting and loops.
    """
    closed = jax.make_jaxpr(function)(example)

    def called(inputs: jax.Array, reference: jax.Array) -> jax.Array:
        given = Pair(inputs, jax.lax.stop_gradient(reference), True)
        (found,) = _evaluate(closed.jaxpr, closed.consts, [given])
        return found.value

    return called


def _evaluate(
    jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Pair]
) -> list[Pair]:
    scope = rectifiers.Scope(jaxpr, [None] * len(jaxpr.invars))

    def apply(equation: Any, inputs: Sequence[Any], read: Any) -> list[Pair]:
        known = [_pair(each) for each in inputs]
        name = equation.primitive.name
        if all(each.value is each.reference for each in known):
            found = bind(equation, [each.value for each in known])
            return [Pair(each, each) for each in found]
        if name in (*rectifiers.WRAPPERS, *rectifiers.DERIVED):
            body, consts = rectifiers.open_body(equation)
            return _evaluate(body, consts, known)
        scores = derivatives.softmax_of(equation, scope) if name == "div" else None
        if scores is not None:
            axes = _axes(equation, scope)
            return [_softmax(_pair(read(scores)), axes)]
        return _compute(equation, known)

    return [_pair(each) for each in evaluate(jaxpr, consts, arguments, apply)]


def _pair(value: Any) -> Pair:
    return value if isinstance(value, Pair) else Pair(value, value)


def _compute(equation: Any, known: Sequence[Pair]) -> list[Pair]:
    name = equation.primitive.name
    constant = [each.value is each.reference for each in known]
    curved = any(each.moves for each in known) and any(
        jnp.issubdtype(variable.aval.dtype, jnp.inexact)
        for variable in equation.outvars
    )
    linear = name in LINEAR or (name in PRODUCTS and any(constant))
    if not curved or linear or (name == "div" and constant[1]):
        return _linear(equation, known, name in (*EACH, *SCALED), name in SCALED)
    if name == "div":
        return [_product(None, known[0], _curved(jnp.reciprocal, known[1]))]
    if name in PRODUCTS:
        return [_product(None if name == "mul" else equation, *known)]
    if name in LARGEST:
        return [_largest(equation, *known)]
    if name == "select_n":
        return [_selected(equation, *known)]
    if name in ("max", "min") and not any(constant):
        return [_larger(equation, *known)]
    if name in (*CURVED, "pow", "clamp", "max", "min") and constant.count(False) == 1:
        place = constant.index(False)

        def function(values: jax.Array) -> jax.Array:
            filled = [each.value for each in known]
            filled[place] = values
            return bind(equation, filled)[0]

        return [_curved(function, known[place])]
    raise ValueError(
        f"The network has a `{name}`, for which DeepLIFT has no rule; expected layers "
        "that are written out, or another explainer, such as integrated_gradients."
    )


def _linear(
    equation: Any, known: Sequence[Pair], entries: bool, scales: bool
) -> list[Pair]:
    """Compute what keeps its derivative, or has none.

    Args:
        equation: The equation.
        known: Its inputs.
        entries: Whether it works entry by entry.
        scales: Whether constants are factors of it, and not terms.
    """
    values = [each.value for each in known]
    if equation.primitive.name == "stop_gradient":
        found = values  # The difference that it makes counts all the same.
    else:
        found = bind(equation, values)
    others = bind(equation, [each.reference for each in known])
    moves = any(each.moves for each in known)
    pairs = [
        Pair(v, r, moves and jnp.issubdtype(v.dtype, jnp.inexact))
        for v, r in zip(found, others, strict=True)
    ]
    if not entries:
        return pairs
    slopes = [_slope(each, scales) for each in known]
    return [_rooted(pairs[0], known, lambda: bind(equation, slopes)[0])]


def _slope(pair: Pair, scales: bool) -> Any:
    """Give the slope of a value by its root; of a constant, itself if it scales."""
    value = jax.lax.stop_gradient(pair.value)
    if pair.value is pair.reference:
        return value if scales else jnp.zeros_like(value)
    return jnp.broadcast_to(jnp.asarray(pair.slope, value.dtype), value.shape)


def _root(pair: Pair) -> Pair:
    return pair if pair.root is None else pair.root


def _rooted(pair: Pair, known: Sequence[Pair], slope: Callable[[], jax.Array]) -> Pair:
    """Say of which value a pair is a function, if it is one of a single value."""
    roots = [_root(each) for each in known if each.value is not each.reference]
    single = all(root is roots[0] for root in roots)
    if not single or jnp.shape(roots[0].value) != jnp.shape(pair.value):
        return pair
    return pair._replace(root=roots[0], slope=slope() if pair.moves else 0.0)


def _rescaled(root: Pair, value: Any, reference: Any, slope: Any) -> Pair:
    """Give a value whose derivative by its root is the ratio of differences."""
    stop = jax.lax.stop_gradient
    inputs = stop(root.value)
    difference = inputs - root.reference
    near = jnp.abs(difference) < SMALL
    ratio = (stop(value) - reference) / jnp.where(near, 1, difference)
    path = (root.value - inputs) * jnp.where(near, stop(slope), ratio)
    return Pair(stop(value) + path, reference, True, root, stop(slope))


def _curved(function: Callable[[jax.Array], jax.Array], pair: Pair) -> Pair:
    """Rescale a function of one value, entry by entry."""
    inputs = jax.lax.stop_gradient(pair.value)
    value, slope = jax.jvp(function, (inputs,), (jnp.ones_like(inputs),))
    reference = function(pair.reference)
    if not pair.moves:
        return Pair(value, reference)
    return _rescaled(_root(pair), value, reference, slope * pair.slope)


def _product(equation: Any, first: Pair, second: Pair) -> Pair:
    """Multiply, with the mean of the one factor as the derivative by the other.

    Args:
        equation: What multiplies; None for entries alone.
        first: A factor.
        second: The other one.
    """
    stop = jax.lax.stop_gradient

    def multiply(one: Any, other: Any) -> jax.Array:
        return one * other if equation is None else bind(equation, [one, other])[0]

    value = multiply(stop(first.value), stop(second.value))
    reference = multiply(first.reference, second.reference)
    if equation is None and _root(first) is _root(second):
        slope = stop(first.value) * second.slope + stop(second.value) * first.slope
        return _rescaled(_root(first), value, reference, slope)
    found = value
    if first.moves:
        found = found + multiply(first.value - stop(first.value), _mean(second))
    if second.moves:
        found = found + multiply(_mean(first), second.value - stop(second.value))
    return Pair(found, reference, True)


def _mean(pair: Pair) -> jax.Array:
    value = jax.lax.stop_gradient(pair.value)
    return (value + pair.reference) * jnp.asarray(0.5, value.dtype)


def _larger(equation: Any, first: Pair, second: Pair) -> Pair:
    """Take the larger, or smaller, of two: `b + max(a - b, 0)`."""

    def function(values: jax.Array) -> jax.Array:
        return bind(equation, [values, jnp.zeros_like(values)])[0]

    difference = first.value - second.value
    part = _curved(function, Pair(difference, first.reference - second.reference, True))
    return Pair(second.value + part.value, second.reference + part.reference, True)


def _selected(equation: Any, choice: Pair, *cases: Pair) -> Pair:
    """Choose between values, by a constant or by the value that they are made of."""
    known = choice, *cases
    values = bind(equation, [each.value for each in known])[0]
    reference = bind(equation, [each.reference for each in known])[0]
    slopes = [_slope(each, False) for each in cases]
    pair = Pair(values, reference, True)
    if choice.value is choice.reference:
        return _rooted(pair, cases, lambda: bind(equation, [choice.value, *slopes])[0])
    moving = [each for each in cases if each.moves]
    if all(_root(each) is choice.root for each in moving):
        slope = bind(equation, [choice.value, *slopes])[0]
        return _rescaled(choice.root, values, reference, slope)
    raise ValueError(
        "The network chooses between values by others, for which DeepLIFT has no rule; "
        "expected activations of `jax.nn`, or another explainer, such as "
        "integrated_gradients."
    )


def _axes(equation: Any, scope: rectifiers.Scope) -> tuple[int, ...]:
    """Give the axes of a softmax that ends with a division."""
    maker = scope.makers[equation.invars[1]]
    while maker.primitive.name != "reduce_sum":
        maker = scope.makers[maker.invars[0]]
    return tuple(maker.params["axes"])


def _softmax(scores: Pair, axes: tuple[int, ...]) -> Pair:
    """Compute `exp(x - log(sum(exp(x))))`, each step of which is rescaled.

    Exponentials have one shift for the input and the reference, so none is above 1.
    """
    stop = jax.lax.stop_gradient
    sides = stop(scores.value), scores.reference
    shift = jnp.max(jnp.maximum(*sides), axis=axes, keepdims=True)
    exponential = _curved(lambda values: jnp.exp(values - shift), scores)
    sums = [jnp.sum(each, axis=axes, keepdims=True) for each in exponential[:2]]
    total = Pair(sums[0], sums[1], scores.moves)
    # By themselves, lest one of the sums is rounded to 0.
    own = [jax.nn.logsumexp(each, axis=axes, keepdims=True) for each in sides]
    slope = 1 / jnp.maximum(stop(total.value), jnp.asarray(SMALL, shift.dtype))
    logarithm = _rescaled(total, own[0], own[1], slope)
    parts = scores.value - logarithm.value, scores.reference - logarithm.reference
    return _curved(jnp.exp, Pair(*parts, True))


def _largest(equation: Any, pair: Pair) -> Pair:
    """Take the largest of several entries, each rescaled by its own difference."""
    value = _pooled(_Pooling(equation), pair.value, pair.reference)
    reference = bind(equation, [pair.reference])[0]
    return Pair(value, reference, True)


class _Pooling:
    """Hold an equation as a constant."""

    def __init__(self, equation: Any) -> None:
        self.apply = lambda values: bind(equation, [values])[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pooled(pooling: _Pooling, inputs: jax.Array, reference: jax.Array) -> jax.Array:
    del reference
    return pooling.apply(inputs)


def _pooled_forward(
    pooling: _Pooling, inputs: jax.Array, reference: jax.Array
) -> tuple[jax.Array, Any]:
    return pooling.apply(inputs), (inputs, reference)


def _pooled_backward(
    pooling: _Pooling, kept: Any, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Give a rise to where the maximum is, and a fall to where it was."""
    inputs, reference = kept
    value, placed = jax.vjp(pooling.apply, inputs)
    before, placed_before = jax.vjp(pooling.apply, reference)
    highest = jnp.maximum(value, before)
    (rise,) = placed(gradient * (highest - before))
    (fall,) = placed_before(gradient * (value - highest))
    difference = inputs - reference
    near = jnp.abs(difference) < SMALL
    ratio = (rise + fall) / jnp.where(near, 1, difference)
    (plain,) = placed(gradient)
    return jnp.where(near, plain, ratio), jnp.zeros_like(reference)


_pooled.defvjp(_pooled_forward, _pooled_backward)

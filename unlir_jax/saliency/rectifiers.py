"""Find the ReLUs of a traced function, and put something else in their place."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from unlir_jax.core.equations import Read, bind, evaluate
from unlir_jax.saliency import smooth_rectifiers

Clip = Callable[[Any, float, float], Any]
"""`(values, low, high) -> values` clipped to an interval that may be half open."""
Bend = Callable[[Callable[[Any], Any], Any], Any]
"""`(function, values) -> function(values)`, where a rectifier has no kink."""

# What is one equation around others; their body can be written out in its place.
WRAPPERS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2")
# Functions with a derivative of their own; only a pure ReLU's is replaced.
DERIVED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
# A ReLU6 inside of these is a gate and not an activation.
GATES = ("hard_sigmoid", "hard_silu", "hard_swish")
# Functions that bend, by the names of their equations, to say what was found.
BENDING = ("tanh", "logistic", "erf", "erfc", "log1p", "exp", "sin", "custom_jvp_call")
SHAPING = ("convert_element_type", "broadcast_in_dim", "reshape", "copy", "squeeze")


class Interval(NamedTuple):
    """Say what an equation clips: which operand, and to which interval."""

    operand: int
    low: float
    high: float


class Scope:
    """Know the constants, producers and consumers of one sequence of equations.

    With `smooth`, GELU and its kin count as ReLUs too.
    """

    def __init__(
        self, jaxpr: Any, constants: Sequence[float | None], *, smooth: bool = False
    ) -> None:
        self.jaxpr, self.smooth = jaxpr, smooth
        self.known: dict[Any, float] = {
            variable: value
            for variable, value in zip(jaxpr.invars, constants, strict=True)
            if value is not None
        }
        self.makers: dict[Any, Any] = {}
        self.users: dict[Any, list[Any]] = {}
        for equation in jaxpr.eqns:
            for variable in equation.invars:
                if not isinstance(variable, core.Literal):
                    self.users.setdefault(variable, []).append(equation)
            for variable in equation.outvars:
                self.makers[variable] = equation
            if equation.primitive.name in SHAPING:
                value = self.constant(equation.invars[0])
                if value is not None:
                    self.known[equation.outvars[0]] = value

    def constant(self, variable: Any) -> float | None:
        """Give the number that a variable is everywhere, where that is known."""
        if isinstance(variable, core.Literal):
            return float(variable.val) if np.ndim(variable.val) == 0 else None
        return self.known.get(variable)

    def constants(self, equation: Any) -> list[float | None]:
        return [self.constant(variable) for variable in equation.invars]

    def bent(self, equation: Any) -> smooth_rectifiers.Smooth | None:
        """Tell whether an equation is the end of a rectifier without a kink."""
        if not self.smooth:
            return None
        return smooth_rectifiers.find(equation, self.makers, self.constant)

    def interval(self, equation: Any) -> Interval | None:
        """Tell whether an equation is a ReLU, or the upper end of one."""
        name = equation.primitive.name
        if name not in ("clamp", "max", "min"):
            return None
        if not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating):
            return None
        if name == "clamp":
            low, _, high = self.constants(equation)
            found = low == 0 and high is not None and high > 0
            return Interval(1, 0.0, high) if found and high is not None else None
        first, second = self.constants(equation)
        if (first is None) == (second is None):
            return None
        operand, bound = (1, first) if second is None else (0, second)
        variable = equation.invars[operand]
        if bound is None or not equation.outvars[0].aval.ndim:
            return None
        if name == "max":
            # Norms clip a variance at 0, `mean(x^2) - mean(x)^2`: that is no ReLU.
            relu = bound == 0 and not self._is_variance(variable)
            return Interval(operand, 0.0, math.inf) if relu else None
        if bound > 0 and self._beside_a_relu(variable, equation):
            return Interval(operand, -math.inf, bound)
        return None

    def _is_variance(self, variable: Any) -> bool:
        maker = self.makers.get(variable)
        if maker is None or maker.primitive.name != "sub":
            return False
        square = self.makers.get(maker.invars[1])
        if square is None:
            return False
        name = square.primitive.name
        product = name == "mul" and square.invars[0] is square.invars[1]
        power = name == "integer_pow" and square.params["y"] == 2
        return name == "square" or product or power

    def _beside_a_relu(self, variable: Any, equation: Any) -> bool:
        """Tell whether `min` follows a `max` with 0, or is followed by nothing else."""

        def lower(other: Any) -> bool:
            return other.primitive.name == "max" and 0 in self.constants(other)

        maker = self.makers.get(variable)
        if maker is not None and lower(maker):
            return True
        result = equation.outvars[0]
        users = self.users.get(result, [])
        return bool(users) and all(map(lower, users)) and result not in self._results()

    def _results(self) -> list[Any]:
        return [v for v in self.jaxpr.outvars if not isinstance(v, core.Literal)]


def replace(
    function: Callable[..., Any], clip: Clip, *example: Any, bend: Bend | None = None
) -> Callable[..., Any]:
    """Trace a function, and call `clip` for each of its ReLUs and ReLU6s.

    Args:
        function: Gives an array, or a tree of them.
        clip: What stands for a ReLU, `clip(values, 0, inf)`, and a ReLU6,
            `clip(values, 0, 6)`.
        *example: Arguments of the shapes and types that it will be called with.
        bend: What stands for a GELU or SiLU; None leaves them as they are.

    Raises:
        ValueError: There is no rectifier, or one in a loop or branch.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*example)
    structure = jax.tree.structure(shapes)
    nothing = [None] * len(closed.jaxpr.invars)
    if not contains(closed.jaxpr, nothing, smooth=bend is not None):
        found = ", ".join(sorted(_named(closed.jaxpr))) or "none"
        raise ValueError(
            "The network has no ReLU, ReLU6, GELU or SiLU, without which guided "
            "backpropagation and deconvolution are the plain gradient (other "
            f"functions that bend: {found}): use gradient, or a network with one."
        )

    def replaced(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        found = _evaluate(closed.jaxpr, closed.consts, leaves, nothing, clip, bend)
        return jax.tree.unflatten(structure, found)

    return replaced


def has_any(function: Callable[..., Any], *example: Any) -> bool:
    """Tell whether a function has a ReLU, ReLU6, GELU or SiLU, see `replace`."""
    jaxpr = jax.make_jaxpr(function)(*example).jaxpr
    return contains(jaxpr, [None] * len(jaxpr.invars), smooth=True)


def bodies(equation: Any) -> list[Any]:
    """List the sequences of equations inside of an equation."""
    found = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                found.append(getattr(item, "jaxpr", item))
    return found


def _named(jaxpr: Any) -> set[str]:
    """Name the functions of `BENDING` in equations."""
    found = set()
    for equation in jaxpr.eqns:
        found |= {equation.primitive.name} & set(BENDING)
        for body in bodies(equation):
            found |= _named(body)
    return found


def contains(
    jaxpr: Any, constants: Sequence[float | None], *, smooth: bool = False
) -> bool:
    """Tell whether equations contain a ReLU."""
    scope = Scope(jaxpr, constants, smooth=smooth)
    return any(_holds(equation, scope) for equation in jaxpr.eqns)


def _holds(equation: Any, scope: Scope) -> bool:
    inner = bodies(equation)
    if not inner:
        found = scope.interval(equation), scope.bent(equation)
        return found != (None, None)
    if equation.primitive.name in DERIVED:
        return is_rectifier(inner[0], scope.constants(equation))
    if equation.params.get("name") in GATES:
        return False
    return any(
        contains(body, _given(body, equation, scope), smooth=scope.smooth)
        for body in inner
    )


def _given(body: Any, equation: Any, scope: Scope) -> list[float | None]:
    """Hand constants to a body, if its inputs are the equation's own."""
    constants = scope.constants(equation)
    same = len(constants) == len(body.invars)
    return constants if same else [None] * len(body.invars)


def is_rectifier(jaxpr: Any, constants: Sequence[float | None]) -> bool:
    """Tell whether equations are a ReLU and nothing else."""
    scope = Scope(jaxpr, constants)
    found = False
    for equation in jaxpr.eqns:
        inner = bodies(equation)
        if inner and equation.primitive.name in (*WRAPPERS, *DERIVED):
            pure = is_rectifier(inner[0], _given(inner[0], equation, scope))
        else:
            pure = scope.interval(equation) is not None
        found |= pure
        if not pure and equation.primitive.name not in SHAPING:
            return False
    return found


def _evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    arguments: Sequence[Any],
    constants: Sequence[float | None],
    clip: Clip,
    bend: Bend | None,
) -> list[Any]:
    scope = Scope(jaxpr, constants, smooth=bend is not None)

    def apply(equation: Any, inputs: Sequence[Any], read: Read) -> Sequence[Any]:
        bent = scope.bent(equation)
        if bend is not None and bent is not None:
            return [bend(bent.function, read(bent.variable))]
        return _apply(equation, inputs, scope, clip, bend)

    return evaluate(jaxpr, consts, arguments, apply)


def _apply(
    equation: Any, inputs: Sequence[Any], scope: Scope, clip: Clip, bend: Bend | None
) -> list[Any]:
    if not _holds(equation, scope):
        return bind(equation, inputs)
    inner = bodies(equation)
    if not inner:
        operand, low, high = scope.interval(equation) or (0, 0.0, math.inf)
        return [clip(inputs[operand], low, high)]
    name = equation.primitive.name
    if name not in (*WRAPPERS, *DERIVED):
        raise ValueError(
            f"The network has a ReLU inside of `{name}`, where it cannot be given "
            "another derivative; expected layers that are written out, not looped over."
        )
    body, consts = open_body(equation)
    given = _given(body, equation, scope)
    return _evaluate(body, consts, inputs, given, clip, bend)


def open_body(equation: Any) -> tuple[Any, Sequence[Any]]:
    """Give the equations of a wrapper, and the arrays that they close over."""
    for value in equation.params.values():
        if hasattr(value, "eqns"):
            return getattr(value, "jaxpr", value), getattr(value, "consts", ())
    raise TypeError(f"`{equation.primitive.name}` has no equations of its own.")

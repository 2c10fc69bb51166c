"""Cuts of a traced network at a value between its equations.

A function that is no module, such as a ReLU, and a value that a network sows have no
call that could be intercepted. The equations of the traced network have both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from unlir_jax.core import choices
from unlir_jax.core.equations import bind
from unlir_jax.types import Images, PyTree, Variables

BEHIND = ">"
"""Sign between the path of a module and the name of a function that follows it."""
Place = Callable[[Any, Any], Any]
"""`(jaxpr, variable) -> variable`: where a network is cut, from a known value."""


def run(
    function: Callable[[Variables, Images], tuple[PyTree, PyTree]],
    place: Place,
    variables: Variables,
    images: Images,
    replacement: PyTree = None,
) -> tuple[jax.Array, PyTree]:
    """Run a network, and give the value at a place, replaced if asked for.

    Args:
        function: `(variables, images) -> (value, results)`; the value is one array.
        place: Where it is cut, see `itself`, `behind` and `after_perturbation`.
        variables: Variables of the network.
        images: What it looks at.
        replacement: What stands for the value in all that follows.

    Returns:
        The value at the place, and the results.

    Raises:
        ValueError: There is no such place, or no result follows from it.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(variables, images)
    jaxpr = closed.jaxpr
    target = place(jaxpr, jaxpr.outvars[0])
    if isinstance(target, core.Literal) or not _leads(jaxpr, target):
        raise ValueError(
            "`at` is a value from which no logit follows where it stands, as inside "
            "`nn.remat`, `nn.scan` or `jax.jit`; expected one that the network reads "
            "outside of these."
        )
    values: dict[Any, Any] = {}
    found: list[Any] = []

    def write(names: Sequence[Any], given: Sequence[Any]) -> None:
        for name, value in zip(names, given, strict=True):
            values[name] = value
            if name is target:
                found.append(value)
                values[name] = value if replacement is None else replacement

    def read(name: Any) -> Any:
        return name.val if isinstance(name, core.Literal) else values[name]

    write(jaxpr.constvars, closed.consts)
    write(jaxpr.invars, jax.tree.leaves((variables, images)))
    for equation in jaxpr.eqns:
        write(equation.outvars, bind(equation, [*map(read, equation.invars)]))
    structure = jax.tree.structure(shapes[1])
    results = [read(name) for name in jaxpr.outvars[1:]]
    return found[0], jax.tree.unflatten(structure, results)


def itself(jaxpr: Any, known: Any) -> Any:
    """Cut at the value that is known."""
    del jaxpr
    return known


def after_perturbation(jaxpr: Any, known: Any) -> Any:
    """Cut at the sum of a value and a perturbation, which is known."""
    sums = [each for each in jaxpr.eqns if any(name is known for name in each.invars)]
    return sums[0].outvars[0] if sums else known


def behind(function: str) -> Place:
    """Cut at the result of the first function of a name that a known value leads to.

    Args:
        function: Name of a function that JAX compiles or derives by itself, such as
            "relu", or of one of its operations, such as "reduce_window_max".
    """

    def place(jaxpr: Any, known: Any) -> Any:
        names = []
        for equation in _following(jaxpr, known):
            names.append(_name(equation))
            if names[-1] == function:
                return equation.outvars[0]
        wrong = f"`at` ends with {function!r}, which does not follow that module"
        return choices.pick(function, dict.fromkeys(names), wrong, "what follows: {}")

    return place


def _name(equation: Any) -> str:
    """Name what an equation computes: a function of one equation is that equation."""
    name = equation.params.get("name")
    if isinstance(name, str):
        return name
    inner = equation.params.get("call_jaxpr")
    body = getattr(inner, "jaxpr", inner)
    alone = len(getattr(body, "eqns", ())) == 1
    return _name(body.eqns[0]) if alone else equation.primitive.name


def _following(jaxpr: Any, known: Any) -> list[Any]:
    """List the equations that a value leads to, in their order."""
    reached, found = {id(known)}, []
    for equation in jaxpr.eqns:
        if any(id(name) in reached for name in equation.invars):
            found.append(equation)
            reached.update(map(id, equation.outvars))
    return found


def _leads(jaxpr: Any, target: Any) -> bool:
    """Tell whether a result follows from a value."""
    made = {id(target)}
    for equation in _following(jaxpr, target):
        made.update(map(id, equation.outvars))
    return any(id(name) in made for name in jaxpr.outvars[1:])

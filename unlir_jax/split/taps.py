"""Submodules of an NNX module by path, whose outputs are noted and replaced.

NNX has no interceptor. A submodule of a merged copy gets a subclass of its own type as
its class while the copy runs, so that the user's module is never changed.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from unlir_jax.core import choices
from unlir_jax.types import Module, PyTree

_TAP = "_tap"
Tap = Callable[[Callable[..., PyTree], tuple[Any, ...], dict[str, Any]], PyTree]
"""`(call, args, kwargs) -> output`."""


def paths(network: Module) -> list[str]:
    """List the paths of the submodules that can be called, as their attributes come.

    A module that has several paths is listed under each.
    """
    found: list[str] = []
    _list(network, "", (), found)
    return found


def _list(node: Any, above: str, holders: tuple[int, ...], found: list[str]) -> None:
    from flax import nnx

    if id(node) in holders:
        return
    if above and isinstance(node, nnx.Module) and callable(node):
        found.append(above)
    for name, child in _children(node):
        path = f"{above}/{name}" if above else str(name)
        _list(child, path, (*holders, id(node)), found)


def _children(node: Any) -> list[tuple[Any, Any]]:
    """List what a module, list or dictionary holds."""
    from flax import nnx

    if isinstance(node, Mapping):
        return [*node.items()]
    if isinstance(node, list | tuple | nnx.List):
        return [*enumerate(node)]
    if isinstance(node, nnx.Module):
        return [(k, v) for k, v in vars(node).items() if not k.startswith("_pytree__")]
    return []


def find(network: Module, at: str) -> Module:
    """Give the submodule at a path, such as "blocks/2" or "encoder/norm".

    Raises:
        ValueError: There is none, or it cannot be called.
    """
    from flax import nnx

    node: Any = network
    for name in at.split("/"):
        children = {str(key): child for key, child in _children(node)}
        node = children.get(name)
    if not (isinstance(node, nnx.Module) and callable(node)):
        what = "no module" if node is None else f"a {type(node).__name__}"
        wrong = f"`at`={at!r} is {what} of {type(network).__name__}"
        known = [path for path in paths(network) if path != at]
        choices.pick(at, known, wrong, "expected one of: {}")
    return node


@contextlib.contextmanager
def tapped(module: Module, tap: Tap) -> Iterator[None]:
    """Have the calls of a module go through a function while the block runs.

    Args:
        module: Part of a copy that nobody else has.
        tap: Gets the module's own call, and what it is called with.
    """
    kind = type(module)
    # As an attribute like any other: NNX takes modules apart when it transforms them.
    setattr(module, _TAP, tap)
    object.__setattr__(module, "__class__", _subclass(kind))
    try:
        yield
    finally:
        object.__setattr__(module, "__class__", kind)
        delattr(module, _TAP)


@functools.cache
def _subclass(kind: type) -> type:
    """Make a class whose calls go through a tap, once for each class."""

    def call(self: Any, *args: Any, **kwargs: Any) -> PyTree:
        own: Any = kind.__call__
        return getattr(self, _TAP)(functools.partial(own, self), args, kwargs)

    named = {name: getattr(kind, name) for name in ("__module__", "__qualname__")}
    return type(kind)(kind.__name__, (kind,), {"__call__": call, **named})

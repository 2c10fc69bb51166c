"""Layers of any network, in the order in which it reads their variables."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from unlir_jax import split, tree
from unlir_jax.types import SplitModel, Variables


def layers(model: SplitModel, variables: Variables, size: int) -> tuple[str, ...]:
    """List the layers of a network from the image to the head.

    A layer is what the last `/` of a variable's path stands behind. Variables that are
    never read come last.

    Args:
        model: The cut network.
        variables: Its variables.
        size: Side in pixels of its images.

    Returns:
        Paths for `redrawn.layers`, with the names of their collections.
    """
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    traced = jax.make_jaxpr(split.whole(model))(variables, images)
    paths = list(tree.listed(variables))
    known = dict(zip(traced.jaxpr.invars, paths, strict=False))
    read: dict[str, None] = {}
    _read(traced.jaxpr, known, read)
    every = dict.fromkeys([*read, *paths])
    return tuple(dict.fromkeys(path.rpartition("/")[0] or path for path in every))


def _read(jaxpr: Any, known: dict[Any, str], read: dict[str, None]) -> None:
    """Note the variables that equations read, also inside of equations."""
    for equation in jaxpr.eqns:
        paths = [
            None if isinstance(name, core.Literal) else known.get(name)
            for name in equation.invars
        ]
        bodies = [
            getattr(value, "jaxpr", value)
            for value in equation.params.values()
            if hasattr(value, "eqns")
        ]
        if bodies and len(bodies[0].invars) == len(paths):
            pairs = zip(bodies[0].invars, paths, strict=True)
            _read(bodies[0], {k: path for k, path in pairs if path}, read)
        else:
            read.update(dict.fromkeys(filter(None, paths)))

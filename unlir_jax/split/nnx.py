"""Cut an NNX module in two, at its methods."""

import inspect

from unlir_jax import tree
from unlir_jax.split import mode
from unlir_jax.split.functions import BLACK, cut
from unlir_jax.types import (
    Features,
    Images,
    Logits,
    Module,
    PyTree,
    SplitModel,
    Variables,
)


def from_nnx(
    module: Module,
    features: str = "features",
    head: str = "head",
    *,
    mean: tuple[float, ...] = BLACK,
    allow_training: bool = False,
    **arguments: object,
) -> tuple[SplitModel, Variables]:
    """Cut an NNX module that offers its two halves as methods.

    Args:
        module: An `nnx.Module`; its method `features(images)` gives maps and
            `head(maps)` logits. Call its `eval()` first.
        features: Name of the first method.
        head: Name of the second method.
        mean: The colour in [0, 1] that the network sees as zero.
        allow_training: Take a network in training mode as it is: batch normalisation
            of the batch's images, and dropout by the keys among the variables, the
            same at every call. `nnx.reseed` and `nnx.state` give variables with
            other keys; what the network writes is thrown away.
        **arguments: Passed to both methods, for example `deterministic=True`.

    Returns:
        The cut model and the variables (the module's state) to call it with.

    Raises:
        ValueError: The module lacks one of the methods, or is in training mode: an
            attribute or argument says so, or, when the functions are first called, it
            writes statistics or draws random numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from unlir_jax import split
        >>> class Network(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        ...     features = lambda self, images: self.conv(images)
        ...     head = lambda self, maps: maps.mean((1, 2))
        >>> model, variables = split.from_nnx(Network(nnx.Rngs(0)))
        >>> model.features(variables, jnp.ones((1, 8, 8, 3))).maps.shape
        (1, 8, 8, 4)
    """
    from flax import nnx  # Slow to import, and only NNX users need it.

    for name in (features, head):
        if not callable(getattr(module, name, None)):
            raise ValueError(
                f"`{type(module).__name__}` has no method {name!r}; name the two "
                "methods that give maps and logits."
            )
    if not allow_training:
        _check(module, (features, head), arguments)
    graph, state = nnx.split(module)

    def call(variables: Variables, method: str, values: PyTree) -> PyTree:
        _check_state(type(module).__name__, variables, state)
        network = nnx.merge(graph, variables)
        if allow_training:
            return getattr(network, method)(values, **arguments)
        before = _written(network)
        with mode.evaluating(type(module).__name__):
            output = getattr(network, method)(values, **arguments)
        after = _written(network)
        changed = [path for path, leaf in after.items() if leaf is not before.get(path)]
        if changed:
            raise mode.refusal(
                type(module).__name__,
                f"`{method}` writes {', '.join(changed)}",
                "a network whose eval() was called, or the argument that turns it off, "
                "such as use_running_average=True or deterministic=True",
            )
        return output

    def first(variables: Variables, images: Images) -> Features:
        return Features(call(variables, features, images))

    def second(variables: Variables, cut: Features) -> Logits:
        return call(variables, head, cut.maps)

    return cut(first, second, mean, in_chunks=not allow_training), state


def _check_state(network: str, variables: Variables, known: PyTree) -> None:
    """Refuse variables that have other paths than the network's state."""
    given, expected = tree.flatten(variables), tree.flatten(known)
    missing = [path for path in expected if path not in given]
    if missing:
        raise ValueError(
            f"`variables` is a {type(variables).__name__} without {missing[0]!r}; "
            f"expected the state of {network} with its {len(expected)} arrays, as "
            "`from_nnx` or `nnx.state` gives it."
        )


def _check(
    module: Module, methods: tuple[str, ...], arguments: dict[str, object]
) -> None:
    """Refuse a network that says training, before it sees an image.

    Where a method takes more than the images, an argument may decide against the
    attributes, and what the network does when it runs tells.
    """
    free = False
    for method in methods:
        mode.check_arguments(module, method, arguments)
        free |= len(inspect.signature(getattr(module, method)).parameters) > 1
    found = mode.of_nnx(module)
    if found and not free:
        raise mode.refusal(
            type(module).__name__,
            ", ".join(found),
            "a network for which eval() was called (and what that does not set, set)",
        )


def _written(network: Module) -> dict[str, PyTree]:
    """Give what training writes by path: statistics, counters of random numbers.

    Spectral normalisation writes its parameter also when it evaluates, and a wrapped
    Linen module draws a key whether or not it is used.
    """
    from flax import nnx

    kept = nnx.Any(nnx.Param, nnx.Intermediate, nnx.Perturbation, nnx.Cache)
    leaves = tree.flatten(nnx.state(network, nnx.Not(kept)))
    return {
        path.removesuffix("/value"): leaf
        for path, leaf in leaves.items()
        if "to_nnx__rngs" not in path.split("/")
    }

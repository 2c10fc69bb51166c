"""Cut an NNX module in two, at its methods or at any of its submodules."""

import contextlib
import functools
import inspect
from collections.abc import Callable

import jax
from jax.extend import core

from unlir_jax import tree
from unlir_jax.split import attention, mode, program, taps
from unlir_jax.split.functions import BLACK, Output, cut
from unlir_jax.split.tokens import Layout
from unlir_jax.types import (
    Features,
    Images,
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
    at: str = "",
    mean: tuple[float, ...] = BLACK,
    tokens: Layout | None = None,
    output: Output = None,
    allow_training: bool = False,
    **arguments: object,
) -> tuple[SplitModel, Variables]:
    """Cut an NNX module at the output of a submodule, or at its two methods.

    With `at`, the images cross the cut as `context`, so a path around the submodule
    stays correct; where there is none, XLA removes the half that is not used.

    Args:
        module: An `nnx.Module`, which stays as it is. With `at`, calling it with images
            gives logits. Without, its method `features(images)` gives maps and
            `head(maps)` logits. Call its `eval()` first.
        features: Name of the first method.
        head: Name of the second method.
        at: Path of a submodule, such as `"blocks/2"` (see `module_paths`). Or
            `"blocks/2>relu"`: the result of the first `relu` to which the submodule's
            output leads, see `from_linen`.
        mean: The colour in [0, 1] that the network sees as zero.
        tokens: As in `from_functions`; so is `output`. Then `SplitModel.attention`
            reads the network's attention, see `split.attention`.
        output: Logits among several outputs.
        allow_training: Take a network in training mode as it is: batch normalisation
            of the batch's images, and dropout by the keys among the variables, the
            same at every call. `nnx.reseed` and `nnx.state` give variables with
            other keys; what the network writes is thrown away.
        **arguments: Passed to the module or to both methods, for example
            `deterministic=True`.

    Returns:
        The cut model and the variables (the module's state) to call it with.

    Raises:
        ValueError: There is no such submodule, or no such method. The module is in
            training mode: an attribute or argument says so, or, when the functions are
            first called, it writes statistics or draws random numbers. When they are
            first called: the submodule runs never, several times, or under a
            transformation such as `nnx.scan`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from unlir_jax import split
        >>> class Network(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        ...     def __call__(self, images):
        ...         return self.conv(images).mean((1, 2))
        >>> model, variables = split.from_nnx(Network(nnx.Rngs(0)), at="conv")
        >>> model.features(variables, jnp.ones((1, 8, 8, 3))).maps.shape
        (1, 8, 8, 4)
    """
    _check_methods(module, at, (features, head))
    if not allow_training:
        _check(module, ("__call__",) if at else (features, head), arguments)
    call = _runner(module, allow_training)

    def first(variables: Variables, images: Images) -> Features:
        if at:
            maps, _ = _run_at(call, at, arguments, variables, images, None)
            return Features(maps, images)

        def look(network: Module) -> PyTree:
            return getattr(network, features)(images, **arguments)

        return Features(call(variables, features, look))

    def second(variables: Variables, cut: Features) -> PyTree:
        if at:
            given = variables, cut.context, cut.maps
            return _run_at(call, at, arguments, *given)[1]

        def decide(network: Module) -> PyTree:
            return getattr(network, head)(cut.maps, **arguments)

        return call(variables, head, decide)

    def run(variables: Variables, images: Images, prepare: Prepared) -> PyTree:
        decide = functools.partial(_prepared, prepare, at, features, head, arguments)
        return call(variables, "__call__" if at else head, lambda n: decide(n, images))

    def plain(variables: Variables, images: Images) -> PyTree:
        return run(variables, images, lambda network: None)

    from flax import nnx  # Slow to import, and only NNX users need it.

    halves = first, second, mean, tokens, output
    model = cut(*halves, in_chunks=not allow_training, plain=plain)
    model = attention.filled_nnx(model, tokens, run, output)
    return model, nnx.state(module)


Prepared = Callable[[Module], None]
"""What changes a copy of a network before it runs."""

Runner = Callable[[Variables, str, Callable[[Module], PyTree]], PyTree]
"""`(variables, method, function of the merged module) -> its result`."""


def _prepared(
    prepare: Prepared,
    at: str,
    features: str,
    head: str,
    arguments: dict[str, object],
    network: Module,
    images: Images,
) -> PyTree:
    """Run a copy of a network that is changed before."""
    prepare(network)
    if at:
        return network(images, **arguments)
    maps = getattr(network, features)(images, **arguments)
    return getattr(network, head)(maps, **arguments)


def _runner(module: Module, allow_training: bool) -> Runner:
    """Run a copy of a module with other variables, and refuse what it writes."""
    from flax import nnx

    graph, state = nnx.split(module)
    name = type(module).__name__

    def call(
        variables: Variables, method: str, function: Callable[[Module], PyTree]
    ) -> PyTree:
        _check_state(name, variables, state)
        network = nnx.merge(graph, variables)
        if allow_training:
            return function(network)
        before = _written(network)
        with mode.evaluating(name):
            output = function(network)
        after = _written(network)
        changed = [path for path, leaf in after.items() if leaf is not before.get(path)]
        if changed:
            raise mode.refusal(
                name,
                f"`{method}` writes {', '.join(changed)}",
                "a network whose eval() was called, or the argument that turns it off, "
                "such as use_running_average=True or deterministic=True",
            )
        return output

    return call


def _run_at(
    call: Runner,
    at: str,
    arguments: dict[str, object],
    variables: Variables,
    images: Images,
    replacement: PyTree,
) -> tuple[PyTree, PyTree]:
    """Run a network; give the output at a path, replaced if asked for, and logits."""
    path, behind, function = at.partition(program.BEHIND)
    inside = None if behind else replacement
    watch = functools.partial(_watched, call, path, arguments, replacement=inside)
    if not behind:
        return watch(variables, images)
    place = program.behind(function)
    return program.run(watch, place, variables, images, replacement)


def _watched(
    call: Runner,
    at: str,
    arguments: dict[str, object],
    variables: Variables,
    images: Images,
    replacement: PyTree,
) -> tuple[PyTree, PyTree]:
    outputs: list[PyTree] = []
    outside = _level()

    def tap(own: Callable[..., PyTree], args: tuple, kwargs: dict) -> PyTree:
        if _level() != outside:
            raise ValueError(
                f"`at`={at!r} runs under a transformation, such as nnx.scan, nnx.remat "
                "or nnx.jit, out of which no output can be taken; expected a module "
                "that is called outside of it."
            )
        outputs.append(own(*args, **kwargs))
        return outputs[-1] if replacement is None else replacement

    def decide(network: Module) -> PyTree:
        with taps.tapped(taps.find(network, at), tap):
            return network(images, **arguments)

    logits = call(variables, "__call__", decide)
    if len(outputs) != 1:
        raise ValueError(
            f"`at`={at!r} has {len(outputs)} calls while the network looks at images; "
            "expected exactly one: cut at a module that runs once."
        )
    if not isinstance(outputs[0], jax.Array):
        raise ValueError(
            f"`at`={at!r} is a module that returns {type(outputs[0]).__name__}; "
            "expected one array of feature maps."
        )
    return outputs[0], logits


def _level() -> object:
    """Tell one trace of JAX from another."""
    return core.get_opaque_trace_state(convention="nnx")


def module_paths(module: Module, *example: PyTree, **arguments: object) -> list[str]:
    """List the paths of an NNX module's submodules, see `split.module_paths`."""
    from flax import nnx

    known = taps.paths(module)
    if not example:
        return known
    graph, state = nnx.split(module)
    called: dict[str, None] = {}

    def look(variables: Variables, *inputs: PyTree) -> PyTree:
        network = nnx.merge(graph, variables)
        # The first path of a module that has several.
        firsts = {id(taps.find(network, path)): path for path in reversed(known)}

        def note(path: str, own: Callable[..., PyTree], args: tuple, kwargs: dict):
            called[path] = None
            return own(*args, **kwargs)

        with contextlib.ExitStack() as stack:
            for path in firsts.values():
                tap = functools.partial(note, path)
                stack.enter_context(taps.tapped(taps.find(network, path), tap))
            return network(*inputs, **arguments)

    jax.eval_shape(look, state, *example)
    return list(called)


def _check_methods(module: Module, at: str, methods: tuple[str, ...]) -> None:
    """Refuse a path or methods that the module does not have."""
    if at:
        path, behind, function = at.partition(program.BEHIND)
        if behind and not function:
            raise ValueError(
                f"`at`={at!r} names no function behind {program.BEHIND!r}; expected "
                "one, such as 'conv>relu'."
            )
        taps.find(module, path)
        return
    for name in methods:
        if not callable(getattr(module, name, None)):
            raise ValueError(
                f"`{type(module).__name__}` has no method {name!r}; name the two "
                "methods that give maps and logits, or cut it by `at=`, the path of a "
                f"submodule: {', '.join(taps.paths(module)) or 'it has none'}."
            )


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

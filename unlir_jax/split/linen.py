"""Cut a Linen module in two, at its methods or at any of its submodules."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.core.document_types import Document
from unlir_jax.split import attention, mode, program
from unlir_jax.split.functions import BLACK, Output, cut
from unlir_jax.split.tokens import Layout
from unlir_jax.types import (
    Array,
    Features,
    Images,
    PyTree,
    SplitModel,
    Variables,
)


def from_methods(
    module: nn.Module,
    features: str = "features",
    head: str = "head",
    *,
    mean: tuple[float, ...] = BLACK,
    tokens: Layout | None = None,
    output: Output = None,
    allow_training: bool = False,
    **arguments: object,
) -> SplitModel:
    """Cut a Linen module that offers its two halves as methods.

    Args:
        module: Its method `features(images)` gives maps, and `head(maps)` logits; or
            `Features(maps, context)`, which the second method then takes.
        features: Name of the first method.
        head: Name of the second method.
        mean: The colour in [0, 1] that the network sees as zero.
        tokens: As in `from_functions`; so is `output`.
        output: Logits among several outputs.
        allow_training: As in `from_linen`.
        **arguments: Passed to both methods, for example `train=False`.

    Raises:
        ValueError: The module lacks one of the methods, or is in training mode: see
            `from_linen`.

    Example:
        >>> import jax, unlir_jax
        >>> network = unlir_jax.load("cifar_resnet8", "random", num_classes=2)
        >>> model = unlir_jax.split.from_methods(network.module)
        >>> images = jax.numpy.zeros((1, 32, 32, 3))
        >>> model.features(network.variables, images).maps.shape
        (1, 8, 8, 64)
    """
    for name in (features, head):
        if not callable(getattr(type(module), name, None)):
            raise ValueError(
                f"`{type(module).__name__}` has no method {name!r}; "
                "split.from_linen cuts any Linen module at a module path instead."
            )
        _check_arguments(module, {"method": name} | arguments, allow_training)
    run = functools.partial(mode.apply, module, training=allow_training, **arguments)

    def first(variables: Variables, images: Images) -> Features:
        found = run(variables, images, method=features)
        return found if isinstance(found, Features) else Features(found)

    def second(variables: Variables, cut: Features) -> PyTree:
        # Without a context, nothing but the maps came from the first method.
        alone = isinstance(cut.context, tuple) and not cut.context
        return run(variables, cut.maps if alone else cut, method=head)

    model = cut(first, second, mean, tokens, output, in_chunks=not allow_training)
    return attention.filled(model, tokens)


def from_linen(
    module: nn.Module,
    at: str,
    *,
    mean: tuple[float, ...] = BLACK,
    tokens: Layout | None = None,
    output: Output = None,
    allow_training: bool = False,
    **arguments: object,
) -> SplitModel:
    """Cut any unmodified Linen module at the output of one of its submodules.

    The images cross the cut as `context`, so a path around the submodule stays
    correct; where there is none, XLA removes the half that is not used.

    Args:
        module: A module whose `__call__(images)` gives logits.
        at: Path of the submodule, such as `"layer4/block2"` (see `module_paths`). Or
            the path of a value that `self.sow("intermediates", …)` or `self.perturb`
            names. Or `"layer4/block2>relu"`: the result of the first `relu` to which
            the submodule's output leads. A function that is not among JAX's own has a
            name there if `jax.jit` decorates it.
        mean: The colour in [0, 1] that the network sees as zero.
        tokens: As in `from_functions`; so is `output`. Then `SplitModel.attention`
            reads the network's attention, see `split.attention`.
        output: Logits among several outputs.
        allow_training: Take a network in training mode as it is: batch normalisation
            of the batch's images, and dropout by the keys that stand among the
            variables, `{**variables, "rngs": {"dropout": key}}`, one draw a key. What
            the network writes is thrown away.
        **arguments: Passed to `__call__`, for example `train=False`.

    Raises:
        ValueError: The call says training (`train=True`, also as a default). When the
            functions are first called: a submodule says so, writes statistics, or
            draws random numbers; the path matches no module, or one that runs several
            times (shared or scanned), so that its output is not one thing. The
            message lists the module paths.

    Example:
        >>> import jax, flax.linen as nn
        >>> from unlir_jax import split
        >>> module = nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x.mean((1, 2))])
        >>> images = jax.numpy.zeros((1, 8, 8, 3))
        >>> variables = module.init(jax.random.key(0), images)
        >>> model = split.from_linen(module, "layers_0")
        >>> model.features(variables, images).maps.shape
        (1, 8, 8, 4)
    """
    _check_arguments(module, arguments, allow_training)
    run = functools.partial(_run, module, at, arguments, training=allow_training)

    def features(variables: Variables, images: Images) -> Features:
        maps, _ = run(variables, images, None)
        return Features(maps, images)

    def head(variables: Variables, cut: Features) -> PyTree:
        _, logits = run(variables, cut.context, cut.maps)
        return logits

    plain = functools.partial(mode.apply, module, training=allow_training, **arguments)
    chunks = not allow_training
    halves = features, head, mean, tokens, output
    model = cut(*halves, in_chunks=chunks, plain=plain)
    return attention.filled(model, tokens)


def run_to(
    module: nn.Module, at: str, variables: Variables, images: Images, method: str
) -> jax.Array:
    """Give the output of a submodule while a method looks at images.

    Args:
        module: Any Linen module.
        at: Path of the submodule.
        variables: Variables of the module.
        images: What the method takes.
        method: Name of the method, such as `features`.

    Raises:
        ValueError: As `from_linen`.
    """
    found, _ = _run(module, at, {"method": method}, variables, images, None)
    return found


def run_from(
    module: nn.Module,
    at: str,
    variables: Variables,
    inner: Array,
    image_size: int,
    method: str,
) -> PyTree:
    """Give what a method would with this output of a submodule.

    What leads to the submodule is not computed under `jit`, as nothing of it is used;
    a path around the submodule would see black images.

    Args:
        module: Any Linen module.
        at: Path of the submodule.
        variables: Variables of the module.
        inner: The output, `[batch, rows, columns, channels]`.
        image_size: Side in pixels of the square images that it is of.
        method: Name of the method.

    Raises:
        ValueError: As `from_linen`.
    """
    shape = (len(inner), image_size, image_size, 3)
    images = jnp.zeros(shape, inner.dtype)
    _, output = _run(module, at, {"method": method}, variables, images, inner)
    return output


def watch(
    module: nn.Module, paths: Sequence[str], variables: Variables, images: Images
) -> dict[str, tuple[PyTree, PyTree]]:
    """Give what goes into submodules of a backbone, and what comes out of them.

    Args:
        module: A network with a method `features`.
        paths: Paths of submodules; each runs once.
        variables: Variables of the module.
        images: What it looks at.

    Raises:
        ValueError: A path is of no module that runs.
    """
    seen: dict[str, tuple[PyTree, PyTree]] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path in paths:
            seen[path] = (args[0], output)
        return output

    with nn.intercept_methods(intercept):
        mode.apply(module, variables, images, method="features")
    missing = [path for path in paths if path not in seen]
    if missing:
        raise ValueError(
            f"`paths` has {', '.join(missing)}, which are no modules of the trunk of "
            f"{type(module).__name__}; expected paths as `module_paths` gives."
        )
    return seen


def _run(
    module: nn.Module,
    at: str,
    arguments: dict[str, object],
    variables: Variables,
    images: Images,
    replacement: PyTree,
    *,
    training: bool = False,
) -> tuple[PyTree, PyTree]:
    """Apply a module; give the output at a path, replaced if asked for, and logits."""
    apply = functools.partial(mode.apply, module, training=training, **arguments)
    path, behind, function = at.partition(program.BEHIND)
    if behind:

        def watched(variables: Variables, images: Images) -> tuple[PyTree, PyTree]:
            with _intercepted(path, None) as (seen, outputs):
                logits = apply(variables, images)
            return _only(module, path, seen, outputs), logits

        place = program.behind(function)
        return program.run(watched, place, variables, images, replacement)
    with _intercepted(at, replacement) as (seen, outputs):
        logits = apply(variables, images)
    if outputs:
        return _only(module, at, seen, outputs), logits
    for collection, place in _NAMED.items():
        collect = functools.partial(apply, collected=collection)
        _, state = jax.eval_shape(collect, variables, images)
        written = state.get(collection, {})
        if _values(written, at):
            named = functools.partial(_named, module, at, collect, collection)
            return program.run(named, place, variables, images, replacement)
        seen |= dict.fromkeys(_names(written))
    return _only(module, at, seen, outputs), logits


def _named(
    module: nn.Module,
    at: str,
    collect: Callable[[Variables, Images], tuple[PyTree, PyTree]],
    collection: str,
    variables: Variables,
    images: Images,
) -> tuple[PyTree, PyTree]:
    """Apply a module; give the value that it names, and logits."""
    logits, state = collect(variables, images)
    return _only(module, at, (), _values(state.get(collection), at)), logits


_NAMED: dict[str, program.Place] = {
    "intermediates": program.itself,
    "perturbations": program.after_perturbation,
}
"""Collections of values that a network names, and where it is cut at one."""


@contextlib.contextmanager
def _intercepted(
    at: str, replacement: PyTree
) -> Iterator[tuple[dict[str, None], list[PyTree]]]:
    """Note the modules that run and the outputs at a path, and replace these."""
    seen: dict[str, None] = {}
    outputs: list[PyTree] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
        path = "/".join(context.module.path)
        named = context.method_name == "__call__" and path
        if named:
            seen[path] = None
        output = call(*args, **kwargs)
        if not named or path != at:
            return output
        outputs.append(output)
        return output if replacement is None else replacement

    with nn.intercept_methods(intercept):
        yield seen, outputs


def _only(
    module: nn.Module, at: str, seen: Iterable[str], outputs: Sequence[PyTree]
) -> PyTree:
    """Give the one output at a path, and refuse none or several."""
    if len(outputs) != 1:
        found = "no module" if not outputs else f"{len(outputs)} calls"
        raise ValueError(
            f"`at`={at!r} matches {found} of {type(module).__name__}; expected "
            f"exactly one call of one of: {', '.join(seen)}."
        )
    if not isinstance(outputs[0], jax.Array):
        raise ValueError(
            f"`at`={at!r} is a module that returns {type(outputs[0]).__name__}; "
            "expected one array of feature maps."
        )
    return outputs[0]


def _values(state: PyTree, at: str) -> list[PyTree]:
    """List the values that a network named by a path."""
    for name in at.split("/"):
        state = state.get(name) if isinstance(state, Mapping) else None
    # What is sown comes as a tuple, one value a call.
    if state is None or isinstance(state, Mapping):
        return []
    return [*state] if isinstance(state, tuple) else [state]


def _names(state: Mapping[str, PyTree], above: str = "") -> list[str]:
    found = []
    for name, value in state.items():
        inner = isinstance(value, Mapping)
        found += _names(value, f"{above}{name}/") if inner else [f"{above}{name}"]
    return found


def _check_arguments(
    module: nn.Module, arguments: Document, allow_training: bool
) -> None:
    """Refuse arguments of `apply` that say training, or change what it returns."""
    if arguments.get("mutable", False) is not False:
        raise ValueError(
            f"`mutable`={arguments['mutable']!r} is for training; expected none of it: "
            "with `allow_training=True` a network may write, and nothing is kept."
        )
    if not allow_training:
        mode.check_arguments(module, arguments.get("method", "__call__"), arguments)


def module_paths(module: nn.Module, *example: PyTree, **arguments: object) -> list[str]:
    """List the paths of a Linen module's submodules, see `split.module_paths`."""
    seen: dict[str, None] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
        if context.method_name == "__call__" and context.module.path:
            seen["/".join(context.module.path)] = None
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(
            functools.partial(module.init, jax.random.key(0), **arguments), *example
        )
    return list(seen)

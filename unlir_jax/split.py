"""Cut a classifier in two at the layer to explain; nothing else knows how."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import core

from unlir_jax import factories
from unlir_jax.types import (
    Array,
    Features,
    Images,
    Labels,
    Logits,
    SplitModel,
    Variables,
)

BLACK = (0.0, 0.0, 0.0)


def from_functions(
    features: Callable[[Variables, Images], Any],
    head: Callable[[Variables, Any], Logits],
    *,
    mean: tuple[float, ...] = BLACK,
) -> SplitModel:
    """Make a cut model of two pure functions, whatever they are written in.

    Args:
        features: `(variables, images) -> maps`, or `Features(maps, context)`.
        head: `(variables, maps) -> logits`; it receives `Features` if that is what
            `features` returns.
        mean: The colour in [0, 1] that the network sees as zero.
    """

    def cut_features(variables: Variables, images: Images) -> Features:
        result = features(variables, images)
        return result if isinstance(result, Features) else Features(result, _PLAIN)

    def cut_head(variables: Variables, cut: Features) -> Logits:
        plain = isinstance(cut.context, _Plain)
        return head(variables, cut.maps if plain else cut)

    return SplitModel(jax.jit(cut_features), jax.jit(cut_head), tuple(mean))


@jax.tree_util.register_static
class _Plain:
    """Mark features whose head takes the bare maps."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plain)

    def __hash__(self) -> int:
        return hash(_Plain)


_PLAIN = _Plain()


def from_methods(
    module: nn.Module,
    features: str = "features",
    head: str = "head",
    *,
    mean: tuple[float, ...] = BLACK,
    **arguments: Any,
) -> SplitModel:
    """Cut a Linen module that offers its two halves as methods.

    Args:
        module: Its method `features(images)` gives maps and `head(maps)` logits.
        features: Name of the first method.
        head: Name of the second method.
        mean: The colour in [0, 1] that the network sees as zero.
        **arguments: Passed to both methods, for example `train=False`.

    Raises:
        ValueError: The module lacks one of the methods.
    """
    for name in (features, head):
        if not callable(getattr(type(module), name, None)):
            raise ValueError(
                f"`{type(module).__name__}` has no method {name!r}; "
                "split.from_linen cuts any Linen module at a module path instead."
            )

    def first(variables: Variables, images: Images) -> Features:
        maps = module.apply(dict(variables), images, method=features, **arguments)
        return Features(maps)

    def second(variables: Variables, cut: Features) -> Logits:
        logits = module.apply(dict(variables), cut.maps, method=head, **arguments)
        return cast(jax.Array, logits)

    return SplitModel(jax.jit(first), jax.jit(second), tuple(mean))


def from_linen(
    module: nn.Module,
    at: str,
    *,
    mean: tuple[float, ...] = BLACK,
    **arguments: Any,
) -> SplitModel:
    """Cut any unmodified Linen module at the output of one of its submodules.

    The images cross the cut as `context`, so a path around the submodule stays
    correct; where there is none, XLA removes the half that is not used.

    Args:
        module: A module whose `__call__(images)` gives logits.
        at: Path of the submodule, such as `"layer4/block2"` (see `module_paths`).
        mean: The colour in [0, 1] that the network sees as zero.
        **arguments: Passed to `__call__`, for example `train=False`.

    Raises:
        ValueError: When the functions are first called: the path matches no module,
            or one that runs several times (shared or scanned), so that its output is
            not one thing. The message lists the module paths.
    """

    def features(variables: Variables, images: Images) -> Features:
        maps, _ = _run(module, at, arguments, variables, images, None)
        return Features(maps, images)

    def head(variables: Variables, cut: Features) -> Logits:
        _, logits = _run(module, at, arguments, variables, cut.context, cut.maps)
        return logits

    return SplitModel(jax.jit(features), jax.jit(head), tuple(mean))


def run_to(
    module: nn.Module, at: str, variables: Variables, images: Images, method: str
) -> jax.Array:
    """Give the output of a submodule while a method looks at images.

    Args:
        module: Any Linen module.
        at: Path of the submodule.
        variables: Of the module.
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
) -> Any:
    """Give what a method would with this output of a submodule.

    What leads to the submodule is not computed under `jit`, as nothing of it is used;
    a path around the submodule would see black images.

    Args:
        module: Any Linen module.
        at: Path of the submodule.
        variables: Of the module.
        inner: The output, `[batch, rows, columns, channels]`.
        image_size: Side in pixels of the square pictures that it is of.
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
) -> dict[str, tuple[Any, Any]]:
    """Give what goes into submodules of a trunk, and what comes out of them.

    Args:
        module: A network with a method `features`.
        paths: Of the submodules; each runs once.
        variables: Of the module.
        images: What it looks at.

    Raises:
        ValueError: A path is of no module that runs.
    """
    seen: dict[str, tuple[Any, Any]] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path in paths:
            seen[path] = (args[0], output)
        return output

    with nn.intercept_methods(intercept):
        module.apply(dict(variables), images, method="features")
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
    arguments: dict[str, Any],
    variables: Variables,
    images: Images,
    replacement: Any,
) -> tuple[Any, Any]:
    """Apply a module; give the output at a path, replaced if asked for, and logits."""
    seen: dict[str, None] = {}
    outputs: list[Any] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
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
        logits = module.apply(dict(variables), images, **arguments)
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
    return outputs[0], logits


def from_nnx(
    module: Any,
    features: str = "features",
    head: str = "head",
    *,
    mean: tuple[float, ...] = BLACK,
    **arguments: Any,
) -> tuple[SplitModel, Variables]:
    """Cut an NNX module that offers its two halves as methods.

    Args:
        module: An `nnx.Module`; its method `features(images)` gives maps and
            `head(maps)` logits. Call its `eval()` first.
        features: Name of the first method.
        head: Name of the second method.
        mean: The colour in [0, 1] that the network sees as zero.
        **arguments: Passed to both methods.

    Returns:
        The cut model and the variables (the module's state) to call it with.

    Raises:
        ValueError: The module lacks one of the methods.
    """
    from flax import nnx  # Slow to import, and only NNX users need it.

    for name in (features, head):
        if not callable(getattr(module, name, None)):
            raise ValueError(
                f"`{type(module).__name__}` has no method {name!r}; name the two "
                "methods that give maps and logits."
            )
    graph, state = nnx.split(module)

    def first(variables: Variables, images: Images) -> Features:
        return Features(
            getattr(nnx.merge(graph, variables), features)(images, **arguments)
        )

    def second(variables: Variables, cut: Features) -> Logits:
        return getattr(nnx.merge(graph, variables), head)(cut.maps, **arguments)

    return SplitModel(jax.jit(first), jax.jit(second), tuple(mean)), state


@factories.remember
def whole(model: SplitModel) -> Callable[[Variables, Images], Logits]:
    """Join the two halves again, compiled: `(variables, images) -> logits`."""

    def network(variables: Variables, images: Images) -> Logits:
        return model.head(variables, model.features(variables, images))

    return jax.jit(network)


def module_paths(module: nn.Module, *example: Any, **arguments: Any) -> list[str]:
    """List the paths of the submodules that a Linen module calls, in call order.

    Args:
        module: Any Linen module.
        *example: Arrays or shapes that `__call__` takes, for example images.
        **arguments: Further arguments of `__call__`.
    """
    seen: dict[str, None] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path:
            seen["/".join(context.module.path)] = None
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(
            functools.partial(module.init, jax.random.key(0), **arguments), *example
        )
    return list(seen)


def check_batch(
    model: SplitModel, variables: Variables, images: Images, labels: Labels
) -> None:
    """Refuse a batch that would give wrong or NaN results, before any work.

    Shapes and types are always checked; the range of the labels only where their
    values are known, that is outside `jax.jit`.

    Raises:
        TypeError: Images that are not floating point or labels that are not integer.
        ValueError: A wrong number of axes, as many labels as images, or a label that
            is not a class.
    """
    check_shapes(images, labels)
    if not isinstance(labels, core.Tracer):
        logits = jax.eval_shape(whole(model), variables, images)
        check_labels(labels, logits.shape[-1])


def check_shapes(images: Images, labels: Labels) -> None:
    """Refuse images or labels of a wrong shape or type; see `check_batch`."""
    if jnp.ndim(images) != 4:
        raise ValueError(
            f"`images` has shape {jnp.shape(images)}; expected "
            "[batch, height, width, channels] with values in [0, 1]."
        )
    if not jnp.issubdtype(jnp.result_type(images), jnp.floating):
        raise TypeError(
            f"`images` are {jnp.result_type(images)}; expected floating point in "
            "[0, 1]: divide 8-bit pictures by 255."
        )
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(
            f"`labels` are {jnp.result_type(labels)}; expected one integer an image."
        )
    if jnp.shape(labels) != jnp.shape(images)[:1]:
        raise ValueError(
            f"`labels` has shape {jnp.shape(labels)}; expected one class index for "
            f"each of the {jnp.shape(images)[0]} images."
        )


def check_labels(labels: Labels, classes: int) -> None:
    """Refuse labels that are not classes, where their values are known."""
    if isinstance(labels, core.Tracer) or not jnp.size(labels):
        return
    # As NumPy's: what is known inside `jax.jit` would be traced there otherwise.
    known = np.asarray(labels)
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"`labels` holds {low if low < 0 else high}; the network has classes 0 to "
            f"{classes - 1}."
        )

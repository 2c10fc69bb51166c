"""Tell a network that trains from one that evaluates, by how it is called.

In training mode, the result for an image depends on the images next to it (batch
normalisation) or on random numbers (dropout), so that no map is an image's own.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flax import errors
from flax import linen as nn
from flax.core.scope import DenyList

from unlir_jax.types import Module, PyTree, Variables

# Flax's words for the mode, with what they are in training.
TRAINING = {
    "deterministic": False,
    "use_running_average": False,
    "train": True,
    "training": True,
    "is_training": True,
}
# Where the keys of a Linen network that is meant to train stand among its variables.
KEYS = "rngs"
_INCOMPLETE = (
    errors.ScopeCollectionNotFound,
    errors.ScopeParamNotFoundError,
    errors.ScopeParamShapeError,
    errors.ScopeVariableNotFoundError,
    errors.ApplyScopeInvalidVariablesStructureError,
    errors.ApplyScopeInvalidVariablesTypeError,
)


def spoken(settings: Mapping[str, object]) -> str:
    """Name the first setting that says training, as `name=value`, or nothing.

    Dropout at a rate of 0 does nothing, whatever it says.
    """
    rates = [settings.get(name) for name in ("rate", "dropout_rate")]
    idle = any(isinstance(rate, int | float) and rate == 0 for rate in rates)
    for name, value in TRAINING.items():
        found = settings.get(name)
        silent = idle and name == "deterministic"
        if isinstance(found, bool | np.bool_) and found == value and not silent:
            return f"{name}={value}"
    return ""


def of_call(
    function: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> dict[str, object]:
    """Give the words for the mode that a function runs with, defaults included.

    Args:
        function: A function, or a method with or without its module.
        args: What it is called with, without a method's module.
        kwargs: What else it is called with.
    """
    found = {
        name: args[place] if place < len(args) else kwargs.get(name, default)
        for name, (place, default) in _words(function).items()
    }
    # None leaves it to a field of the module.
    return {name: value for name, value in found.items() if value is not None}


@functools.cache
def _words(function: Callable[..., object]) -> dict[str, tuple[int, object]]:
    """Give place and default of the parameters that are words for the mode."""
    known = list(inspect.signature(function).parameters.values())
    if known and known[0].name == "self":
        known = known[1:]
    found: dict[str, tuple[int, object]] = {}
    for place, each in enumerate(known):
        if each.name in TRAINING:
            # What goes by its name alone has a place beyond all that are given.
            place += len(known) * (each.kind is each.KEYWORD_ONLY)
            default = None if each.default is each.empty else each.default
            found[each.name] = (place, default)
    return found


def refusal(network: str, finding: str, remedy: str) -> ValueError:
    """Make the one sentence about a network in training mode."""
    return ValueError(
        f"`{network}` is in training mode: {finding}; expected {remedy}, or "
        "`allow_training=True` where a result may depend on the images beside it or "
        "on random numbers."
    )


def check_arguments(
    network: Module,
    method: str | Callable[..., object],
    arguments: Mapping[str, object],
) -> None:
    """Refuse a method that says training as it will be called, before it is.

    Args:
        network: A Linen or NNX module.
        method: Name or function of the module, called with one array.
        arguments: What else it is called with.

    Raises:
        ValueError: An argument, or the default of one, says training.
    """
    function = method if callable(method) else getattr(type(network), method)
    setting = spoken(of_call(function, (None,), arguments))
    if setting:
        name = method if isinstance(method, str) else method.__name__
        raise refusal(
            type(network).__name__,
            f"`{name}` is called with {setting}",
            f"the argument {_opposite(setting)}, which `split` hands on",
        )


def apply(
    module: nn.Module,
    variables: Variables,
    *inputs: PyTree,
    training: bool = False,
    collected: str = "",
    **arguments: Any,
) -> PyTree:
    """Apply a Linen module in evaluation mode, or in training mode where that is meant.

    Args:
        module: Any Linen module.
        variables: Variables of the module; keys for training lie under `rngs`.
        *inputs: What its method takes.
        training: What the module writes is thrown away, and keys are handed on.
        collected: Collection of values that the module names, begun anew.
        **arguments: Further ones of `apply` and of the method.

    Returns:
        The output; where something is collected, the output and that collection.

    Raises:
        ValueError: It trains, and `training` is false: when it is traced.
    """
    check_variables(module, variables)
    known = {name: each for name, each in variables.items() if name != collected}
    keys = known.pop(KEYS, arguments.pop(KEYS, None))
    name = type(module).__name__
    if training:
        written = DenyList(tuple({"params", "intermediates"} - {collected}))
        with complete(name, known):
            output, state = module.apply(
                known, *inputs, rngs=keys, mutable=written, **arguments
            )
        return (output, state) if collected else output
    if collected:
        arguments |= {"mutable": [collected]}
    # Without keys, whoever draws a random number says so.
    with complete(name, known), evaluating(name):
        return module.apply(known, *inputs, **arguments)


def check_variables(module: nn.Module, variables: Variables) -> None:
    """Refuse what cannot be the variables of a Linen module.

    Raises:
        TypeError: It is no mapping.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"`variables` is a {type(variables).__name__}; expected the collections of "
            f"{type(module).__name__}, such as {{'params': …, 'batch_stats': …}}."
        )


@contextlib.contextmanager
def complete(network: str, variables: Variables) -> Iterator[None]:
    """Turn Flax' errors on variables that are missing or misshapen into a sentence."""
    try:
        yield
    except _INCOMPLETE as error:
        held = ", ".join(map(repr, variables)) or "nothing"
        said = str(error).split(" (http")[0].rstrip(".")
        raise ValueError(
            f"`variables` has {held}, which is not all that {network} reads ({said}); "
            "expected all its collections, with the paths and shapes of its own."
        ) from error


@contextlib.contextmanager
def evaluating(network: str) -> Iterator[None]:
    """Refuse what trains among the Linen modules that are called inside."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "setup":
            _check_call(network, context, args, kwargs)
        return call(*args, **kwargs)

    try:
        with nn.intercept_methods(intercept):
            yield
    except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
        said = str(error).split(" (http")[0].rstrip(".")
        raise refusal(
            network,
            f"it writes or draws while it looks at images ({said})",
            "an argument or a field that turns it off, such as train=False or "
            "deterministic=True",
        ) from error


def _check_call(network: str, context: Any, args: Any, kwargs: Any) -> None:
    module = context.module
    fields = {name: getattr(module, name, None) for name in _fields(type(module))}
    # A partial without its module, which `signature` would bind anew at every call.
    function = getattr(context.orig_method, "func", context.orig_method)
    setting = spoken(fields | of_call(function, args, kwargs))
    if type(module).__module__.startswith("flax.nnx.") and not setting:
        setting = _of_wrapped(module, kwargs)
    if setting:
        place = "/".join(module.path)
        raise refusal(
            network,
            f"{f'its submodule {place}' if place else 'it'} runs with {setting}",
            f"{_opposite(setting)}, as a field or an argument there, or what decides "
            "it from outside, such as train=False",
        )


def _fields(kind: type) -> list[str]:
    names = (*TRAINING, "rate", "dropout_rate")
    return [name for name in names if name in getattr(kind, "__dataclass_fields__", {})]


def _of_wrapped(module: Module, kwargs: Mapping[str, object]) -> str:
    """Name what says training in an NNX module that a Linen module makes."""
    from flax import nnx

    if not isinstance(module, nnx.bridge.ToLinen) or TRAINING.keys() & kwargs.keys():
        return ""

    def make() -> Any:
        keys = {} if module.skip_rng else {"rngs": nnx.Rngs(0)}
        return module.nnx_class(*module.args, **keys, **module.kwargs)

    made = nnx.eval_shape(make)
    return next(iter(of_nnx(made)), "")


def of_nnx(network: Module) -> list[str]:
    """Name the attributes of NNX modules that say training, `path.name=value` each."""
    from flax import nnx

    found = []
    for path, module in nnx.iter_modules(network):
        setting = spoken(vars(module))
        if setting:
            found.append(".".join([*map(str, path), setting]))
    return found


def _opposite(setting: str) -> str:
    """Write `name=False` for `name=True`, and the other way round."""
    name, _, value = setting.partition("=")
    return f"{name}={value == 'False'}"

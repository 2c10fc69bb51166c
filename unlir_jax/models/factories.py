"""Networks by what a command is given: a name, a workdir, or a factory of one's own."""

import contextlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from unlir_jax.core import choices
from unlir_jax.data import preprocessing
from unlir_jax.models import pretrained, wrapping, zero_shot
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.storage import paths

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
_EXPECTED = "expected package.module:factory, whose factory gives `unlir_jax.wrap(…)`"


def is_factory(name: str) -> bool:
    """Tell whether a network's name means a factory, as `nets.birds:small` does."""
    return bool(_FACTORY.fullmatch(name)) and not paths.is_folder(name)


def load(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    *,
    weights_key: str = "",
    crop: float | None = None,
    interpolation: str | None = None,
    texts: str | os.PathLike[str] | None = None,
    **more: Any,
) -> Pretrained:
    """Load a network by a name or workdir, or call a factory of the user's.

    Args:
        name: See `pretrained.load`; or `package.module:factory`, a function without
            arguments that returns what `wrapping.wrap` gives. The module may lie in
            the current folder.
        weights: For `pretrained.load`, as are the layer, the key and more.
        layer: Path of the layer.
        weights_key: Key of the weights in their file.
        crop: Share of the shorter side that is kept.
        interpolation: By which images are resized.
        texts: A file of texts that are the classes, see `zero_shot.zero_shot`.
        **more: Further arguments of `pretrained.load`.

    Raises:
        ValueError: As `pretrained.load`; there is no such module or factory, it
            fails, or something is given that the factory decides.
        TypeError: The factory returns something else.
        ModuleNotFoundError: The module needs a package that is not installed.
    """
    given = {"weights": weights, "layer": layer, "weights_key": weights_key}
    given |= {"crop": crop, "interpolation": interpolation}
    network = _load(name, given, more)
    return network if texts is None else zero_shot.zero_shot(network, texts)


def _load(name: str, given: dict[str, Any], more: dict[str, Any]) -> Pretrained:
    """Load a network by its name, or by its factory as it is asked for."""
    if not is_factory(name):
        return pretrained.load(name, **given, **more)
    network, crop, interpolation = _call(name), given["crop"], given["interpolation"]
    for option in ("weights", "layer", "weights_key"):
        if given[option]:
            raise ValueError(
                f"`{option}`={str(given[option])!r} is given with `model`={name!r}; "
                "expected none: the factory decides it."
            )
    frame = crop or network.crop, interpolation or network.interpolation
    if frame != (network.crop, network.interpolation):
        if network.frame is not None:
            raise ValueError(
                f"`crop`={crop} and `interpolation`={interpolation} are given, but "
                f"the network of {name!r} has a function that prepares its images; "
                "expected neither."
            )
        network = network._replace(
            preprocess=preprocessing.preprocessing(network.image_size, *frame),
            crop=frame[0],
            interpolation=frame[1],
            prepared_by=f"{network.prepared_by}; as asked for",
        )
    own = network.name == wrapping.NAME
    return network._replace(name=name if own else network.name, source=name, told="")


def _call(name: str) -> Pretrained:
    """Call a factory, and refuse all that is not what it should return."""
    module, _, attribute = name.partition(":")
    with _current_folder(), _explained(name, f"the import of {module!r}", module):
        importlib.invalidate_caches()
        found = importlib.import_module(module)
    factory = getattr(found, attribute, None)
    if factory is None:
        where = getattr(found, "__file__", None) or module
        wrong = f"`model`={name!r}: {os.path.basename(where)} has no {attribute!r}"
        known = [each for each, value in vars(found).items() if callable(value)]
        raise ValueError(f"{wrong}; {choices.meant(attribute, known)}{_EXPECTED}.")
    _check_factory(name, factory)
    with _current_folder(), _explained(name, f"the factory {attribute!r}"):
        network = factory()
    if not isinstance(network, Pretrained):
        raise TypeError(
            f"`model`={name!r} returned a {type(network).__name__}; expected what "
            "`unlir_jax.wrap(model, variables, image_size=…)` gives."
        )
    return network


def _check_factory(name: str, factory: Callable[..., Any]) -> None:
    if not callable(factory):
        raise TypeError(f"`model`={name!r} is a {type(factory).__name__}; {_EXPECTED}.")
    try:
        known = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return  # What is not written in Python need not say what it takes.
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    needed = [p.name for p in known if p.default is p.empty and p.kind not in several]
    if needed:
        raise TypeError(
            f"`model`={name!r} needs the arguments {', '.join(needed)}; expected a "
            "factory without required arguments."
        )


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    """Find modules in the current folder first while the block runs."""
    folder = os.getcwd()
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


@contextlib.contextmanager
def _explained(name: str, doing: str, module: str = "") -> Iterator[None]:
    """Turn what goes wrong in somebody else's code into a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            raise ValueError(
                f"`model`={name!r} names the module {missing!r}, which is neither in "
                f"the current folder nor installed; {_EXPECTED}."
            ) from error
        raise ModuleNotFoundError(
            f"`model`={name!r} needs the package {missing!r}, which is not installed; "
            f"expected it in the environment of {sys.executable}.",
            name=missing,
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"`model`={name!r}: {doing} fails ({wrapping.said(error)}); {_EXPECTED}."
        ) from error

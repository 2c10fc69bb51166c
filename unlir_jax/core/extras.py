"""Packages that not every user needs, and the extra that brings each."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def needed(extra: str) -> Iterator[None]:
    """Say how to install what an import in the block does not find.

    Args:
        extra: Extra of this package, such as "train".

    Raises:
        ModuleNotFoundError: A package is missing; the sentence has the command.

    Example:
        >>> from unlir_jax.core import extras
        >>> with extras.needed("report"):
        ...     import json
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The package {error.name!r} is not installed; expected it after "
            f"`pip install 'unlir_jax[{extra}]'`.",
            name=error.name,
        ) from error


def folder(package: str) -> Path:
    """Find the folder of a package without importing it.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(name=package)
    return Path(found.submodule_search_locations[0])

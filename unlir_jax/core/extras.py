"""Packages that not every user needs, and the extra that brings each."""

import contextlib
from collections.abc import Iterator


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

"""Open a source of examples by the name of its kind, as configurations do."""

import importlib
import inspect

from unlir_jax.core import choices
from unlir_jax.data.source import Source

# Where the function is that opens each kind. Imported when asked for: some are slow.
KINDS = {
    "folder": ("folder", "folder"),
    "npz": ("arrays", "npz"),
    "tfds": ("datasets", "tfds"),
    "elpv": ("elpv", "elpv"),
    "synthetic_parts": ("synthetic_parts", "synthetic_parts"),
}


def open_source(kind: str, split: str, **options: object) -> Source:
    """Open a split of a data set.

    Args:
        kind: One of `KINDS`.
        split: Name of the split, such as "train" or "test".
        **options: What the function of that kind takes, such as `path`.

    Raises:
        ValueError: There is no such kind, or it has no such option, or lacks one.
    """
    choices.pick(kind, KINDS, f"`kind`={kind!r} is not a kind of data")
    module, name = KINDS[kind]
    opened = getattr(importlib.import_module(f"unlir_jax.data.{module}"), name)
    parameters = inspect.signature(opened).parameters
    known = [option for option in parameters if option != "split"]
    for option in options:
        wrong = f"{option!r} is not an option of {kind!r} data"
        choices.pick(option, known, wrong)
    for option in known:
        if parameters[option].default is inspect.Parameter.empty:
            if option not in options:
                raise ValueError(
                    f"`{option}` is missing for {kind!r} data; its options: "
                    f"{', '.join(known)}."
                )
    return opened(split=split, **options)

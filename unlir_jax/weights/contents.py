"""Contents of a file of weights, before any of it is read."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

NEST = "/"
"""Between the key of a dict and the names in it, as in `state_dict/conv1.weight`."""

MAX_NAME = 1_000
"""Characters that the name of an array has at most."""


class Contents(NamedTuple):
    """Hold the names and shapes of all arrays of a file, and how to read some.

    Attributes:
        shapes: By full name; what lies in dicts of dicts has their keys before it,
            joined by `NEST`.
        read: Names -> arrays by name; ValueError where the file is damaged.
        unnamed: Lists of arrays without names, and how many are in each.
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[Iterable[str]], dict[str, np.ndarray]]
    unnamed: Mapping[str, int] = {}


class WeightFile(NamedTuple):
    """Hold what a file of weights is, as long as it is open.

    Attributes:
        arrays: What it holds.
        metadata: The texts of a safetensors file's header; {} of other formats.
        sha256: Hash of all its bytes, in hexadecimal.
    """

    arrays: Contents
    metadata: dict[str, str]
    sha256: str

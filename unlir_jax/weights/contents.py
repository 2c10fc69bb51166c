"""What a file of weights holds, before any of it is read."""

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

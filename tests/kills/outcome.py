"""What a command has left in a place, but for what clocks say."""

import hashlib
import re

import numpy as np
from PIL import Image

from unlir_jax import tree
from unlir_jax.runtime import checkpoint
from unlir_jax.storage import locks

CLOCKS = ("seconds", "seconds_per_draw", "images_per_second", "data_wait", "waited")
NUMBER = rb"-?[0-9][0-9.e+-]*"
SCRUBBED = (
    (rb'"([^"]*/)?(%s)": %s' % ("|".join(CLOCKS).encode(), NUMBER), b"CLOCK"),
    (rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}(\+00:00| UTC)", b"CLOCK"),
    (rb"\b[0-9]+ s\b", b"CLOCK"),
)
# The sum of a draw is over its seconds as well.
DRAW = (rb'"crc32": [0-9]+', b"CLOCK")
EMBEDDED = rb'"data:image/png;base64,[^"]*"'
TEXTS = (".json", ".jsonl", ".html", ".md", ".txt", ".csv")
# Draw pictures a second, or seconds a draw: only their size is always the same.
CURVES = "curves.png"


def left(place):
    """Map all that is in a place to what is in it.

    Orbax gives its files other names each time: of a checkpoint, the arrays count.
    """
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place)
        if checkpoint.FOLDER in name.parts:
            inside = name.parts[name.parts.index(checkpoint.FOLDER) + 1 :]
            if len(inside) == 1:
                found[str(name)] = arrays(path)
        elif path.is_dir():
            found[f"{name}/"] = ""
        else:
            found[str(name)] = digest(path)
    return found


def arrays(folder):
    leaves = tree.listed(checkpoint.read_arrays(folder))
    digest = hashlib.sha256()
    for path, leaf in sorted(leaves.items()):
        digest.update(path.encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def digest(path):
    if path.name == CURVES:
        with Image.open(path) as image:
            image.load()
            return str(image.size)
    data = path.read_bytes()
    if path.suffix in TEXTS:
        patterns = [*SCRUBBED, DRAW] if path.parent.name == "draws" else SCRUBBED
        if path.with_name(CURVES).exists():
            patterns = [*patterns, (EMBEDDED, b"CURVES")]
        for pattern, mark in patterns:
            data = re.sub(pattern, mark, data)
    return hashlib.sha256(data).hexdigest()


def locked(place):
    """List the locks that a process still holds."""
    named = [path for path in place.rglob("*") if path.name.endswith(".lock")]
    return [str(path) for path in named if locks.held(path)]

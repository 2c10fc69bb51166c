"""Arrays of transformers' files under one spelling, whoever wrote them.

Libraries fuse queries, keys and values, and gates with what they multiply; and they
give a class token a position of its own. Here they come apart, and a token has its
position added to it, so that a network's variables are the same from every source.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from unlir_jax.weights.contents import Contents

_FUSED = (
    (r"(?<![a-z])qkv\.(?=weight$|bias$)", ("q.", "k.", "v.")),
    (r"in_proj_(?=weight$|bias$)", ("q.", "k.", "v.")),
    (r"(?<![a-z])kv\.(?=weight$|bias$)", ("k.", "v.")),
    (r"(?<![a-z0-9])w12\.(?=weight$|bias$)", ("w1.", "w2.")),
    (r"(?<=weights_in)\.(?=weight$|bias$)", (".gate.", ".value.")),
)
"""Names of fused layers, and what their parts are called, in order."""

_POSITIONS = (
    ("pos_embed", ("cls_token", "dist_token", "reg_token")),
    (
        "embeddings.position_embeddings",
        ("embeddings.cls_token", "embeddings.distillation_token"),
    ),
    ("encoder.pos_embedding", ("class_token",)),
    ("positional_embedding", ("class_embedding",)),
    ("embeddings.position_embedding.weight", ("embeddings.class_embedding",)),
)
"""Names of positions, and of the tokens that may have the first of them."""

_BESIDE = re.compile(
    r"(^|[./])(mask_token|embeddings\.position_ids|pooler\.dense\.(weight|bias)|"
    r"text_model\..*|text_projection(\.weight)?|logit_scale|logit_bias|"
    r"relative_position_index|attn_mask)$"
)
"""Names of what a file has besides the network that gives logits: tokens that hide
patches in training, poolers that no classifier reads, texts, and tables of places."""

Arrays = dict[str, np.ndarray]


class _Derived(NamedTuple):
    """Say how an array is made of a file's: its shape, their names, and the way."""

    shape: tuple[int, ...]
    sources: tuple[str, ...]
    make: Callable[[Arrays], np.ndarray]


def spelt(contents: Contents) -> Contents:
    """Give the contents of a file of a transformer in one spelling.

    Args:
        contents: What the file holds.

    Returns:
        The same arrays, without those that give no logits, and but for fused ones,
        whose parts have names of their own; positions, `[1, places, channels]` of the
        grid alone; and the tokens before it, `[1, 1, channels]`. Nothing is read
        before it is asked for.

    Raises:
        ValueError: There are positions of which it cannot be told whether the first
            are of tokens.
    """
    derived: dict[str, _Derived] = {}
    gone = {name for name in contents.shapes if _BESIDE.search(name)}
    own = {name: s for name, s in contents.shapes.items() if name not in gone}
    for name, shape in own.items():
        for pattern, parts in _FUSED:
            if re.search(pattern, name) and shape and shape[0] % len(parts) == 0:
                gone.add(name)
                for place, part in enumerate(parts):
                    ours = re.sub(pattern, part, name)
                    derived[ours] = _part(name, shape, place, len(parts))
                break
    for name, shape in own.items():
        if name.endswith(("mlp.fc1.weight", "mlp.fc1.bias")):
            inner = contents.shapes.get(re.sub(r"fc1\.\w+$", "fc2.weight", name), ())
            if len(inner) == 2 and shape[0] == 2 * inner[1]:
                gone.add(name)
                for place, part in enumerate(("fc1_g", "fc1_x")):
                    ours = re.sub(r"fc1(?=\.\w+$)", part, name)
                    derived[ours] = _part(name, shape, place, 2)
        elif re.search(r"(^|[./])proj$", name) and len(shape) == 2:
            gone.add(name)
            derived[f"{name}.weight"] = _Derived(
                shape[::-1], (name,), lambda arrays, name=name: arrays[name].T
            )
    for name in own:
        derived |= _positions(name, contents)
    shapes = {n: s for n, s in contents.shapes.items() if n not in gone | set(derived)}
    shapes |= {name: each.shape for name, each in derived.items()}

    def read(names: Iterable[str]) -> Arrays:
        wanted = list(names)
        needed = dict.fromkeys(
            source
            for name in wanted
            for source in (derived[name].sources if name in derived else (name,))
        )
        arrays = contents.read(needed)
        return {
            name: derived[name].make(arrays) if name in derived else arrays[name]
            for name in wanted
        }

    return contents._replace(shapes=shapes, read=read)


def _part(name: str, shape: tuple[int, ...], place: int, count: int) -> _Derived:
    """Give one of several equal parts of a fused layer."""
    size = shape[0] // count

    def make(arrays: Arrays) -> np.ndarray:
        return arrays[name][place * size : (place + 1) * size]

    return _Derived((size, *shape[1:]), (name,), make)


def _positions(name: str, contents: Contents) -> dict[str, _Derived]:
    """Part a grid's positions from the tokens' own, which are added to the tokens."""
    for ending, tokens in _POSITIONS:
        if name != ending and not name.endswith((f".{ending}", f"/{ending}")):
            continue
        prefix = name.removesuffix(ending)
        leading = {
            prefix + token: math.prod(contents.shapes[prefix + token][:-1])
            for token in tokens
            if prefix + token in contents.shapes
        }
        total = sum(leading.values())
        *_, count, width = (0, 0, *contents.shapes[name])
        grid = [left for left in (count, count - total) if _is_square(left)]
        if not leading or not count:
            grid = [count]
        if not grid:
            raise ValueError(
                f"{name!r} has {count} positions, next to {', '.join(leading)}; "
                "expected those of a square grid, alone or behind one for each token."
            )
        return _parted(name, leading, count - grid[0], (count, width))
    return {}


def _parted(
    name: str, leading: dict[str, int], own: int, shape: tuple[int, int]
) -> dict[str, _Derived]:
    """Part the positions of a grid from the tokens' own, which come first.

    Args:
        name: Name of the positions.
        leading: Number of tokens in each array of tokens, in their order.
        own: Number of positions that are of tokens.
        shape: Number of positions, and channels.
    """
    count, width = shape

    def grid(arrays: Arrays) -> np.ndarray:
        return arrays[name].reshape(1, count, width)[:, own:]

    found = {name: _Derived((1, count - own, width), (name,), grid)}
    first = 0
    for token, many in leading.items():
        places = slice(first, first + many)
        first += many

        def make(
            arrays: Arrays, token: str = token, places: slice = places
        ) -> np.ndarray:
            learned = arrays[token].reshape(1, -1, width)
            if not own:
                return learned
            return learned + arrays[name].reshape(1, count, width)[:, places]

        found[token] = _Derived((1, many, width), (token, name), make)
    return found


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count

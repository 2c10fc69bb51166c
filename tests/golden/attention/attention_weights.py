"""Weights of small transformers made from names and shapes alone, for `make.py` and tests.

They are those of `backbones/random_state.py`, but for tokens and positions, and for
queries and keys, which are larger so that attention is not even. Needs NumPy only.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "backbones"))

from random_state import _uniform as uniform  # noqa: E402
from random_state import images, parse_shape  # noqa: E402
from random_state import state_dict as usual  # noqa: E402

__all__ = ["images", "parse_shape", "state_dict"]
TOKENS = (
    *("cls_token", "pos_embed", "reg_token"),
    *("class_token", "encoder.pos_embedding"),
)
SIDE, CLASSES = 32, 5
COMMON = {"patch_size": 8, "depth": 3}
NETWORKS = {
    "class_token": {},
    "registers": {"reg_tokens": 4, "no_embed_class": True},
    "mean_pool": {"class_token": False, "global_pool": "avg"},
}
"""Configurations of timm's VisionTransformer, of width 64 and 2 heads."""


def attends(name):
    """Tell whether a layer gives queries and keys."""
    return "qkv" in name or "in_proj" in name


def state_dict(names, shapes):
    """Make every array of a state dict."""
    shapes = dict(zip(map(str, names), map(parse_shape, shapes), strict=True))
    tokens = {n: uniform(n, -0.5, 0.5, s) for n, s in shapes.items() if n in TOKENS}
    others = {
        name.replace("in_proj_", "in_proj."): shape
        for name, shape in shapes.items()
        if name not in TOKENS
    }
    found = usual(others.keys(), others.values()) | tokens
    found = {n.replace("in_proj.", "in_proj_"): array for n, array in found.items()}
    for name, array in found.items():
        # Sizes of activations that ReLUs need not halve.
        if name.endswith("weight") and array.ndim > 1 and not attends(name):
            array *= np.float32(0.6)
    return found

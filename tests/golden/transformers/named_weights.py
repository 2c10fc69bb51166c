"""Weights and images made from names and shapes alone, so that none need storing.

`make.py` ran PyTorch networks with these weights on this image. A test makes them
again, loads them as a file and compares. It needs NumPy only.
"""

import math
import zlib

import numpy as np

SCALES = ("weight", "gamma", "lambda1", "layer_scale_parameter", "layer_scale")
SCALES += ("gamma1", "gamma2", "gamma3", "gamma_1", "gamma_2", "running_var")


def values(name, shape):
    """Draw one array: near one for scales, of a norm's or a layer's, else about zero.

    NumPy froze the streams of RandomState (NEP 19).
    """
    uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    last = name.rpartition(".")[2]
    if len(shape) == 1 and last in SCALES and "class" not in name:
        return (0.5 + uniform).astype(np.float32)
    if last.startswith("layer_scale"):  # torchvision's, [channels, 1, 1].
        return (0.5 + uniform).astype(np.float32)
    if len(shape) < 2 or last != "weight" and not last.startswith("in_proj"):
        return (0.4 * uniform - 0.2).astype(np.float32)
    limit = math.sqrt(6 / math.prod(shape[1:]))
    return (limit * (2 * uniform - 1)).astype(np.float32)


def state(names, shapes):
    """Draw every array of a state dict; shapes are tuples or texts such as "64,3"."""
    found = {}
    for name, shape in zip(names, shapes, strict=True):
        if not isinstance(shape, tuple):
            shape = tuple(int(part) for part in str(shape).split(",") if part)
        found[str(name)] = values(str(name), shape)
    return found


def images(height, width):
    """Draw noise on waves, float32 `[1, height, width, 3]` in [0, 1]."""
    noise = np.random.RandomState(0).random_sample((1, height, width, 3))
    rows = np.arange(height)[:, None, None] / height
    columns = np.arange(width)[None, :, None] / width
    waves = np.sin(6 * rows + np.array([3, 5, 7]) * columns)
    return (0.5 + 0.25 * waves + 0.5 * (noise - 0.5)).clip(0, 1).astype(np.float32)

"""Weights and images made from names and shapes alone, so that no weights need storing.

`make.py` ran PyTorch networks with these weights on these images and stored the logits; a test
makes the same weights again, converts them and compares.  Needs NumPy only.
"""

import math
import zlib

import numpy as np


def parse_shape(text):
    """`"64,3,7,7"` -> (64, 3, 7, 7); the empty string is the shape of a scalar."""
    return tuple(int(part) for part in text.split(",") if part)


def _uniform(name, low, high, shape):
    # RandomState, not default_rng: NumPy froze RandomState's streams (NEP 19), so these numbers
    # stay the same in every version.  Only random_sample is used, arithmetic is done here.
    sample = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    sample *= high - low
    sample += low
    return sample.astype(np.float32)


def state_dict(names, shapes):
    """Every array of a PyTorch state dict, named and shaped as there (convolutions OIHW).

    Shapes are tuples or the strings of the .npz files.  Weights of convolutions and linear layers
    are uniform in +-sqrt(k / fan_in), fan_in = prod(shape[1:]); see the comment for k.
    """
    names = [str(name) for name in names]
    known = set(names)
    state = {}
    for name, shape in zip(names, shapes, strict=True):
        shape = parse_shape(shape) if isinstance(shape, str) else tuple(shape)
        stem, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            state[name] = np.zeros(shape, np.int64)
        elif kind == "running_var":
            state[name] = _uniform(name, 0.5, 1.5, shape)
        elif kind == "running_mean":
            state[name] = _uniform(name, -0.2, 0.2, shape)
        elif kind == "bias":
            state[name] = _uniform(name, -0.1, 0.1, shape)
        elif kind == "weight" and len(shape) == 1:  # the scale of a norm
            state[name] = _uniform(name, 0.5, 1.5, shape)
        elif kind == "weight" and len(shape) > 1:
            if stem + ".bias" in known:
                k = 6  # VGG's convolutions and linear layers: He's rule keeps the activations' size
            elif shape[1] == 1:
                k = 12  # depthwise: makes up for the small 1x1 convolutions around it
            else:
                k = 2  # small, for residual branches must not double the activations 50 times
            limit = math.sqrt(k / math.prod(shape[1:]))
            state[name] = _uniform(name, -limit, limit, shape)
        else:
            raise ValueError(f"no rule for {name} of shape {shape}")
    return state


def images(height, width):
    """Two smooth, noisy pictures, float32 [2, height, width, 3] in [0, 1], in steps of 1/255."""
    random = np.random.RandomState(0).random_sample
    y = np.arange(height)[:, None, None] / height
    x = np.arange(width)[None, :, None] / width
    pictures = []
    for _ in range(2):
        picture = np.full((height, width, 3), 0.5) + 0.4 * (random(3) - 0.5)
        for _ in range(4):
            fy, fx, phase = 8 * random(3) - 4, 8 * random(3) - 4, random(3)
            picture += 0.12 * np.sin(2 * np.pi * (fy * y + fx * x + phase))
        pictures.append(picture + 0.2 * (random((height, width, 3)) - 0.5))
    return (np.round(255 * np.clip(pictures, 0, 1)) / 255).astype(np.float32)

"""Networks that attacks are tried on, and the files that peers have written."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlir_jax import split

FILE = Path(__file__).parents[1] / "golden" / "attacks" / "network.npz"


def convolved(maps, kernel, bias, stride):
    found = lax.conv_general_dilated(
        maps,
        jnp.transpose(kernel, (2, 3, 1, 0)),
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return jax.nn.relu(found + bias[None, None, None])


def dense(vectors, kernel, bias):
    return jnp.matmul(vectors, kernel.T, precision="highest") + bias[None]


def flat(maps):
    """Flatten maps in the order of torch."""
    return jnp.transpose(maps, (0, 3, 1, 2)).reshape(len(maps), -1)


def _small_features(weights, images):
    maps = convolved(images, weights["0.weight"], weights["0.bias"], 1)
    return convolved(maps, weights["2.weight"], weights["2.bias"], 2)


def _small_head(weights, maps):
    return dense(flat(maps), weights["5.weight"], weights["5.bias"])


def _digits_features(weights, images):
    maps = convolved(images, weights["0.weight"], weights["0.bias"], 2)
    return convolved(maps, weights["2.weight"], weights["2.bias"], 2)


def _digits_head(weights, maps):
    hidden = jax.nn.relu(dense(flat(maps), weights["5.weight"], weights["5.bias"]))
    return dense(hidden, weights["7.weight"], weights["7.bias"])


SMALL = split.from_functions(_small_features, _small_head)
DIGITS = split.from_functions(_digits_features, _digits_head)


@functools.cache
def peers():
    """Read what peers have made of the small network, images channels last."""
    with np.load(FILE) as file:
        known = {name: file[name] for name in file.files}
    return {
        name: value.transpose(0, 2, 3, 1)
        if value.ndim == 4 and "images" in name
        else value
        for name, value in known.items()
    }


def small(dtype=np.float32):
    """Give the small network's weights, its images, labels and targets."""
    known = peers()
    weights = {
        name.removeprefix("network/"): jnp.asarray(value.astype(dtype))
        for name, value in known.items()
        if name.startswith("network/")
    }
    given = known["labels"].astype(np.int32), known["targets"].astype(np.int32)
    return weights, jnp.asarray(known["images"].astype(dtype)), *given


def digits(shared):
    """Give the provable network's weights, and the test digits with their labels."""
    with np.load(shared / "data" / "weights" / "mnist_provable_linf_0.1.npz") as file:
        weights = {name: jnp.asarray(file[name]) for name in file.files}
    with np.load(shared / "data" / "mnist_test.npz") as file:
        images = file["x_test"][..., None] / np.float32(255)
        return weights, images, file["y_test"].astype(np.int32)

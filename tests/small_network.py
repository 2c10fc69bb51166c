"""Weights of a small network, made without the slow start of a real one."""

import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import tree
from unlir_jax.models import zoo
from unlir_jax.weights import readers

NAME = "cifar_resnet20"


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write variables drawn by NumPy, so that nothing but their shapes is traced."""
    network = zoo.networks()[NAME]
    example = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(network.build().init, jax.random.key(0), example)
    generator = np.random.default_rng(0)
    arrays = {}
    for path, leaf in tree.flatten(shapes).items():
        if path.endswith(("scale", "var")):
            arrays[path] = np.ones(leaf.shape, np.float32)
        else:
            fan = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 1
            values = generator.standard_normal(leaf.shape) * 1.4 / fan
            arrays[path] = values.astype(np.float32)
    file = folder / "small.safetensors"
    readers.write_safetensors(file, arrays)
    return file


def jpeg(path: pathlib.Path) -> bytes:
    """Encode a picture file as JPEG."""
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def write_noise(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Write coarse noise as a flat folder: two pictures of each class."""
    random = np.random.default_rng(0)
    for index in range(count):
        noise = random.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(
            folder / f"{index // 2}_{index}.png"
        )
    return folder

"""Weights of a small network, made without the slow start of a real one."""

import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import tree
from unlir_jax.models import pretrained, zoo
from unlir_jax.weights import readers

NAME = "cifar_resnet8"


def draw(**attributes) -> dict[str, np.ndarray]:
    """Draw variables by NumPy, so that nothing but their shapes is traced."""
    network = zoo.networks()[NAME].build(**attributes)
    example = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), example)
    generator = np.random.default_rng(0)
    arrays = {}
    for path, leaf in tree.flatten(shapes).items():
        if path.endswith(("scale", "var")):
            arrays[path] = np.ones(leaf.shape, np.float32)
        else:
            fan = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 1
            values = generator.standard_normal(leaf.shape) * 1.4 / fan
            arrays[path] = values.astype(np.float32)
    return arrays


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write the variables of a network."""
    file = folder / "small.safetensors"
    readers.write_safetensors(file, draw())
    return file


def write_two(folder: pathlib.Path) -> pathlib.Path:
    """Write two files of weights of another network, which differ."""
    variables = pretrained.load("cifar_resnet8", "random").variables
    for name, scale in (("one", 1.0), ("other", 0.5)):
        scaled = {
            path: np.asarray(leaf) * np.float32(scale if "kernel" in path else 1)
            for path, leaf in tree.flatten(variables).items()
        }
        readers.write_safetensors(folder / f"{name}.safetensors", scaled)
    return folder


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

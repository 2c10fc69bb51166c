"""Output of a backbone for a head, found out by tracing and by trial."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.models import pooling
from unlir_jax.types import Module, PyTree


def halves(module: Module) -> tuple[str, str]:
    """Name the methods between which a network is cut while its head learns.

    `features` and `head`, but of a network whose head takes more than maps, such as a
    class token, `descriptors` and `decide`.
    """
    return getattr(module, "halves", ("features", "head"))


def head_paths(module: Module, image_size: int) -> frozenset[str]:
    """List the paths of the variables that a network's head has."""
    return frozenset(
        _head_shapes(module, _shape(module, image_size, halves(module)[0]))
    )


def _head_shapes(module: Module, maps: jax.ShapeDtypeStruct) -> dict[str, PyTree]:
    return tree.flatten(
        jax.eval_shape(
            lambda maps: module.init(jax.random.key(0), maps, method=halves(module)[1]),
            maps,
        )
    )


def map_shape(module: Module, image_size: int, usual: int) -> tuple[int, int]:
    """Give the rows and columns of a backbone's maps.

    Args:
        module: Has `features`.
        image_size: Side of the images in pixels.
        usual: Side of those that the network is made for.

    Raises:
        ValueError: An image of that size leaves no cell, or is smaller than one.
    """
    stride = usual // _shape(module, usual, "features").shape[1]
    if image_size < stride:
        raise ValueError(
            f"`data.image_size`={image_size} is smaller than the network's stride, "
            f"which is {stride} pixels; expected {stride} or more."
        )
    _, rows, columns, _ = _shape(module, image_size, "features").shape
    if not rows or not columns:
        raise ValueError(
            f"`data.image_size`={image_size} leaves no cell of the network's maps; "
            "expected a larger one."
        )
    return rows, columns


def _shape(module: Module, image_size: int, method: str) -> jax.ShapeDtypeStruct:
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.eval_shape(
        lambda images: module.init_with_output(
            jax.random.key(0), images, method=method
        )[0],
        images,
    )


def check_frozen(module: Module, image_size: int, learning: Sequence[str]) -> None:
    """Refuse to train anything but the head on features of a frozen backbone.

    Raises:
        ValueError: Some of the paths in `learning` are not the head's.
    """
    head = head_paths(module, image_size)
    trunk = [path.removeprefix("params/") for path in learning if path not in head]
    if trunk:
        more = f" and {len(trunk) - 4} more" if len(trunk) > 4 else ""
        raise ValueError(
            f"`features.cache`=True, but {', '.join(trunk[:4])}{more} of the trunk "
            "learn; expected `optimizer.table` to freeze all but "
            f"{', '.join(sorted(path.removeprefix('params/') for path in head))}."
        )


def head_pools(module: Module, image_size: int, how: str = "average") -> bool:
    """Tell whether a head sees no more than the maps pooled by `pooling.POOLINGS`.

    Found out by trial, but for a network that says `looks_at_cells`: with
    large weights a softmax over parts is 0 or 1, and the mean would seem to do. One
    with `halves` of its own has pooled before.
    """
    if getattr(module, "looks_at_cells", False):
        return False
    if halves(module)[0] != "features":
        return True
    shape = _shape(module, image_size, "features")
    generator = np.random.default_rng(0)

    def draw(size: tuple[int, ...]) -> np.ndarray:
        return np.abs(generator.normal(0, 1, size)).astype(np.float32)

    # Its own weights may be all zeros, and would agree on anything.
    leaves = _head_shapes(module, shape)
    known = tree.unflatten({path: draw(leaf.shape) for path, leaf in leaves.items()})
    maps = draw((2, *shape.shape[1:]))
    try:
        vectors = np.asarray(pooling.POOLINGS[how](maps))[:, None, None]
        pooled = module.apply(known, vectors, method="head")
    except (TypeError, ValueError, ZeroDivisionError):
        return False  # It needs maps of their full size.
    whole = module.apply(known, maps, method="head")
    return bool(np.allclose(pooled, whole, rtol=1e-4))

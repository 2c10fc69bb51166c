"""What a network costs to run."""

from typing import Any

from unlir_jax.models import calls


def flops(module: Any, image_size: int) -> int:
    """Count the multiply-adds of a network's convolutions and dense layers.

    Papers call these FLOPs; a picture takes twice as many operations.

    Args:
        module: A network of ours, pruned or not.
        image_size: Side in pixels of the square picture.

    Raises:
        ValueError: The size is below 1.
    """
    if image_size < 1:
        raise ValueError(f"`image_size`={image_size}; expected at least 1 pixel.")
    return sum(calls.multiply_adds(module, image_size).values())

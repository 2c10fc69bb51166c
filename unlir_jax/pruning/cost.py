"""Cost of running a network."""

from unlir_jax.models import calls, channels
from unlir_jax.types import Module


def each_channel(module: Module, image_size: int) -> dict[str, float]:
    """Count the multiply-adds that go with one channel of each layer.

    Args:
        module: A network of ours, pruned or not.
        image_size: Side in pixels of the square image.

    Returns:
        For each layer of `channels.graph`, the cost of its makers and its reader.
    """
    found = calls.multiply_adds(module, image_size)
    costs = {}
    for group in channels.graph(module).groups:
        paths = *group.makers, *group.beside, group.reader
        layers = [f"{path}/conv" if f"{path}/conv" in found else path for path in paths]
        layers.append(f"{group.reader.rpartition('/')[0]}/weights")
        # The backbone of a part network has no classifier that would read it.
        costs[group.layer] = sum(found.get(at, 0) for at in layers) / group.channels
    return costs


def flops(module: Module, image_size: int) -> int:
    """Count the multiply-adds of a network's convolutions, dense layers and attention.

    Papers call these FLOPs; an image takes twice as many operations.

    Args:
        module: A network of ours, pruned or not.
        image_size: Side in pixels of the square image.

    Raises:
        ValueError: The size is below 1.
    """
    if image_size < 1:
        raise ValueError(f"`image_size`={image_size}; expected at least 1 pixel.")
    return sum(calls.multiply_adds(module, image_size).values())

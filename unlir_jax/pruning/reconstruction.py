"""Make up for what goes block by block, on what the blocks before it now give."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.models import channels
from unlir_jax.models.inverted_residual import InvertedResidualNet
from unlir_jax.pruning import choice as choices
from unlir_jax.pruning import surgery
from unlir_jax.pruning.choice import Choice
from unlir_jax.pruning.inputs import Moments
from unlir_jax.pruning.scores import steadied
from unlir_jax.types import Array, Module, PyTree, Variables


def reconstruct(
    module: Module,
    variables: Variables,
    choice: Choice,
    moments: Mapping[str, Moments],
    batches: Sequence[Array],
) -> dict[str, PyTree]:
    """Let every projection give, of the channels that stay, what its block gave before.

    Block by block, from the front: the pruned network's input of the block, with all
    that the blocks before it get wrong, is the one that is regressed on, and the whole
    network's output of the block is what for (the asymmetric reconstruction of Zhang et
    al., TPAMI 2016, over the sum of a residual block as in He et al., ICCV 2017,
    section 3.2). `compensate` looks at each layer on its own. No labels and no training
    are needed.

    Args:
        module: A network of inverted residual blocks, at its full width, with norms.
        variables: Its variables.
        choice: What `choose` gives.
        moments: What `measure` gives for these variables: what `compensate` makes of
            them is the start, which is kept where images say little.
        batches: Images, `[batch, size, size, 3]` in [0, 1]: one size of batch, or the
            last one smaller.

    Returns:
        Variables of the same shapes, with the channels masked; to be removed.

    Raises:
        ValueError: Another kind of network, no norms, or no image.
    """
    if not isinstance(module, InvertedResidualNet) or not module.style.norm:
        raise ValueError(
            f"`module` is a {type(module).__name__}, or its norms are folded; expected "
            "a network of inverted residual blocks with norms, or `compensate` instead."
        )
    if not len(batches):
        raise ValueError("`batches` is empty; expected at least one batch of images.")
    choices.check(choice)
    channels.check(choice.graph, variables)
    start = surgery.compensate(variables, choice, moments)
    masked = tree.flatten(surgery.mask(start, choice))
    whole = jax.tree.map(jnp.asarray, dict(variables))
    stem = jax.jit(
        lambda known, images: module.apply(
            known, images, method=lambda net, x: net.stem_layer(net.standardize(x))
        )
    )
    small = tree.unflatten(masked)
    maps = [stem(whole, jnp.asarray(images)) for images in batches]
    pruned = [stem(small, jnp.asarray(images)) for images in batches]
    for number, group in enumerate(choice.graph.inner):
        step = _block(module, number)
        targets = [step(whole, rows) for rows in maps]
        maps = [output for _, _, output in targets]
        if group.layer in choice.keep:
            found = [step(small, rows) for rows in pruned]
            masked |= _fit(
                masked,
                group.reader,
                choice.keep[group.layer],
                [
                    (x, z, wanted - out + z)
                    for (x, z, out), wanted in zip(found, maps, strict=True)
                ],
                module.style.epsilon,
            )
            small = tree.unflatten(masked)
        pruned = [step(small, rows)[2] for rows in pruned]
    return tree.unflatten(jax.tree.map(np.asarray, masked))


def _block(module: Module, number: int) -> Callable[..., tuple[Array, Array, Array]]:
    """Give what a block's projection reads and gives, and what the block gives."""
    name = f"block{number + 1}"

    @jax.jit
    def step(variables: Variables, maps: Array) -> tuple[Array, Array, Array]:
        output, seen = module.apply(
            dict(variables),
            maps,
            method=lambda net, x: net.blocks[number](x),
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        inside = seen["intermediates"][name]
        return (
            inside["depthwise"]["__call__"][0],
            inside["project"]["__call__"][0],
            output,
        )

    return step


def _fit(
    leaves: Mapping[str, PyTree],
    reader: str,
    keep: np.ndarray,
    rows: Sequence[tuple[Array, Array, Array]],
    epsilon: float,
) -> dict[str, np.ndarray]:
    """Regress what a projection lacks on what it reads; write it into its weights."""
    sums: list[Any] = []
    # Far from 0 the difference of two sums of squares would say nothing in float32.
    middle = jnp.mean(jnp.asarray(rows[0][0])[..., keep], axis=(0, 1, 2))
    for inputs, given, wanted in rows:
        x = jnp.asarray(inputs)[..., keep].reshape(-1, len(middle)) - middle[None]
        lacks = jnp.asarray(wanted - given).reshape(len(x), -1)
        products = (jnp.matmul(x.T, y, precision="highest") for y in (x, lacks))
        found = jax.tree.map(np.float64, (len(x), x.sum(0), lacks.sum(0), *products))
        sums = jax.tree.map(np.add, sums, found) if sums else found
    count, mean_x, mean_y, square, cross = sums
    mean_x, mean_y = mean_x / count, mean_y / count
    covariance = square / count - np.outer(mean_x, mean_x)
    factors = np.linalg.solve(
        steadied(covariance), cross / count - np.outer(mean_x, mean_y)
    )
    shift = mean_y - (mean_x + np.float64(middle)) @ factors
    norm = f"{reader}/norm"
    scale = np.asarray(leaves[f"params/{norm}/scale"], np.float64)
    variance = np.asarray(leaves[f"batch_stats/{norm}/var"], np.float64)
    gain = scale / np.sqrt(variance + epsilon)
    # What a norm multiplies by nothing cannot be changed in front of it.
    safe = np.abs(gain) > 1e-3 * np.abs(gain).max()
    inverse = np.where(safe, 1 / np.where(safe, gain, 1), 0)
    path, bias = f"params/{reader}/conv/kernel", f"params/{norm}/bias"
    kernel = np.array(leaves[path], np.float64)
    kernel[0, 0, keep] += factors * inverse
    shift = np.where(safe, shift, 0) + np.asarray(leaves[bias], np.float64)
    return {path: kernel.astype(np.float32), bias: shift.astype(np.float32)}

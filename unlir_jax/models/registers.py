"""Registers without training, for vision transformers.

Jiang et al., Vision Transformers Don't Need Trained Registers, NeurIPS 2025. A few
neurons of perceptrons make the tokens of large norm that stand for no patch. What they
give goes to a token that is added, zeros at first, and none of it to patches.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.types import Images, Module, PyTree, Variables

Neuron = tuple[int, int]
"""Number of a block, and of a neuron of its perceptron."""


class Moved(NamedTuple):
    """Say which neurons give to registers instead of patches.

    Attributes:
        neurons: The neurons; within a block, of that block alone.
        first: Number of the first token that they give to.
        leading: Number of tokens before the grid, of which those are the last.
    """

    neurons: tuple[Neuron, ...] = ()
    first: int = 0
    leading: int = 0

    def of(self, block: int) -> "Moved":
        """Leave out the neurons of other blocks."""
        return self._replace(neurons=tuple(n for n in self.neurons if n[0] == block))


NOTHING = Moved()


class Found(NamedTuple):
    """Hold neurons, and what they were found by.

    Attributes:
        neurons: The neurons, the strongest first.
        scores: Mean magnitude of each at tokens above the threshold.
        images: Number of images that have such tokens.
    """

    neurons: tuple[Neuron, ...]
    scores: tuple[float, ...]
    images: int


def move(inner: jax.Array, moved: Moved) -> jax.Array:
    """Move what neurons give, `[batch, tokens, neurons]`.

    Registers have the value of largest magnitude among all tokens, patches have 0, and
    other tokens keep theirs.
    """
    if not moved.neurons:
        return inner
    columns = jnp.asarray([neuron for _, neuron in moved.neurons])
    values = inner[:, :, columns]
    high = jnp.max(values, axis=1, keepdims=True)
    low = jnp.min(values, axis=1, keepdims=True)
    largest = jnp.where(jnp.abs(high) > jnp.abs(low), high, low)
    place = jnp.arange(inner.shape[1])[None, :, None]
    others = jnp.where(place < moved.first, values, largest)
    found = jnp.where(place < moved.leading, others, 0)
    return inner.at[:, :, columns].set(found.astype(inner.dtype))


def find(
    module: Module,
    variables: Variables,
    images: Images,
    *,
    threshold: float,
    count: int,
    block: int = -1,
) -> Found:
    """Find the neurons that are active where tokens have a large norm.

    Args:
        module: A vision transformer of this library.
        variables: Its variables.
        images: Images in [0, 1], of the size that the network takes.
        threshold: Norm above which a token of `block` is an outlier. The paper's code
            has 30 by default, and 150 with the last block but one of DINOv2-L.
        count: Number of neurons.
        block: Number of the block whose tokens are looked at; negative ones count from
            the last.

    Raises:
        ValueError: The network is of another kind, there are fewer neurons or blocks,
            or no token has such a norm.
    """
    _check(module)
    depth, inner = module.depth, module.inner
    if not -depth <= block < depth:
        raise ValueError(
            f"`block`={block}, but the network has {depth} blocks; expected {-depth} "
            f"to {depth - 1}."
        )
    if not 1 <= count <= depth * inner:
        raise ValueError(
            f"`count`={count}, but the network has {depth} x {inner} neurons; expected "
            f"1 to {depth * inner}."
        )
    norms, sums = _measured(module, variables, images, block % depth, threshold)
    above = np.asarray(jnp.sum(norms > threshold, axis=1))
    if not above.any():
        raise ValueError(
            f"`threshold`={threshold:g}, but the largest norm of a token of block "
            f"{block % depth} is {float(norms.max()):.4g}; expected less, or images "
            "with outliers."
        )
    each = np.asarray(sums)[above > 0] / above[above > 0][:, None, None]
    scores = each.mean(axis=0)
    order = np.argsort(-scores, axis=None, kind="stable")[:count]
    neurons = [divmod(int(place), inner) for place in order]
    values = tuple(float(scores[each]) for each in neurons)
    return Found(tuple(neurons), values, int((above > 0).sum()))


def _measured(
    module: Module, variables: Variables, images: Images, block: int, threshold: float
) -> tuple[jax.Array, jax.Array]:
    """Give norms of a block's tokens, and sums of magnitudes at those above."""

    @jax.jit
    def run(variables: Variables, images: Images) -> tuple[jax.Array, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
            output, path = call(*args, **kwargs), "/".join(context.module.path)
            if context.method_name == "__call__":
                seen[path] = args[0] if path.endswith("mlp/contract") else output
            return output

        with nn.intercept_methods(intercept):
            module.apply(variables, images)
        norms = jnp.linalg.norm(seen[f"block{block}"], axis=-1)
        blocks = [seen[f"block{n}/mlp/contract"] for n in range(module.depth)]
        chosen = (norms > threshold).astype(norms.dtype)
        magnitudes = jnp.abs(jnp.stack(blocks, axis=1))
        return norms, jnp.einsum("bt,bdtn->bdn", chosen, magnitudes)

    return run(variables, images)


def add(
    module: Module,
    variables: Variables,
    neurons: tuple[Neuron, ...],
    *,
    count: int = 1,
) -> tuple[Module, Variables]:
    """Add registers to which neurons give what they gave to patches.

    Args:
        module: A vision transformer of this library.
        variables: Its variables.
        neurons: Neurons, see `find`.
        count: Number of registers.

    Returns:
        A network with `count` more registers before the grid, and its variables.

    Raises:
        ValueError: The network is of another kind or has such registers, there is no
            register, or a neuron is none of it.

    Example:
        >>> import unlir_jax
        >>> from unlir_jax.models import registers
        >>> network = unlir_jax.load("deit_tiny_patch16_224", "random")
        >>> given = network.module, network.variables
        >>> module, variables = registers.add(*given, ((2, 41), (3, 7)))
        >>> module.leading  # The class token, and a register.
        2
    """
    _check(module)
    if module.moved != NOTHING:
        raise ValueError(
            "`module` has registers of this kind already; expected the network itself."
        )
    if count < 1:
        raise ValueError(f"`count`={count}; expected 1 register or more.")
    for neuron in neurons:
        if not (0 <= neuron[0] < module.depth and 0 <= neuron[1] < module.inner):
            raise ValueError(
                f"`neurons` has {tuple(neuron)}; expected numbers below "
                f"{(module.depth, module.inner)}, of a block and of a neuron."
            )
    leading = module.leading + count
    moved = Moved(tuple(neurons), module.leading, leading)
    larger = module.clone(registers=module.registers + count, moved=moved)
    params = dict(variables["params"])
    tokens = dict(params["tokens"])
    shape = (1, count, module.width)
    learned = [tokens["register_tokens"]] if module.registers else []
    zeros = jnp.zeros(shape, jnp.asarray(tokens["position"]).dtype)
    tokens["register_tokens"] = jnp.concatenate([*learned, zeros], axis=1)
    return larger, {**variables, "params": params | {"tokens": tokens}}


def _check(module: Module) -> None:
    if not hasattr(module, "moved"):
        raise ValueError(
            f"`module` is a {type(module).__name__}, which has no registers; expected "
            "a vision transformer of `unlir models`."
        )

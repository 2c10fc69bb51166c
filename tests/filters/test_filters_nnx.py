"""Weights of filters on networks of NNX: grouped, depthwise, trained, transposed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unlir_jax import filters

MODES = ("output", "input", "output+input", "filter", "kronecker")
PAIRING = {"first": "norms/0", "deep": "norms/1", "wide": "norms/2", "last": None}


class Net(nnx.Module):
    """A convolution, a depthwise and a grouped one, each with a norm, and a layer."""

    def __init__(self, rngs, train=False):
        self.first = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.deep = nnx.Conv(6, 6, (3, 3), feature_group_count=6, rngs=rngs)
        self.wide = nnx.Conv(6, 8, (1, 1), feature_group_count=2, rngs=rngs)
        self.norms = nnx.List(
            [
                nnx.BatchNorm(width, use_running_average=not train, rngs=rngs)
                for width in (6, 6, 8)
            ]
        )
        self.last = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images):
        layers = (self.first, self.deep, self.wide)
        for layer, norm in zip(layers, self.norms, strict=True):
            images = jnp.tanh(norm(layer(images)))
        return self.last(jnp.mean(images, (1, 2)))


@functools.cache
def network(train=False):
    """Split a network whose parameters are all drawn, and draw some images."""
    graph, state = nnx.split(Net(nnx.Rngs(0), train))
    random = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: (
            jnp.asarray(random.uniform(0.3, 1, leaf.shape), jnp.float32)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        state,
    )
    images = jnp.asarray(random.normal(size=(5, 6, 6, 3)), jnp.float32)
    return graph, state, images


@functools.cache
def runner(train=False):
    """Compile the network, weighted."""
    graph, _, _ = network(train)
    return jax.jit(lambda state, images: nnx.merge(graph, state)(images))


def moved(weights, seed=1):
    random = np.random.default_rng(seed)
    return {
        name: (1 + 0.3 * random.normal(size=leaf.shape)).astype(np.float32)
        for name, leaf in weights.items()
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_network_starts_as_it_was_and_folds(mode):
    _, state, images = network()
    start = filters.init(state, mode=mode, pairing=PAIRING)
    for one, other in zip(
        jax.tree.leaves(filters.apply(state, start)),
        jax.tree.leaves(state),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    weights = moved(start)
    folded = filters.fold(state, weights)
    run = runner()
    expected = run(filters.apply(state, weights), images)
    np.testing.assert_allclose(run(folded, images), expected, rtol=1e-6, atol=1e-6)
    assert np.abs(expected - run(state, images)).max() > 0.01
    back = run(filters.unfold(folded, weights), images)
    np.testing.assert_allclose(back, run(state, images), rtol=1e-5, atol=1e-5)


def test_which_weights_there_are():
    _, state, _ = network()
    shapes = {
        mode: {
            name: leaf.shape
            for name, leaf in filters.init(state, mode=mode, pairing=PAIRING).items()
        }
        for mode in MODES
    }
    outputs = {
        "norms/0/output": (6,),
        "norms/1/output": (6,),
        "norms/2/output": (8,),
        "last/output": (4,),
    }
    # A depthwise kernel sees one channel; one of two groups the third part of six.
    inputs = {"first/input": (3,), "wide/input": (3,), "last/input": (8,)}
    assert shapes["output"] == outputs
    assert shapes["input"] == inputs
    assert shapes["output+input"] == outputs | inputs
    assert shapes["filter"] == {
        "first/filter": (3, 6),
        "norms/1/gain": (6,),
        "wide/filter": (3, 8),
        "last/filter": (8, 4),
    }
    gains = {name.replace("output", "gain"): size for name, size in outputs.items()}
    assert shapes["kronecker"] == gains | inputs


@pytest.mark.exhaustive
def test_gradient_reaches_every_weight_in_training_and_adapters_share_a_batch():
    _, state, images = network(train=True)
    target = jnp.asarray(np.random.default_rng(3).normal(size=(5, 4)), jnp.float32)
    start = filters.init(state, pairing=PAIRING)

    def loss(weights):
        return jnp.sum(runner(True)(filters.apply(state, weights), images) * target)

    each = [moved(start, seed) for seed in (1, 2)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    found = jax.vmap(jax.grad(loss))(together)
    for place, weights in enumerate(each):
        for name, leaf in jax.grad(loss)(weights).items():
            assert np.abs(leaf).min() > 1e-6, name
            np.testing.assert_allclose(
                found[name][place], leaf, rtol=1e-4, atol=1e-4, err_msg=name
            )


def test_kernels_with_swapped_axes_are_refused():
    def state(transposed):
        layer = nnx.ConvTranspose(
            3, 5, (2, 2), transpose_kernel=transposed, rngs=nnx.Rngs(0)
        )
        return nnx.split(layer)[1]

    assert filters.init(state(False))["output"].shape == (5,)
    with pytest.raises(ValueError, match="transpose_kernel=True") as caught:
        filters.init(state(True))
    assert str(caught.value).count(". ") == 0

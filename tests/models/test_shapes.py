"""Shapes of variables are those of the module's own `init`."""

import jax
import jax.numpy as jnp
import pytest

from unlir_jax import tree
from unlir_jax.models import part_network, zoo
from unlir_jax.models.shapes import shapes


def described(leaves):
    return {path: (leaf.shape, leaf.dtype) for path, leaf in leaves.items()}


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "efficientnet_lite0", "vgg11", "vgg11_bn", "resnet50"]
)
@pytest.mark.parametrize("parts", [False, True])
def test_shapes_are_those_of_init(name, parts):
    module = zoo.find(name)[1].build(num_classes=2)
    if parts:
        module = part_network.assemble(
            module, {"name": "descriptors", "parts": 4}, 7, 64
        )
    example = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    initial = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), example)
    assert described(shapes(module, 64)) == described(tree.flatten(initial))

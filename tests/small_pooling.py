"""Tiny networks that pool by attention."""

import jax
import numpy as np

from unlir_jax import split, tree
from unlir_jax.models import attention_pooling
from unlir_jax.models.resnet import Basic, ResNet

SIDE = 16
STAGES = ("layer1", "layer2")
WANTED = {
    "ca_stream": {"name": "ca_stream"},
    "one block": {"name": "ca_stream", "stages": ""},
    "simpool": {"name": "simpool"},
    "simpool, no gamma": {"name": "simpool", "gamma": 0.0, "shifted": True},
    "efficient_probing": {"name": "efficient_probing", "queries": 4},
}


def backbone(classes=5):
    """Build a residual network of two stages, of 4 and 8 channels."""
    return ResNet(Basic, (1, 1), 4, "cifar", num_classes=classes)


def network(wanted="ca_stream", classes=5):
    """Assemble a network and cut it at its last maps."""
    asked = WANTED[wanted]
    module = attention_pooling.assemble(backbone(), asked, classes, SIDE, STAGES)
    model = split.from_methods(module, "features_at", "head_at", mean=module.mean)

    def scores(variables, images):
        return module.apply(variables, images, method="scores")

    return module, model._replace(pooling=scores)


def variables(module, seed=0):
    """Draw variables of order 1 by NumPy, so that only their shapes are traced."""
    example = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), example)
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        if path.endswith(("scale", "var")):
            return 1 + random.random(leaf.shape).astype(np.float32)
        fan = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 1
        return (1.5 * random.normal(size=leaf.shape) / fan).astype(np.float32)

    drawn = {path: draw(path, leaf) for path, leaf in tree.flatten(shapes).items()}
    return tree.unflatten(drawn)

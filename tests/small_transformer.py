"""A tiny vision transformer, for what explains by attention."""

import jax
import numpy as np

from unlir_jax import split
from unlir_jax.models.vision_transformer import VisionTransformer

SIZES = {"patch_size": 4, "width": 8, "depth": 2, "heads": 2, "inner": 12}


def network(classes=5, **attributes):
    """Cut a transformer at its last norm, with what reads its attention."""
    module = VisionTransformer(**SIZES, num_classes=classes, **attributes)
    model = split.from_methods(
        module, "features_at", "head_at", mean=module.mean, layer="norm"
    )
    apply = split.attention.of_linen(module.apply, module.leading, "classify_mean")
    return module, model._replace(attention=apply)


def variables(module, side=16, seed=0):
    """Draw variables of order 1 by NumPy, so that only their shapes are traced."""
    example = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), example)
    random = np.random.default_rng(seed)

    def draw(leaf):
        fan = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 1
        return (2 * random.normal(size=leaf.shape) / fan).astype(np.float32)

    return jax.tree.map(draw, shapes)

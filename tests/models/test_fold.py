import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy

from unlir_jax import tree
from unlir_jax.models import drawing, fold, zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "golden" / "backbones"))

import random_state  # noqa: E402


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name",
    tiers.by_tier(["mobilenet_v2", "resnet18", "vgg11_bn", "vgg11"], {"resnet18"}),
)
def test_folding_changes_nothing_but_the_arrays(name):
    _, network = zoo.find(name)
    module = network.build(num_classes=6)
    images = jnp.asarray(random_state.images(64, 64))
    variables = drawing.random_variables(module, network)
    # Norms as after training: nothing is zero or one.
    random = np.random.default_rng(1)
    variables = tree.map_with_path(
        lambda path, leaf: (
            random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            if "norm" in path
            else leaf
        ),
        variables,
    )
    expected = jax.jit(module.apply)(variables, images)
    folded, arrays = fold.fold_batchnorm(module, variables)
    found = jax.jit(folded.apply)(arrays, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.std(expected))
    assert set(arrays) == {"params"}
    assert not [path for path in tree.flatten(arrays) if "norm" in path]
    shapes = jax.eval_shape(folded.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, arrays)


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match="backbone of"):
        fold.fold_batchnorm(toy.Plain(), {"params": {}})
    _, network = zoo.find("cifar_resnet20")
    module = network.build()
    variables = drawing.random_variables(module, network)
    with pytest.raises(ValueError, match="batch_stats"):
        fold.fold_batchnorm(module, {"params": variables["params"]})

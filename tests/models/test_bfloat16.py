"""Networks in bfloat16 give what they give in float32, as one compiled program.

On CPU, XLA 0.12.0.1 merges ReLUs and what pools them wrongly, see
`unlir_jax.core.compilation` and findings/xla_cpu_bfloat16_relu_of_a_sum.sh.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unlir_jax
from unlir_jax.core import compilation
from unlir_jax.models import layers, zoo

ROOT = Path(__file__).parents[2]
SIZE = 32
# One of each kind of block, stem and head; others have more of the same.
KINDS = (
    *("cifar_resnet8", "cifar_resnet8_option_a", "resnet18", "resnet50"),
    *("vgg11", "vgg11_bn", "efficientnet_lite0"),
)
# They have no norms of batches, and tests of their own.
WITHOUT_BATCHES = "VisionTransformer", "Swin", "ConvNeXt", "CaiT", "XCiT"
WITHOUT_BATCHES += "BCosNet", "Strided"
DECISIONS = {
    "descriptors": {"parts": 4},
    "bag": {"parts": 4},
    "prototypes": {"per_class": 2},
    "landmarks": {"parts": 4},
}


def pair(name, **settings):
    """Build a network in float32 and in bfloat16, with the same variables."""
    loaded = unlir_jax.load(name, "random", num_classes=5, **settings)
    module = loaded.module
    style = module.style._replace(dtype=jnp.bfloat16)
    return module, layers.with_style(module, style), loaded.variables


def images(count=2):
    random = np.random.default_rng(0)
    return random.random((count, SIZE, SIZE, 3), dtype=np.float32)


def logits(module, variables):
    program = jax.jit(lambda variables, images: module.apply(variables, images))
    return np.asarray(program(variables, images()))


def assert_alike(wide, narrow, variables):
    expected, found = logits(wide, variables), logits(narrow, variables)
    assert np.isfinite(found).all()
    # 8 bits a number, and rounding that adds up over some 50 layers.
    spread = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=0.1 * spread)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", KINDS)
def test_logits_of_one_program_are_those_of_float32(name):
    assert_alike(*pair(name))


@pytest.mark.exhaustive
@pytest.mark.parametrize("pooling", ["max", "gem"])
def test_pooling_is_compiled_apart(pooling):
    wide, narrow, variables = pair("cifar_resnet8")
    one, two = (layers.with_pooling(module, pooling) for module in (wide, narrow))
    assert_alike(one, two, variables)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", DECISIONS)
def test_logits_of_part_networks_are_those_of_float32(name):
    decision = {"name": name, "layer": "layer2", **DECISIONS[name]}
    assert_alike(*pair("cifar_resnet8", decision=decision))


@pytest.mark.exhaustive
def test_a_training_step_is_that_of_float32():
    wide, narrow, variables = pair("cifar_resnet8")

    def step(module):
        def loss(params):
            found, _ = module.apply(
                {**variables, "params": params},
                images(8),
                train=True,
                mutable=["batch_stats"],
            )
            return -jnp.mean(jax.nn.log_softmax(found)[:, 0])

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    (expected, slopes), (found, other) = step(wide), step(narrow)
    np.testing.assert_allclose(found, expected, rtol=0.05)
    for one, two in zip(jax.tree.leaves(slopes), jax.tree.leaves(other), strict=True):
        assert np.isfinite(two).all()
        assert np.linalg.norm(two - one) < 0.2 * np.linalg.norm(one) + 1e-3


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "layer_cam"])
def test_maps_are_those_of_float32(method):
    explain = unlir_jax.saliency.METHODS[method]
    found = []
    for dtype in (None, jnp.bfloat16):
        loaded = unlir_jax.load("cifar_resnet8", "random", num_classes=5, dtype=dtype)
        given = loaded.variables, images(), np.asarray([1, 2])
        found.append(np.asarray(explain(loaded.model)(*given), np.float32))
    assert np.linalg.norm(found[1] - found[0]) < 0.1 * np.linalg.norm(found[0])


@pytest.mark.process
def test_a_program_of_its_own_flags_gives_numbers():
    """Compile as users do: the tests' own processes optimise less."""
    code = (
        "import jax, numpy as np, unlir_jax\n"
        "q = unlir_jax.load('cifar_resnet8', 'random', dtype='bfloat16')\n"
        "x = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)\n"
        "found = jax.jit(lambda v, x: q.module.apply(v, x))(q.variables, x)\n"
        "print(bool(np.isfinite(found).all()))\n"
    )
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert run.stdout == "True\n", run.stderr


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("how", layers.POOLS)
def test_nan_survives_a_relu_and_what_pools_it(how, dtype):
    def pooled(maps):
        return layers.pool(jax.nn.relu(maps), how)

    maps = jnp.full((2, 4, 4, 8), jnp.nan, dtype)
    assert np.isnan(jax.jit(pooled)(maps)).all()


def test_the_largest_of_nan_is_nan():
    values = jnp.ones((2, 4, 4, 8)).at[1, 2, 3, 4].set(jnp.nan)
    found = jax.jit(lambda values: compilation.largest(values, (1, 2)))(values)
    assert np.isnan(found).sum() == 1 and np.isnan(found[1, 4])


def test_every_family_of_the_zoo_is_among_the_kinds():
    def family(name):
        return re.sub(r"[0-9]+(?=_option_a$|$)", "", name)

    plain = {family(name) for name in KINDS}
    known = {
        family(name.removeprefix("timm_").removesuffix("_bn"))
        for name, network in zoo.networks().items()
        if type(network.build()).__name__ not in WITHOUT_BATCHES
    }
    assert known <= plain | {"mobilenet_v", "cifar_mobilenet_v", "vgg"}

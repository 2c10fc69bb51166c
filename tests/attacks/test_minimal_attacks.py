"""Attacks without a budget against adv-lib, closed forms and their own promises."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from unlir_jax import attacks, split
from unlir_jax.attacks import losses, minimal

GOLDEN = Path(__file__).parents[1] / "golden/minimal_attacks/minimal_attacks.npz"
NORMS = "l2", "linf", "l1", "l0"
CW = {"searches": 5, "steps": 100, "constant": 0.1, "abort_early": False}
CASES = {
    "ddn": (attacks.ddn, {"steps": 60, "quantise": False}),
    "ddn_quantised": (attacks.ddn, {"steps": 60}),
    "fmn_l2": (attacks.fmn, {"norm": "l2", "steps": 60}),
    "fmn_linf": (attacks.fmn, {"norm": "linf", "steps": 60, "alpha": 10.0}),
    "fmn_l1": (attacks.fmn, {"norm": "l1", "steps": 60}),
    "fmn_l0": (attacks.fmn, {"norm": "l0", "steps": 60}),
    "deepfool_l2": (attacks.deepfool, {"norm": "l2"}),
    "deepfool_linf": (attacks.deepfool, {"norm": "linf"}),
    "carlini_wagner": (attacks.carlini_wagner, CW),
}
FAST = "ddn_quantised", "fmn_l2", "deepfool_l2"


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def features(variables, images):
    maps = images
    for name in ("conv0", "conv1"):
        maps = jax.lax.conv_general_dilated(
            *(maps, variables[name + ".weight"], (2, 2), ((1, 1), (1, 1))),
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
        )
        maps = jax.nn.relu(maps + variables[name + ".bias"][None, None, None])
    return maps


def head(variables, maps):
    vectors = maps.reshape((len(maps), -1))
    for name in ("dense0", "dense1"):
        vectors = vectors @ variables[name + ".weight"].T
        vectors = vectors + variables[name + ".bias"][None]
        vectors = jax.nn.relu(vectors) if name == "dense0" else vectors
    return vectors


MODEL = split.from_functions(features, head)


def world(dtype=np.float64):
    facts = golden()
    names = [name for name in facts if name.endswith((".weight", ".bias"))]
    variables = {name: jnp.asarray(facts[name], dtype) for name in names}
    images = jnp.asarray(facts["levels"] / 255, dtype)
    return variables, images, jnp.asarray(facts["labels"])


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_the_network_is_the_one_of_the_reference(double):
    variables, images, _ = world()
    logits = split.whole(MODEL)(variables, images)
    np.testing.assert_allclose(logits, golden()["logits"], atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.exhaustive)
        for name in [*CASES, *(n + "/targeted" for n in CASES)]
        if name in golden()
    ],
)
def test_distortions_are_those_of_adv_lib(double, name):
    factory, settings = CASES[name.split("/")[0]]
    variables, images, labels = world()
    targets = jnp.asarray(golden()["targets"]) if "targeted" in name else None
    attack = factory(MODEL, **settings)
    found = attack(variables, images, labels, targets=targets)
    told = attacks.outcome(MODEL)(variables, images, found, labels, targets=targets)
    success = golden()[name + "/success"]
    print(name, success.mean(), np.mean(told["success"]))
    both = success & np.asarray(told["success"])
    for column, norm in enumerate(NORMS):
        print(norm, golden()[name][both, column].mean(), np.mean(told[norm][both]))
    norm = settings.get("norm", "l2")
    expected = golden()[name][success, NORMS.index(norm)].mean()
    np.testing.assert_array_equal(told["success"], success)
    np.testing.assert_allclose(np.mean(told[norm][success]), expected, rtol=0.02)

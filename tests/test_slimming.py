"""Networks that lose channels while what is left learns."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import pruning
from unlir_jax.few_shot import adapter_training
from unlir_jax.models import inverted_residual
from unlir_jax.models.inverted_residual import Stage
from unlir_jax.pruning.choice import Choice

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import iterative_pruning  # noqa: E402


@pytest.fixture(scope="module")
def network():
    module = inverted_residual.InvertedResidualNet(
        (Stage(1, 8, 1, 1), Stage(4, 12, 2, 2), Stage(4, 16, 1, 2)),
        stem=16,
        top=20,
        num_classes=5,
    )
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    return module, jax.tree.map(np.asarray, variables)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)


def adapted(network):
    module, variables = network
    random = np.random.default_rng(1)
    head = {
        "kernel": random.normal(size=(20, 3)).astype(np.float32),
        "bias": np.zeros(3, np.float32),
    }
    plan = adapter_training.Plan(batch_size=8, learning_rate=3e-3)
    return iterative_pruning.Adapted("mobilenet_v2", module, variables, head, plan)


def test_a_network_loses_channels_in_rounds_and_learns_what_it_said(network, pixels):
    start = adapted(network)
    labels = np.arange(24) % 3
    course = iterative_pruning.Course(
        shares=(0.25, 0.5), steps=(2, 40), keep_at_least=2, after="block1"
    )
    whole = sum(pruning.graph(start.module).channels.values())
    before = iterative_pruning.probabilities(start, pixels)
    spoken: list[str] = []
    found = list(
        iterative_pruning.slim(start, pixels, labels, course, say=spoken.append)
    )
    for each, share in zip(found, course.shares, strict=True):
        left = sum(pruning.graph(each.module).channels.values())
        assert left == round((1 - share) * whole)
    assert len(spoken) == 2
    still = course._replace(steps=(0, 0))
    (_, unlearnt) = iterative_pruning.slim(start, pixels, labels, still)
    errors = [
        -np.mean(before * np.log(iterative_pruning.probabilities(each, pixels))).sum()
        for each in (unlearnt, found[-1])
    ]
    assert errors[1] < errors[0]
    with pytest.raises(ValueError, match="expected rising numbers"):
        next(
            iterative_pruning.slim(
                start, pixels, labels, course._replace(shares=(0.5, 0.2))
            )
        )
    with pytest.raises(ValueError, match="2 numbers from 0"):
        next(iterative_pruning.slim(start, pixels, labels, course._replace(steps=(1,))))


def test_reconstruction_undoes_what_regression_can(network, pixels):
    module, variables = network
    images = pixels.astype(np.float32) / 255
    batches = [images[:12], images[12:]]
    graph = pruning.graph(module)
    keep = {layer: np.arange(n) % 3 > 0 for layer, n in graph.channels.items()}
    choice = Choice(graph, keep)
    moments = pruning.measure(module, variables, batches)
    better = pruning.compensate(variables, choice, moments)
    best = pruning.reconstruct(module, variables, choice, moments, batches)
    features = jax.jit(lambda known: module.apply(known, images, method="features"))
    whole = features(variables)
    errors = [
        float(jnp.mean(jnp.square(features(known) - whole)))
        for known in (
            pruning.mask(variables, choice),
            pruning.mask(better, choice),
            best,
        )
    ]
    assert errors[2] < errors[1] < errors[0]
    narrower, arrays = pruning.remove(module, best, choice)
    np.testing.assert_allclose(
        narrower.apply(arrays, images, method="features"), features(best), atol=1e-5
    )
    all_of_them = Choice(
        graph, {layer: np.ones(n, bool) for layer, n in graph.channels.items()}
    )
    same = pruning.reconstruct(module, variables, all_of_them, moments, batches)
    np.testing.assert_allclose(features(same), whole, atol=1e-4)
    with pytest.raises(ValueError, match="`batches` is empty"):
        pruning.reconstruct(module, variables, choice, moments, [])

"""Heads of attention and neurons go, and what is left computes what it did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers

import unlir_jax
from unlir_jax import pruning, saliency, split, tree
from unlir_jax.models import (
    backbone,
    convnext,
    drawing,
    part_network,
    pretrained,
    swin,
    zoo,
)
from unlir_jax.models.vision_transformer import VisionTransformer
from unlir_jax.pruning.choice import Choice

NAME = "small_pruned"
SIZES = {"width": 32, "depth": 2, "heads": 4, "inner": 24, "patch_size": 8}
MODULES = {
    "plain": VisionTransformer(**SIZES, num_classes=5),
    "gated": VisionTransformer(
        **SIZES, num_classes=5, gated=True, normalized=True, registers=2, scale=0.1
    ),
    "swin": swin.Swin(8, (1, 2), (2, 4), window=4, num_classes=5),
    "convnext": convnext.ConvNeXt((1, 1), (8, 12), 0.1, num_classes=5),
}


def drawn(module):
    """Draw weights of which no scale or bias is one or zero."""
    random = np.random.default_rng(1)

    def draw(path, leaf):
        name = path.rpartition("/")[2]
        if name in ("bias", "scale", "factor"):
            return random.uniform(0.3, 1.2, leaf.shape).astype(np.float32)
        return leaf

    known = drawing.random_variables(module, zoo.find("cifar_resnet8")[1])
    return tree.map_with_path(draw, known)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).random((4, 32, 32, 3), np.float32)


def at_random(graph, seed=0):
    random = np.random.default_rng(seed)
    keep = {layer: random.random(n) < 0.5 for layer, n in graph.channels.items()}
    for layer, chosen in keep.items():
        chosen[0], chosen[-1] = True, False
        assert graph.channels[layer] > 1
    return Choice(graph, keep)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier(list(MODULES), {"gated", "swin"}))
def test_what_is_left_computes_what_the_masked_one_does(name, images):
    module = MODULES[name]
    variables, graph = drawn(module), pruning.graph(module)
    choice = at_random(graph)
    masked = pruning.mask(variables, choice)
    narrower, arrays = pruning.remove(module, variables, choice)
    expected = jax.jit(module.apply)(masked, images[:2])
    found = jax.jit(narrower.apply)(arrays, images[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, jax.jit(module.apply)(variables, images[:2]))
    assert pruning.flops(narrower, 32) < pruning.flops(module, 32)
    assert pruning.graph(narrower).channels == {
        layer: int(keep.sum()) for layer, keep in choice.keep.items()
    }


@pytest.mark.exhaustive
def test_heads_whose_output_is_zero_can_go(images):
    module = MODULES["plain"]
    variables, graph = drawn(module), pruning.graph(module)
    layer = "block1/attention/value"
    leaves = tree.flatten(variables)
    path = "params/block1/attention/output/kernel"
    leaves[path] = np.array(leaves[path])
    leaves[path][8:24] = 0
    silent = tree.unflatten(leaves)
    keep = {layer: np.array([True, False, False, True])}
    narrower, arrays = pruning.remove(module, silent, Choice(graph, keep))
    assert narrower.widths == (4, 24, 2, 24)
    expected = jax.jit(module.apply)(silent, images)
    found = jax.jit(narrower.apply)(arrays, images)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # These are the heads that all scores find to count least.
    given = {"moments": pruning.measure(module, silent, [images])}
    labels = np.arange(4)
    given["gradients"] = pruning.gate_gradients(module, silent, images, labels)
    for kind in ("taylor", "activation", "unpredictable", "sensitive"):
        scores = pruning.scores(silent, graph, kind, **given).values[layer]
        np.testing.assert_allclose(scores[1:3], 0, atol=1e-6)
        assert (scores[[0, 3]] > 1e-4).all(), kind


@pytest.mark.exhaustive
def test_gates_of_heads_are_those_of_their_values(images):
    """A head is linear in its values, so the gate can sit on their kernel as well."""
    module = MODULES["swin"]
    variables, labels = drawn(module), np.arange(4)
    found = pruning.gate_gradients(module, variables, images, labels)
    flat = tree.flatten(variables)
    layer = "stage1/block0/attention/value"

    @jax.jit
    @jax.grad
    def slow(gate, image, label):
        leaves = dict(flat)
        for name in ("kernel", "bias"):
            path = f"params/{layer}/{name}"
            leaves[path] = leaves[path] * jnp.repeat(gate, 4).reshape(
                (1,) * (np.ndim(leaves[path]) - 1) + (-1,)
            )
        logits = module.apply(tree.unflatten(leaves), image[None])[0]
        return jax.nn.logsumexp(logits) - logits[label]

    for index in range(4):
        expected = slow(jnp.ones(4), images[index], labels[index])
        np.testing.assert_allclose(found[layer][index], expected, rtol=1e-3, atol=1e-6)


def test_scores_of_heads_and_neurons_are_what_they_say(images):
    module = MODULES["gated"]
    variables, graph = drawn(module), pruning.graph(module)
    leaves = tree.flatten(variables["params"])
    moments = pruning.measure(module, variables, [images[:3], images[3:]])
    heads, neurons = "block0/attention/value", "block0/mlp/expand"
    assert moments[heads].covariance.shape == (32, 32)

    def of(kind, layer):
        return pruning.scores(variables, graph, kind, moments=moments).values[layer]

    value = np.asarray(leaves[f"{heads}/kernel"], np.float64)
    norms = np.array([np.linalg.norm(value[:, h * 8 : h * 8 + 8]) for h in range(4)])
    np.testing.assert_allclose(of("magnitude_l2", heads), norms / norms.mean())
    both = [np.asarray(leaves[f"block0/mlp/{n}/kernel"]) for n in ("expand", "gate")]
    product = np.prod([np.abs(k).sum(0) for k in both], axis=0)
    found = of("magnitude_l1", neurons)
    np.testing.assert_allclose(found, product / product.mean(), rtol=1e-5)
    # What is left of head 1, given all others, by a regression written out.
    covariance = moments[heads].covariance
    covariance = covariance + 1e-3 * np.trace(covariance) / 32 * np.eye(32)
    own, rest = np.arange(8, 16), np.delete(np.arange(32), np.arange(8, 16))
    cross = covariance[np.ix_(own, rest)]
    left = covariance[np.ix_(own, own)] - cross @ np.linalg.solve(
        covariance[np.ix_(rest, rest)], cross.T
    )
    read = np.asarray(leaves["block0/attention/output/kernel"], np.float64)[own]
    expected = np.sqrt(np.trace(read.T @ left @ read) / 32)
    np.testing.assert_allclose(of("unpredictable", heads)[1], expected, rtol=1e-5)


@pytest.mark.exhaustive
def test_what_goes_is_made_up_for(images):
    module = MODULES["plain"]
    variables, graph = drawn(module), pruning.graph(module)
    moments = pruning.measure(module, variables, [images])
    scores = pruning.scores(variables, graph, "activation", moments=moments)
    choice = pruning.choose(scores, 0.3, "layer")
    whole = np.asarray(jax.jit(module.apply)(variables, images))
    errors = {}
    for kind in ("", "mean", "linear"):
        known = variables
        if kind:
            known = pruning.compensate(variables, choice, moments, kind)
        narrower, arrays = pruning.remove(module, known, choice)
        found = np.asarray(jax.jit(narrower.apply)(arrays, images))
        errors[kind] = np.linalg.norm(found - whole)
    assert errors["linear"] < 0.5 * errors["mean"] < 0.5 * errors[""]


@pytest.fixture
def network():
    """Load a small network for one test."""
    backbone.NETWORKS.pop(NAME, None)
    small.register(NAME, "timm_deit3", 32)
    yield pretrained.load(NAME, "random", seed=1)
    backbone.NETWORKS.pop(NAME, None)


@pytest.mark.exhaustive
def test_a_pruned_network_is_kept_and_explained(network, images, tmp_path):
    graph = pruning.graph(network.module)
    scores = pruning.scores(network.variables, graph, "magnitude_l2")
    less = pruning.prune(network, pruning.choose(scores, 0.4, "layer"))
    assert tree.count(less.variables) < tree.count(network.variables)
    assert less.module.widths == (1, 77, 1, 77)
    pruning.save(less, tmp_path)
    again = unlir_jax.load(str(tmp_path))
    assert again.module == less.module and again.layer == less.layer
    for each in (split.whole(again.model), jax.jit(again.module.apply)):
        found = each(again.variables, images[:2])
        expected = jax.jit(less.module.apply)(less.variables, images[:2])
        np.testing.assert_allclose(found, expected, atol=1e-6)
    explain = saliency.attention_rollout(again.model)
    maps = explain(again.variables, images[:1], jnp.zeros(1, int))
    assert maps.shape == (1, 4, 4) and np.isfinite(maps).all()


def test_a_part_network_keeps_what_its_parts_read(network):
    decision = {"name": "bag", "layer": "block0", "parts": 3}
    module = part_network.assemble(network.module, decision, 5, 32)
    graph = pruning.graph(module)
    assert "backbone/block1/attention/value" in graph.channels
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.float32)
    )
    unlir_jax.models.channels.check(graph, shapes)
    narrower = unlir_jax.models.channels.widen(module, (1, 5, 2, 7))
    assert narrower.backbone.widths == (1, 5, 2, 7)


def test_multiply_adds_of_transformers_are_the_published_ones():
    # GFLOPs in the tables of DeiT (ICML 2021), Swin and ConvNeXt.
    published = {
        "deit_small_patch16_224": 4.6,
        "swin_tiny_patch4_window7_224": 4.5,
        "convnext_tiny": 4.5,
    }
    for name, billions in published.items():
        found = pruning.flops(zoo.find(name)[1].build(), 224) / 1e9
        assert found == pytest.approx(billions, abs=0.06), name

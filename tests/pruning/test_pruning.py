import functools
import importlib.util
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from helpers import applied

import unlir_jax
from unlir_jax import pruning, saliency, split, tree
from unlir_jax.models import (
    calls,
    channels,
    drawing,
    fold,
    inverted_residual,
    part_network,
    pretrained,
    resnet,
    vgg,
    zoo,
)
from unlir_jax.models.inverted_residual import Stage
from unlir_jax.pruning.choice import Choice, _by_layer
from unlir_jax.weights import exported, readers

FAMILIES = (
    "mobilenet_v2",
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    "cifar_resnet20",
    "cifar_resnet50",
    "vgg11",
    "vgg11_bn",
)


def shapes_of(module, size=32):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def trained(module, network, seed=0):
    """Draw weights whose norms are as after training: nothing is zero or one."""
    random = np.random.default_rng(seed)
    low = {"scale": 0.5, "bias": -0.5, "mean": -0.5, "var": 0.5}

    def draw(path, leaf):
        name = path.rpartition("/")[2]
        if "norm" not in path:
            return leaf
        return random.uniform(low[name], 1.5, leaf.shape).astype(np.float32)

    return tree.map_with_path(draw, drawing.random_variables(module, network, seed))


def build(name, **attributes):
    _, network = zoo.find(name)
    module = network.build(num_classes=5, **attributes)
    return module, trained(module, network)


def toy(name):
    """Build a family's smallest member; its shapes are drawn like a real one's."""
    modules = {
        "toy_inverted": inverted_residual.InvertedResidualNet(
            (Stage(1, 8, 1, 1), Stage(4, 12, 2, 2), Stage(4, 16, 1, 2, 5)),
            stem=16,
            top=20,
            num_classes=5,
        ),
        "toy_bottleneck": resnet.ResNet(
            resnet.Bottleneck, (2, 1), 8, "cifar", num_classes=5
        ),
        "toy_vgg": vgg.VGG((1, 2, 1, 1, 1), num_classes=5),
    }
    network = zoo.find("cifar_resnet8")[1]  # For the size of its pictures.
    return modules[name], trained(modules[name], network)


@pytest.fixture(scope="module")
def small():
    return build("cifar_resnet8")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).random((4, 32, 32, 3), np.float32)


def at_random(graph, seed=0):
    random = np.random.default_rng(seed)
    keep = {}
    for layer, count in graph.channels.items():
        keep[layer] = random.random(count) < 0.5
        keep[layer][0] = True
    return Choice(graph, keep)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier(FAMILIES, 2))
def test_the_graph_knows_what_the_shapes_become(name):
    module = zoo.networks()[name].build(num_classes=5)
    shapes, graph = shapes_of(module), pruning.graph(module)
    choice = at_random(graph)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), shapes)
    narrower, arrays = pruning.remove(module, variables, choice)
    assert jax.tree.map(jnp.shape, shapes_of(narrower)) == jax.tree.map(
        jnp.shape, arrays
    )
    assert pruning.graph(narrower).channels == {
        layer: int(keep.sum()) for layer, keep in choice.keep.items()
    }
    assert pruning.flops(narrower, 32) < 0.8 * pruning.flops(module, 32)


@pytest.mark.parametrize(
    "name",
    [
        "toy_bottleneck",
        pytest.param("toy_inverted", marks=pytest.mark.exhaustive),
        pytest.param("toy_vgg", marks=pytest.mark.exhaustive),
        pytest.param("resnet18", marks=pytest.mark.exhaustive),
    ],
)
def test_a_pruned_network_computes_what_the_masked_one_does(name, images, monkeypatch):
    if name == "toy_vgg":
        monkeypatch.setattr(vgg, "WIDTHS", (4, 4, 8, 8, 8))
    module, variables = toy(name) if name.startswith("toy") else build(name)
    choice = at_random(pruning.graph(module))
    if "stem" in choice.keep:
        # It becomes as narrow as the first block's output: no sum may appear.
        choice.keep["stem"] = np.arange(len(choice.keep["stem"])) % 2 == 0
    masked = pruning.mask(variables, choice)
    narrower, arrays = pruning.remove(module, variables, choice)
    expected = jax.jit(module.apply)(masked, images[:2])
    found = jax.jit(narrower.apply)(arrays, images[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
    assert tree.count(arrays) < tree.count(masked)


@pytest.mark.exhaustive
@pytest.mark.parametrize("folded", tiers.by_tier([False, True], {False}))
def test_masked_channels_give_exactly_nothing(small, images, folded):
    module, variables = fold.fold_batchnorm(*small) if folded else small
    choice = at_random(pruning.graph(module))
    seen = {}

    def look(layer):
        return lambda values: seen.setdefault(layer, values)

    readers_of = {group.reader: look(group.layer) for group in choice.graph.groups}
    masked = pruning.mask(variables, choice)
    logits = calls.with_inputs(module, masked, images, readers_of)
    for layer, keep in choice.keep.items():
        values = np.asarray(seen[layer])
        assert not values[..., ~keep].any() and values[..., keep].any()
    narrower, arrays = pruning.remove(module, variables, choice)
    np.testing.assert_allclose(applied(narrower)(arrays, images), logits, atol=1e-5)


@pytest.mark.exhaustive
def test_multiply_adds_are_the_published_ones():
    # "GFLOPS" in the table of weights in torchvision's documentation.
    published = {"mobilenet_v2": 0.30, "resnet18": 1.81, "resnet50": 4.09}
    for name, billions in (published | {"vgg11": 7.61, "vgg16_bn": 15.47}).items():
        assert round(pruning.flops(zoo.find(name)[1].build(), 224) / 1e9, 2) == billions


def test_moments_are_those_of_what_is_read(small, images):
    module, variables = small
    found = pruning.measure(module, variables, [images[:3], images[3:]])
    capture = functools.partial(module.apply, capture_intermediates=True)
    _, seen = jax.jit(capture)(variables, images)
    for layer, (mean, covariance) in found.items():
        values = tree.flatten(seen)[f"intermediates/{layer}/__call__/0"]
        values = np.asarray(values, np.float64).reshape(-1, len(mean))
        np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5, atol=1e-6)
        slow = np.cov(values.T, bias=True)
        np.testing.assert_allclose(covariance, slow, atol=1e-5 * slow.max())


@pytest.mark.exhaustive
def test_gate_gradients_are_those_of_weights_on_the_norms(small, images):
    """ReLU lets a positive weight through, so the gate can sit on the norm as well."""
    module, variables = small
    labels = np.arange(4)
    found = pruning.gate_gradients(module, variables, images, labels)
    flat = tree.flatten(variables)

    @jax.jit
    @jax.grad
    def slow(gates, image, label):
        leaves = dict(flat)
        for layer, gate in gates.items():
            for name in ("scale", "bias"):
                path = f"params/{layer}/norm/{name}"
                leaves[path] = leaves[path] * gate
        logits = module.apply(tree.unflatten(leaves), image[None])[0]
        return jax.nn.logsumexp(logits) - logits[label]

    ones = {layer: jnp.ones(n) for layer, n in pruning.graph(module).channels.items()}
    for index in range(4):
        expected = slow(ones, images[index], labels[index])
        for layer, value in found.items():
            np.testing.assert_allclose(
                value[index], expected[layer], rtol=1e-3, atol=1e-5
            )


@pytest.mark.exhaustive
def test_gates_feel_the_loss_of_whatever_decides(small, images):
    module, variables = small
    labels = np.arange(4)

    def decide(maps):
        return module.apply(variables, maps, method="head")

    own = pruning.gate_gradients(module, variables, images, labels)
    beside = pruning.gate_gradients(module, variables, images, labels, decide)
    doubled = pruning.gate_gradients(
        module, variables, images, labels, lambda maps: 2 * decide(maps)
    )
    for layer, values in own.items():
        np.testing.assert_allclose(beside[layer], values, atol=1e-6)
        assert not np.allclose(doubled[layer], values, atol=1e-4)


def test_scores_are_what_they_say(small, images):
    module, variables = small
    graph = pruning.graph(module)
    moments = pruning.measure(module, variables, [images])
    layer = "layer2/block0/conv1"
    kernel = variables["params"]["layer2"]["block0"]["conv1"]["conv"]["kernel"]
    norm = variables["params"]["layer2"]["block0"]["conv1"]["norm"]
    gate = np.random.default_rng(1).normal(size=32)
    gradients = {key: np.ones((2, n)) for key, n in graph.channels.items()}
    gradients[layer] = np.stack([gate, -3 * gate])

    def of(kind, **given):
        return pruning.scores(variables, graph, kind, **given).values[layer]

    gates = {f"params/{layer}/conv": gate}
    np.testing.assert_allclose(of("weight", gates=gates), abs(gate))
    assert (of("weight", gates={"layer1/block0/conv1": np.zeros(16)}) == 1).all()
    expected = abs(gate * norm["scale"])
    np.testing.assert_allclose(of("weight_x_scale", gates=gates), expected)
    lengths = [abs(kernel[..., index]).sum() for index in range(32)]
    expected = lengths / np.mean(lengths)
    np.testing.assert_allclose(of("magnitude_l1"), expected, rtol=1e-5)
    np.testing.assert_allclose(of("taylor", gradients=gradients), 2 * abs(gate))
    # What the mean leaves of one channel, pushed through the layer that reads it.
    block = variables["params"]["layer2"]["block0"]
    running = variables["batch_stats"]["layer2"]["block0"]["conv2"]["norm"]["var"]
    reader = np.asarray(block["conv2"]["conv"]["kernel"]) / np.sqrt(running + 1e-5)
    reads = np.array(
        [np.sqrt((reader[:, :, c] ** 2).sum((0, 1)).mean()) for c in range(32)]
    )
    deviation = np.sqrt(np.diag(moments[layer].covariance))
    found = of("activation", moments=moments)
    np.testing.assert_allclose(found, deviation * reads, rtol=1e-4)
    # The same with the rest of a regression on all other channels.
    covariance = moments[layer].covariance
    covariance = covariance + 1e-3 * np.trace(covariance) / 32 * np.eye(32)
    found = of("unpredictable", moments=moments)
    for index in (0, 7, 31):
        other = np.arange(32) != index
        cross = covariance[other, index]
        factors = np.linalg.solve(covariance[np.ix_(other, other)], cross)
        rest = np.sqrt(covariance[index, index] - cross @ factors)
        np.testing.assert_allclose(found[index], rest * reads[index], rtol=1e-4)
    # What the loss feels of that rest.
    felt = of("sensitive", gradients=gradients, moments=moments)
    size = np.sqrt(np.diag(moments[layer].covariance) + moments[layer].mean ** 2)
    rest = 1 / np.sqrt(np.diag(np.linalg.inv(covariance)))
    share = [min(a / b, 1) if b else 0 for a, b in zip(rest, size, strict=True)]
    expected = np.sqrt(5) * abs(gate) * share
    np.testing.assert_allclose(felt, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="'sensitive' needs `gradients`"):
        of("sensitive", moments=moments)


@pytest.mark.parametrize(
    "name", tiers.by_tier(["toy_inverted", "toy_bottleneck", "toy_vgg"], 1)
)
def test_a_channel_costs_what_the_network_saves_without_it(name):
    module, _ = toy(name)
    graph = pruning.graph(module)
    whole, costs = pruning.flops(module, 64), pruning.each_channel(module, 64)
    assert set(costs) == set(graph.channels)
    for layer, cost in costs.items():
        keep = np.arange(graph.channels[layer]) > 0
        narrower = channels.widen(module, Choice(graph, {layer: keep}).widths)
        assert whole - pruning.flops(narrower, 64) == pytest.approx(cost)


def test_scores_per_cost_let_dear_channels_go_first(small):
    graph = pruning.graph(small[0])
    first, second, third = graph.channels
    ones = {layer: np.ones(count) for layer, count in graph.channels.items()}
    equal = pruning.Scores(graph, ones)
    costs = {first: 4.0, second: 1.0, third: 1.0}
    found = pruning.per_cost(equal, costs, 0.5)
    np.testing.assert_allclose(found.values[first], 0.5)
    np.testing.assert_array_equal(found.values[second], 1)
    assert pruning.choose(found, 15 / 112).widths == (1, 32, 64)
    with pytest.raises(ValueError, match="expected a number above 0"):
        pruning.per_cost(equal, {first: 4.0, second: 0.0, third: 1.0})


def test_where_two_convolutions_make_a_channel_both_weights_count():
    module = zoo.find("mobilenet_v2")[1].build(num_classes=5)
    variables = jax.tree.map(lambda s: np.ones(s.shape), shapes_of(module))
    gates = {
        "block3/expand": np.full(144, -2.0),
        "block3/depthwise/conv": np.linspace(0, 1, 144),
        "block3/project": np.ones(24),
    }
    graph = pruning.graph(module)
    found = pruning.scores(variables, graph, "weight", gates=gates).values
    np.testing.assert_allclose(found["block3/expand"], np.linspace(0, 2, 144))
    assert (found["stem"] == 1).all()


def test_choices_take_the_smallest(small):
    graph = pruning.graph(small[0])
    values = {
        layer: np.arange(n, dtype=float) + 100 * place
        for place, (layer, n) in enumerate(graph.channels.items())
    }
    scores = pruning.Scores(graph, values)
    first, second, third = values
    choice = pruning.choose(scores, 0.5, "layer")
    assert choice.widths == (8, 16, 32)
    assert (choice.keep[first] == (np.arange(16) >= 8)).all()
    choice = pruning.choose(scores, 0.25, keep_at_least=4)  # 28 of 112.
    assert choice.widths == (4, 16, 64)
    assert (choice.keep[second] == (np.arange(32) >= 16)).all()
    choice = pruning.choose(scores, 0.5, layers=[third])
    assert choice.widths == (16, 32, 32) and first not in choice.keep
    equal = pruning.Scores(graph, {k: np.ones(len(v)) for k, v in values.items()})
    for scope in ("global", "layer"):
        keep = pruning.choose(equal, 0.5, scope, layers=[third]).keep[third]
        assert (keep == (np.arange(64) < 32)).all()
    assert pruning.choose(scores, 0.0, "global").widths == (16, 32, 64)
    assert pruning.choose(scores, 0.99, "layer", keep_at_least=8).widths == (8, 8, 8)
    # torch-pruning removes nothing by 0.9 of ten channels, and nine by 0.8.
    ten = {"stem": np.arange(10.0)}
    left = [_by_layer(ten, share, 1)["stem"].sum() for share in (0.9, 0.8)]
    assert left == [1, 2]


def replaced(variables, path, leaf):
    leaves = tree.flatten(variables)
    return tree.unflatten(leaves | {f"{path}": leaf})


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", tiers.by_tier(["mean", "linear"], {"linear"}))
def test_a_channel_that_never_changes_goes_without_a_trace(kind, images):
    module, variables = toy("toy_inverted")
    layer = "block3"
    for maker in ("expand", "depthwise"):
        path = f"params/{layer}/{maker}/norm/"
        scale = np.array(tree.flatten(variables)[path + "scale"])
        scale[:3] = 0
        variables = replaced(variables, path + "scale", scale)
        variables = replaced(variables, path + "bias", np.full_like(scale, 0.7))
    apply = jax.jit(module.apply)
    graph = pruning.graph(module)
    choice = Choice(graph, {f"{layer}/expand": np.arange(48) >= 3})
    moments = pruning.measure(module, variables, [images])
    better = pruning.compensate(variables, choice, moments, kind)
    before = apply(variables, images)
    after = apply(pruning.mask(better, choice), images)
    np.testing.assert_allclose(after, before, atol=1e-4 * before.std())
    worse = apply(pruning.mask(variables, choice), images)
    assert abs(worse - before).max() > 1e-2 * before.std()


@pytest.mark.parametrize("folded", tiers.by_tier([False, True], {False}))
def test_a_copy_of_another_channel_goes_without_a_trace(small, images, folded):
    module, variables = fold.fold_batchnorm(*small) if folded else small
    layer = "layer1/block0/conv1"
    leaves = {path: np.array(leaf) for path, leaf in tree.flatten(variables).items()}
    for path, leaf in leaves.items():
        if f"/{layer}/" in path:
            leaf[..., 5] = leaf[..., 2]
    variables = tree.unflatten(leaves)
    choice = Choice(pruning.graph(module), {layer: np.arange(16) != 5})
    moments = pruning.measure(module, variables, [images])
    before = applied(module)(variables, images)
    errors = {"none": pruning.remove(module, variables, choice)}
    for kind in ("mean", "linear"):
        better = pruning.compensate(variables, choice, moments, kind)
        errors[kind] = pruning.remove(module, better, choice)
    errors = {
        kind: abs(applied(narrower)(arrays, images) - before).max() / before.std()
        for kind, (narrower, arrays) in errors.items()
    }
    assert errors["linear"] < 0.01 < errors["mean"] < errors["none"]


@pytest.mark.exhaustive
def test_a_pruned_network_saves_loads_and_explains_like_any_other(tmp_path, images):
    network = pretrained.load("cifar_resnet8", "random", num_classes=3)
    network = network._replace(class_names=("cat", "dog", "fox"))
    moments = pruning.measure(network.module, network.variables, [images])
    scores = pruning.scores(
        network.variables, pruning.graph(network.module), moments=moments
    )
    choice = pruning.choose(scores, 0.5, keep_at_least=2)
    pruned = pruning.prune(network, choice, moments)
    assert pruned.module.widths == choice.widths
    path = pruning.save(pruned, tmp_path)
    assert exported.purpose(path).network == "cifar_resnet8"
    again = unlir_jax.load(str(tmp_path))
    assert again.module == pruned.module and again.class_names == ("cat", "dog", "fox")
    assert tree.sha256(again.variables) == pruned.sha256
    explain = saliency.grad_cam(again.model)
    maps = explain(again.variables, jnp.asarray(images), jnp.zeros(4, int))
    assert maps.shape[0] == 4 and jnp.isfinite(maps).all()
    inner = pretrained.load("cifar_resnet8", path, layer="layer2/block0/conv1")
    assert inner.model.features(inner.variables, images[:1]).maps.shape[-1] == sum(
        choice.keep["layer2/block0/conv1"]
    )
    folded = pretrained.load("cifar_resnet8", path, fold=True, num_classes=3)
    np.testing.assert_allclose(
        split.whole(folded.model)(folded.variables, images),
        split.whole(pruned.model)(pruned.variables, images),
        atol=1e-4,
    )
    renewed = pretrained.load("cifar_resnet8", path, num_classes=7)
    assert renewed.module.widths == choice.widths
    with pytest.raises(FileExistsError, match="already"):
        pruning.save(pruned, tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        pruning.save(pruned, tmp_path / "none")
    with pytest.raises(ValueError, match="folded"):
        pruning.save(folded, tmp_path)


def test_a_stem_that_is_added_is_tied():
    net = inverted_residual.InvertedResidualNet((Stage(1, 8, 1, 1),), stem=8)
    graph = pruning.graph(net)
    assert graph.tied == (("stem", "block1/project"), ("top",)) and not graph.groups


def test_pruning_again_is_pruning_more(small):
    module, variables = small
    both = at_random(pruning.graph(module))
    once, arrays = pruning.remove(module, variables, both)
    half = {k: np.arange(n) % 2 == 0 for k, n in pruning.graph(once).channels.items()}
    twice, _ = pruning.remove(once, arrays, Choice(pruning.graph(once), half))
    assert twice.widths == tuple(-(-width // 2) for width in once.widths)


@pytest.mark.exhaustive
def test_a_part_network_keeps_what_its_parts_read(images):
    decision = {"name": "bag", "parts": 4, "layer": "layer2"}
    _, network = zoo.find("cifar_resnet8")
    module = part_network.assemble(network.build(num_classes=5), decision, 5, 32)
    variables = trained(module, network)
    graph = pruning.graph(module)
    assert all(layer.startswith("backbone/") for layer in graph.channels)
    choice = at_random(graph)
    narrower, arrays = pruning.remove(module, variables, choice)
    np.testing.assert_allclose(
        applied(narrower)(arrays, images),
        applied(module)(pruning.mask(variables, choice), images),
        atol=1e-5,
    )
    read = channels.as_wide_as(module, tree.flatten(arrays))
    assert read == narrower
    deep = zoo.find("vgg11")[1].build(num_classes=5)
    for layer in ("", "conv3_2"):
        decided = part_network.assemble(deep, decision | {"layer": layer}, 5, 64)
        left = set(pruning.graph(deep).channels) - {"conv5_2", layer}
        names = {path.partition("/")[2] for path in pruning.graph(decided).channels}
        assert names == left


@pytest.mark.exhaustive
def test_a_file_too_odd_to_be_pruned_is_refused_as_before(small, tmp_path):
    module, variables = build("cifar_resnet20")
    choice = at_random(pruning.graph(module))
    _, arrays = pruning.remove(module, variables, choice)
    leaves = tree.flatten(arrays)
    cut = leaves["params/layer1/block0/conv2/conv/kernel"][..., :9]
    leaves["params/layer1/block0/conv2/conv/kernel"] = cut
    path = tmp_path / "odd.safetensors"
    readers.write_safetensors(path, leaves)
    with pytest.raises(ValueError, match="1 mis-shaped: params/layer1/block0/conv2"):
        pretrained.load("cifar_resnet20", path)
    with pytest.raises(ValueError, match="missing"):
        pretrained.load("cifar_resnet32", path)


def test_errors_are_one_sentence(small, unchecked):
    module, variables = small
    graph = pruning.graph(module)
    ones = {layer: np.ones(n) for layer, n in graph.channels.items()}
    scores = pruning.Scores(graph, ones)
    other, theirs = build("cifar_resnet20")
    strange = pruning.Scores(graph, {"layer9": np.ones(3)})
    gone = Choice(graph, {"layer1/block0/conv1": np.zeros(16, bool)})
    short = Choice(graph, {"layer1/block0/conv1": np.ones(5, bool)})
    tied = Choice(graph, {"layer1/block0/conv2": np.ones(16, bool)})
    half = pruning.choose(scores, 0.5, "layer")
    cases = [
        (lambda: pruning.choose(scores, 1.0), r"`share`=1.0; expected .* \[0, 1\)"),
        (lambda: pruning.choose(scores, -0.1), "`share`=-0.1"),
        (lambda: pruning.choose(scores, float("nan")), "`share`=nan"),
        (lambda: pruning.choose(scores, 0.999, keep_at_least=8), "leaves too few"),
        (lambda: pruning.choose(scores, 0.5, keep_at_least=0), "would vanish"),
        (lambda: pruning.choose(scores, 0.5, "both"), "`scope`='both'"),
        (lambda: pruning.choose(strange, 0.5), "'layer9' has no channels that may go"),
        (lambda: pruning.choose(scores, 0.5, layers=["stem"]), "'stem' keeps its"),
        (lambda: pruning.mask(variables, gone), "the layer would vanish"),
        (lambda: pruning.remove(module, variables, gone), "the layer would vanish"),
        (lambda: pruning.mask(variables, short), "expected 16 booleans"),
        (lambda: pruning.mask(variables, tied), "keeps its width, which stem depends"),
        (lambda: pruning.mask(theirs, half), "not those of this ResNet"),
        (lambda: pruning.remove(other, theirs, half), "of other channels"),
        (lambda: pruning.scores(theirs, graph, "taylor"), "needs `gradients`"),
        (lambda: pruning.scores(theirs, graph, "magnitude_l2"), "not those of this"),
        (lambda: pruning.scores(variables, graph, "luck"), "`kind`='luck'"),
        (
            lambda: pruning.scores(variables, graph, "weight", gates={"x": np.ones(3)}),
            "'x', which is no layer",
        ),
        (
            lambda: pruning.scores(
                variables, graph, "weight", gates={"layer1/block0/conv1": np.ones(3)}
            ),
            "of 3 channels; expected 16",
        ),
        (
            lambda: pruning.scores(
                *fold.fold_batchnorm(module, variables)[1:], graph, "weight_x_scale"
            ),
            "has no norm",
        ),
        (lambda: pruning.measure(module, variables, []), "`batches` is empty"),
        (lambda: pruning.compensate(variables, half, {}), "`moments` lacks"),
        (lambda: pruning.flops(module, 0), "`image_size`=0"),
        (
            lambda: module.clone(widths=(3,)).init(
                jax.random.key(0), np.ones((1, 32, 32, 3))
            ),
            "`widths`=.* expected 3",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert len(re.findall(r"\.(?:\s|$)", str(caught.value))) <= 1


@pytest.mark.exhaustive
def test_the_benchmark_prints_a_curve(tmp_path, monkeypatch, capsys, small):
    folder = tmp_path / "work"
    folder.mkdir()
    network = pretrained.load("cifar_resnet8", "random", num_classes=2)
    pruning.save(network, folder)
    from PIL import Image

    for index in range(6):
        picture = np.full((40, 40, 3), 40 * index, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{index % 2:03d}_{index}.png")
    script = Path(__file__).parents[2] / "benchmarks" / "pruning.py"
    spec = importlib.util.spec_from_file_location("pruning_benchmark", script)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    command = f"pruning {tmp_path} --model {folder} --shares 0.5 --rounds 1 --batch 2"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--keep-at-least", "2"])
    benchmark.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("cifar_resnet8, 3 images")
    assert float(lines[2].split()[-1]) == 1

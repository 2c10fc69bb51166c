"""Attention pooling against its formulas in NumPy, and against average pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_network
import small_pooling
from flax import linen as nn
from helpers import applied

import unlir_jax
from unlir_jax import split, tree
from unlir_jax.models import attention_pooling, channels, convnext, pretrained
from unlir_jax.models.vision_transformer import VisionTransformer
from unlir_jax.types import Features
from unlir_jax.weights import exported

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, 16, 16, 3), np.float32)
MAPS = RANDOM.normal(size=(3, 4, 5, 8)).astype(np.float32)


def softmax(scores):
    powers = np.exp(scores - scores.max((1, 2), keepdims=True))
    return powers / powers.sum((1, 2), keepdims=True)


def attended(maps, query):
    """Mix maps as a block of CA-Stream does."""
    scores = (maps * query[:, None, None]).sum(-1) / np.sqrt(maps.shape[-1])
    return (softmax(scores)[..., None] * maps).sum((1, 2))


def pool(name, **settings):
    """Build a way to pool, with variables of order 1, and as float64."""
    kind = attention_pooling.POOLS[name]
    module = kind(channels=settings.pop("channels", (8,)), **settings)
    context = (np.ones((3, 8), np.float32),) if name == "ca_stream" else ()
    shapes = jax.eval_shape(module.init, jax.random.key(0), MAPS, context)
    if name == "ca_stream":
        stages = [np.zeros((3, 2, 2, c), np.float32) for c in module.channels[:-1]]
        began = jax.eval_shape(
            lambda: module.init(jax.random.key(0), stages, 3, method="begin")
        )
        shapes = tree.unflatten(tree.flatten(began) | tree.flatten(shapes))
    random = np.random.default_rng(1)
    known = jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes
    )
    wide = {path: leaf.astype(float) for path, leaf in tree.flatten(known).items()}
    return module, known, wide


def test_ca_stream_is_its_formula():
    module, known, wide = pool("ca_stream", channels=(5, 8))
    first = RANDOM.normal(size=(3, 6, 4, 5)).astype(np.float32)
    query = np.broadcast_to(wide["params/query"], (3, 5))
    for link, maps in (("link0", first), ("last", MAPS)):
        kernel, bias = (wide[f"params/{link}/{n}"] for n in ("kernel", "bias"))
        query = attended(maps.astype(float), query) @ kernel + bias
    context = module.apply(known, [first], 3, method="begin")
    np.testing.assert_allclose(module.apply(known, MAPS, context), query, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.25, 2.0])
def test_simpool_is_its_formula(gamma):
    module, known, wide = pool("simpool", gamma=gamma, shifted=True)
    maps = MAPS.astype(float)
    centred = maps - maps.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    normed = normed * wide["params/norm/scale"] + wide["params/norm/bias"]
    query = maps.mean((1, 2)) @ wide["params/query/kernel"]
    keys = normed @ wide["params/key"]
    weights = softmax((keys * query[:, None, None]).sum(-1) / np.sqrt(8))[..., None]
    expected = (weights * normed).sum((1, 2))
    if gamma:
        values = normed - normed.min((1, 2, 3), keepdims=True) + 1e-6
        expected = (weights * values**gamma).sum((1, 2)) ** (1 / gamma)
    expected = expected + wide["params/shift"]
    np.testing.assert_allclose(
        module.apply(known, MAPS), expected, rtol=1e-5, atol=1e-5
    )


def test_filter_weights_of_grad_cam_do_not_depend_on_the_attention():
    """Derivatives of a softmax add up to zero, so the last linear map alone is left."""
    module, known, wide = pool("ca_stream")
    classes = RANDOM.normal(size=8).astype(np.float32)

    def logit(maps, query):
        return (module.apply(known, maps, (query,)) @ classes).sum()

    expected = wide["params/last/kernel"] @ classes
    for sharpness in (0.0, 3.0):
        query = jnp.asarray(sharpness * RANDOM.normal(size=(3, 8)), jnp.float32)
        found = jax.grad(logit)(jnp.asarray(MAPS), query).sum((1, 2))
        wanted = np.broadcast_to(expected, found.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_efficient_probing_is_its_formula():
    module, known, wide = pool("efficient_probing", queries=4)
    maps, expected = MAPS.astype(float), []
    values = maps @ wide["params/values"]
    for place, query in enumerate(wide["params/query"]):
        weights = softmax((maps * query).sum(-1) / np.sqrt(8))[..., None]
        expected.append((weights * values[..., 2 * place : 2 * place + 2]).sum((1, 2)))
    found = module.apply(known, MAPS)
    np.testing.assert_allclose(found, np.concatenate(expected, 1), rtol=1e-5, atol=1e-5)


def uniform(known):
    """Let the queries of a stream be zero, and its last linear map the identity."""
    leaves = tree.flatten(known)
    for path, leaf in leaves.items():
        if path.startswith("params/pool/"):
            leaves[path] = np.zeros(leaf.shape, np.float32)
    last = "params/pool/last/kernel"
    leaves[last] = np.eye(len(leaves[last]), dtype=np.float32)
    return tree.unflatten(leaves)


@pytest.mark.parametrize("stages", ["auto", ""])
def test_uniform_attention_is_average_pooling(tmp_path, stages):
    weights = small_network.write(tmp_path)
    images = RANDOM.random((2, 32, 32, 3), np.float32)
    plain = unlir_jax.load(small_network.NAME, weights)
    wanted = {"name": "ca_stream", "stages": stages}
    pooled = unlir_jax.load(small_network.NAME, weights, decision=wanted)
    assert not pooled.new_classifier
    expected = split.whole(plain.model)(plain.variables, images)
    found = split.whole(pooled.model)(uniform(pooled.variables), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    wrong = split.whole(pooled.model)(pooled.variables, images)
    assert not np.allclose(wrong, expected, atol=1e-3)


def test_a_norm_behind_the_pooling_stays_there():
    """ConvNeXt normalises what it has pooled."""
    backbone = convnext.ConvNeXt((1, 1), (4, 8), num_classes=3)
    module = attention_pooling.assemble(
        backbone, {"name": "ca_stream", "stages": "stage1/block0"}, 3, 16
    )
    known = small_pooling.variables(module)
    plain = {
        path.replace("/backbone/", "/"): leaf
        for path, leaf in tree.flatten(uniform(known)).items()
        if "/pool/" not in path
    }
    expected = applied(backbone)(tree.unflatten(plain), IMAGES)
    found = applied(module)(uniform(known), IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=small_pooling.WANTED)
def pooled(request):
    module, model = small_pooling.network(request.param)
    return module, model, small_pooling.variables(module)


def test_an_image_does_not_depend_on_its_batch(pooled):
    module, _, known = pooled
    maps, context = module.apply(known, IMAGES, method="features_at")
    head = applied(module)
    together = head(known, Features(maps, context), method="head_at")
    # A neighbour whose values are far below all others'.
    others = maps.at[1:].multiply(-1e3)
    found = head(known, Features(others, context), method="head_at")
    np.testing.assert_allclose(found[0], together[0], rtol=1e-6, atol=1e-6)
    assert not np.allclose(found[1], together[1], atol=1e-2)


def test_features_and_head_are_the_network(pooled):
    module, model, known = pooled
    expected = applied(module)(known, IMAGES)
    packed = module.apply(known, IMAGES, method="features")
    for found in (
        module.apply(known, packed, method="head"),
        model.head(known, model.features(known, IMAGES)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    last = module.apply(known, IMAGES, method="last_maps")
    maps = model.features(known, IMAGES).maps
    np.testing.assert_allclose(last, maps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["layer2", "layer1"])
def test_derivatives_through_a_cut_are_those_of_the_network(pooled, layer):
    """At the last maps, and at maps that an earlier stage reads as well."""
    module, model, known = pooled
    if layer == "layer1":
        model = split.from_linen(module, f"backbone/{layer}")
    features = model.features(known, IMAGES)

    def by_cut(maps):
        return model.head(known, features._replace(maps=maps))[:, 0].sum()

    def by_network(added):
        def intercept(call, args, kwargs, context):
            output = call(*args, **kwargs)
            here = context.module.path == ("backbone", layer)
            return output + added if here else output

        with nn.intercept_methods(intercept):
            return module.apply(known, IMAGES)[:, 0].sum()

    expected = jax.grad(by_network)(jnp.zeros_like(features.maps))
    found = jax.grad(by_cut)(features.maps)
    scale = np.abs(expected).max()
    assert scale > 1e-4
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


def test_weights_add_up_to_one(pooled):
    module, _, known = pooled
    found = attention_pooling.attention(module)(known, IMAGES)
    assert found.shape[:3] == (3, 8, 8)
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="ResNet, which does not pool by attention"):
        attention_pooling.attention(module.backbone)


@pytest.mark.parametrize("name", ["ca_stream", "simpool", "efficient_probing"])
def test_a_file_gives_the_same_logits(tmp_path, name):
    wanted = {"name": name, "stages": "layer2+layer3"}
    wanted = wanted if name == "ca_stream" else {"name": name}
    network = unlir_jax.load(
        small_network.NAME, "random", num_classes=3, decision=wanted, image_size=16
    )
    leaves = {p: np.asarray(x) for p, x in tree.flatten(network.variables).items()}
    exported.write(tmp_path, leaves, pretrained.purpose(network))
    again = unlir_jax.load(str(tmp_path))
    assert again.module == network.module
    np.testing.assert_array_equal(
        split.whole(again.model)(again.variables, IMAGES),
        split.whole(network.model)(network.variables, IMAGES),
    )


def test_a_start_is_drawn_as_published():
    wanted = {"name": "ca_stream"}
    network = unlir_jax.load(small_network.NAME, "random", decision=wanted)
    query = network.module.draw(RANDOM, "params/pool/query", np.zeros(4096))
    assert abs(query.mean() - 1) < 0.1 and abs(query.std() - 1) < 0.1
    for link in ("link0", "last"):
        kernel = network.variables["params"]["pool"][link]["kernel"]
        limit = np.sqrt(6 / sum(kernel.shape))
        assert 0.9 * limit < np.abs(kernel).max() <= limit


@pytest.mark.parametrize("stages", ["auto", ""])
def test_a_start_can_be_average_pooling(tmp_path, stages):
    weights = small_network.write(tmp_path)
    images = RANDOM.random((2, 32, 32, 3), np.float32)
    wanted = {"name": "ca_stream", "stages": stages, "start": "average"}
    plain = unlir_jax.load(small_network.NAME, weights)
    pooled = unlir_jax.load(small_network.NAME, weights, decision=wanted)
    expected = split.whole(plain.model)(plain.variables, images)
    found = split.whole(pooled.model)(pooled.variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # The module's own start is the same one.
    leaves = jax.jit(pooled.module.init)(jax.random.key(0), images)["params"]["pool"]
    into_last = leaves["link2"]["kernel"] if stages else leaves["query"]
    assert (np.asarray(into_last) == 0).all()
    np.testing.assert_array_equal(leaves["last"]["kernel"], np.eye(64))


@pytest.mark.parametrize("start", ["average", "parts"])
def test_probing_can_start_as_average_pooling(start):
    kind = attention_pooling.POOLS["efficient_probing"]
    module = kind(channels=(8,), queries=4, start=start)
    known = module.init(jax.random.key(0), MAPS)
    expected = MAPS.mean((1, 2))
    np.testing.assert_allclose(
        module.apply(known, MAPS), expected, rtol=1e-5, atol=1e-6
    )
    for path, leaf in tree.flatten(known["params"]).items():
        np.testing.assert_array_equal(module.draw(RANDOM, path, leaf), leaf)


def test_late_stages_are_the_last_two():
    asked = {"name": "ca_stream", "stages": "late"}
    stages = "layer1", "layer1/block0", "layer2"
    module = attention_pooling.assemble(small_pooling.backbone(), asked, 5, 16, stages)
    assert module.stages == stages[1:]


def test_a_pruned_backbone_keeps_what_a_stage_is_given():
    module, _ = small_pooling.network()
    free = {group.layer for group in channels.graph(module).groups}
    assert free == {"backbone/layer1/block0/conv1", "backbone/layer2/block0/conv1"}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"name": "ca_streams"}, "`pooling`='ca_streams'; did you mean 'ca_stream'"),
        ({"name": "ca_stream", "stages": "layer9"}, "'layer9', which is no module"),
        (
            {"name": "ca_stream", "stages": "layer2+layer1"},
            "in the order of the",
        ),
        ({"name": "ca_stream", "start": "zero"}, "`start`='zero'"),
        ({"name": "efficient_probing", "start": "zero"}, "`start`='zero'"),
        ({"name": "simpool", "gamma": -1.0}, "`gamma`=-1.0"),
        ({"name": "simpool", "stages": ""}, "stages. is no setting of 'simpool'"),
        ({"name": "efficient_probing", "queries": 3}, "does not divide the 8 channels"),
    ],
)
def test_what_cannot_be_assembled_is_refused(unchecked, wanted, sentence):
    with pytest.raises(ValueError, match=sentence):
        attention_pooling.assemble(
            small_pooling.backbone(), wanted, 5, 16, small_pooling.STAGES
        )


def test_one_location_and_no_stages_are_refused():
    small = small_pooling.backbone(), {"name": "simpool"}, 5, 2
    with pytest.raises(ValueError, match="of 2 x 2 pixels leave last maps of 1 x 1"):
        attention_pooling.assemble(*small)
    transformer = VisionTransformer(4, 8, 1, 2, 12, num_classes=5)
    with pytest.raises(ValueError, match="a VisionTransformer has no stages"):
        attention_pooling.assemble(transformer, {"name": "ca_stream"}, 5, 16)
    module = attention_pooling.assemble(
        transformer, {"name": "ca_stream", "stages": ""}, 5, 16
    )
    known = small_pooling.variables(module)
    # The class token is no location.
    assert module.apply(known, IMAGES, method="attention").shape == (3, 4, 4, 1)
    packed = np.zeros((1, 1, 1, 7), np.float32)
    module, _ = small_pooling.network()
    with pytest.raises(ValueError, match="7 numbers an image; expected 2560"):
        module.apply(small_pooling.variables(module), packed, method="head")

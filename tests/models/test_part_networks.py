"""Part networks whose parts carry descriptors: sums, permutations, assembly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import tree
from unlir_jax.models import part_network, pretrained, zoo
from unlir_jax.models.part_network import cells
from unlir_jax.weights import exported

DECISION = {"name": "descriptors", "layer": "auto", "parts": 5, "dimensions": [6, 4]}


@pytest.fixture(scope="module")
def network():
    loaded = pretrained.load(
        "cifar_resnet8", "random", num_classes=3, decision=DECISION
    )
    random = np.random.default_rng(0)

    def fill(path, leaf):
        if "classifier" not in path:
            return leaf
        drawn = random.normal(size=leaf.shape).astype(np.float32)
        return jnp.asarray(np.abs(drawn) + 0.5 if path.endswith("scale") else drawn)

    return loaded._replace(variables=tree.map_with_path(fill, loaded.variables))


@pytest.fixture(scope="module")
def maps(network):
    images = np.random.default_rng(1).random((2, 32, 32, 3)).astype(np.float32)
    return network.model.features(network.variables, images).maps


def call(network, method, *arguments, variables=None):
    known = network.variables if variables is None else variables
    return network.module.apply(known, *arguments, method=method)


def test_packing_is_undone_cell_by_cell():
    random = np.random.default_rng(0)
    maps, finer = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 6, 8, 2))
    packed = cells.pack(jnp.asarray(maps), jnp.asarray(finer))
    assert packed.shape == (2, 3, 4, 5 + 8)
    grid = cells.unpack(packed, 5, 2)
    np.testing.assert_array_equal(grid.maps, maps.astype(np.float32))
    np.testing.assert_array_equal(grid.finer, finer.astype(np.float32))
    # What lies in a cell stays with it.
    np.testing.assert_array_equal(
        np.asarray(packed)[0, 1, 2, 5:], finer[0, 2:4, 4:6].ravel().astype(np.float32)
    )


def test_an_odd_finer_map_is_brought_to_twice_the_rows():
    packed = cells.pack(jnp.ones((1, 3, 3, 1)), jnp.ones((1, 5, 5, 2)))
    np.testing.assert_allclose(packed, 1)
    assert packed.shape == (1, 3, 3, 9)


@pytest.mark.exhaustive
def test_contributions_and_a_bias_are_the_logits(network, maps):
    reading, logits = call(network, "read", maps), call(network, "head", maps)
    total = reading.contributions.sum(1) + reading.bias[None]
    np.testing.assert_allclose(total, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reading.shares.sum(-1), 1, rtol=1e-5)
    assert np.abs(reading.scores).max() <= 1 + 1e-5
    assert reading.scores.shape == (2, 16, 16, 5), "on the finer grid"


def test_evidence_and_an_offset_are_the_logit(network, maps):
    labels = jnp.asarray([2, 0])
    evidence = call(network, "evidence", maps, labels)
    assert evidence.shape == (2, 8, 8, 5)
    logits = call(network, "head", maps)[jnp.arange(2), labels]
    total = evidence.sum((1, 2, 3)) + call(network, "offset")[labels]
    np.testing.assert_allclose(total, logits, rtol=1e-4, atol=1e-4)


def test_a_descriptor_is_the_power_mean_of_its_cells(network, maps):
    found = call(network, "describe", maps)
    shares = np.asarray(call(network, "read", maps).shares, np.float64)
    grid = call(network, "grid", maps)
    last, finer = np.asarray(grid.maps, np.float64), np.asarray(grid.finer, np.float64)
    for part in range(5):
        own = shares[0, :, :, part]
        coarse = own.reshape(8, 2, 8, 2).mean((1, 3))
        mass = coarse.sum() + 0.5
        mean = (coarse[..., None] * last[0] ** 3).sum((0, 1)) / mass
        np.testing.assert_allclose(
            found[0, part, :64], np.cbrt(mean), rtol=1e-3, atol=1e-4
        )
        plain = (own[..., None] * finer[0]).sum((0, 1)) / (4 * mass)
        np.testing.assert_allclose(found[0, part, 64:], plain, rtol=1e-3, atol=1e-5)
    some = call(network, "describe", maps, 1, 2)
    np.testing.assert_allclose(some, found[:, 1:3], rtol=1e-6)


def test_the_order_of_parts_changes_nothing(network, maps):
    order = np.random.default_rng(0).permutation(5)

    def permute(path, leaf):
        if path.endswith("parts/kernel"):
            return leaf[:, order]
        own = ("classifier/kernel", "classifier/mean")
        return leaf[order] if path.endswith(own) else leaf

    permuted = tree.map_with_path(permute, network.variables)
    first, second = (
        call(network, "read", maps, variables=known)
        for known in (network.variables, permuted)
    )
    np.testing.assert_allclose(
        second.contributions, first.contributions[:, order], rtol=1e-4, atol=1e-5
    )


@pytest.mark.exhaustive
def test_a_part_that_is_nowhere_has_finite_slopes(network):
    def total(variables, maps):
        return network.module.apply(variables, maps, method="head").sum()

    empty = jnp.zeros((1, 8, 8, 64 + 4 * 32))
    slopes = jax.grad(total, argnums=(0, 1))(network.variables, empty)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_low_rank_is_full_rank_where_the_basis_is_everything(network, maps):
    decision = DECISION | {"rank": 96}
    low = part_network.assemble(network.module.backbone, decision, 3, 32)
    leaves = tree.flatten(network.variables)
    leaves["params/classifier/basis"] = jnp.eye(96)
    logits = low.apply(tree.unflatten(leaves), maps, method="head")
    np.testing.assert_allclose(logits, call(network, "head", maps), rtol=1e-4)


@pytest.mark.exhaustive
def test_a_part_network_comes_back_from_its_file(network, tmp_path):
    spec = part_network.specification(network.module)
    assert spec["layer"] == "layer2"
    purpose = exported.Purpose("cifar_resnet8", ("a", "b", "c"), 32, 1.0, spec)
    exported.write(tmp_path, tree.flatten(network.variables), purpose)
    again = pretrained.load(str(tmp_path))
    assert part_network.specification(again.module) == spec
    images = np.random.default_rng(1).random((1, 32, 32, 3)).astype(np.float32)
    for folded in (again, pretrained.load(str(tmp_path), fold=True)):
        cut = folded.model.features(folded.variables, images)
        np.testing.assert_allclose(
            folded.model.head(folded.variables, cut),
            network.module.apply(network.variables, images),
            rtol=1e-3,
            atol=1e-3,
        )


def test_another_decision_keeps_the_trunk(network, tmp_path):
    spec = part_network.specification(network.module)
    purpose = exported.Purpose("cifar_resnet8", ("a", "b", "c"), 32, 1.0, spec)
    exported.write(tmp_path, tree.flatten(network.variables), purpose)
    other = pretrained.load(str(tmp_path), decision=DECISION | {"parts": 2})
    assert other.module.classifier.parts == 2
    trunk = "params/backbone/stem/conv/kernel"
    np.testing.assert_array_equal(
        tree.flatten(other.variables)[trunk], tree.flatten(network.variables)[trunk]
    )


def test_bad_settings_get_one_sentence(network):
    def build(size=32, **settings):
        backbone = network.module.backbone
        return part_network.assemble(backbone, DECISION | settings, 3, size)

    with pytest.raises(ValueError, match="did you mean 'descriptors'"):
        build(name="descriptor")
    with pytest.raises(ValueError, match="'layer9' is no layer of the backbone"):
        build(layer="layer9")
    with pytest.raises(ValueError, match="did you mean 'temperature'"):
        build(temprature=1)
    with pytest.raises(ValueError, match="has 256 regions; expected 1 to 256 parts"):
        build(parts=257)
    with pytest.raises(ValueError, match="`temperature`=0.0; expected a number above"):
        build(temperature=0.0)


@pytest.mark.parametrize(
    ("name", "layer"),
    tiers.by_tier(
        [
            ("mobilenet_v2", "block13"),
            ("efficientnet_lite0", "block11"),
            ("resnet18", "layer3"),
            ("cifar_resnet8", "layer2"),
            ("vgg11", "conv4_2"),
        ],
        {"cifar_resnet20", "resnet18"},
    ),
)
def test_every_kind_of_backbone_gives_a_finer_layer(name, layer):
    """The last one with twice the rows: shapes alone, nothing is computed."""
    known = zoo.networks()[name]
    module = part_network.assemble(
        known.build(), DECISION | {"parts": 4}, 3, known.image_size
    )
    assert module.layer == layer
    images = jax.ShapeDtypeStruct((2, known.image_size, known.image_size, 3), "float32")

    def run(images):
        key = jax.random.key(0)
        maps, variables = module.init_with_output(key, images, method="features")
        both = module.init_with_output(key, maps, method="read")
        return maps, both[0], variables

    maps, reading, _ = jax.eval_shape(run, images)
    rows = maps.shape[1]
    assert reading.scores.shape == (2, 2 * rows, 2 * rows, 4)
    assert reading.contributions.shape == (2, 4, 3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("settings", "rows", "finer"),
    tiers.by_tier(
        [
            ({"at": "layer2", "layer": ""}, 16, 0),
            ({"at": "layer2", "layer": "layer1"}, 16, 32),
            ({"layer": "2x"}, 8, 16),
        ],
        1,
    ),
)
def test_any_layer_two_layers_or_two_scales(network, settings, rows, finer):
    backbone = network.module.backbone
    module = part_network.assemble(backbone, DECISION | settings, 3, 32)
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    maps = module.apply(variables, images, method="features")
    grid = module.apply(variables, maps, method="grid")
    assert grid.maps.shape[1] == rows
    assert (grid.finer.shape[1] if grid.finer is not None else 0) == finer
    reading = module.apply(variables, maps, method="read")
    logits = module.apply(variables, images)
    added = reading.contributions.sum(1) + reading.bias[None]
    np.testing.assert_allclose(added, logits, atol=1e-4)
    built = part_network.specification(module)
    assert part_network.assemble(backbone, built, 3, 32) == module
    if settings["layer"] == "2x":
        larger = jax.image.resize(images, (2, 64, 64, 3), "bilinear", antialias=False)
        trunk = {
            name: leaves["backbone"]
            for name, leaves in variables.items()
            if "backbone" in leaves
        }
        wanted = backbone.apply(trunk, larger, method="features")
        np.testing.assert_allclose(grid.finer, wanted, atol=1e-5)

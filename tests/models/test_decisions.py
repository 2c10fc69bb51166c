"""All ways to decide by parts, on maps of three pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from helpers import applied

from unlir_jax import tree
from unlir_jax.models import part_network as parts
from unlir_jax.models import zoo
from unlir_jax.models.part_network import bag_of_parts, cells, landmarks, prototypes
from unlir_jax.models.part_network.descriptors import Descriptors

RANDOM = np.random.default_rng(0)
CLASSES, CHANNELS, OTHERS = 4, 10, 6
MAPS = RANDOM.normal(size=(3, 4, 4, CHANNELS)).astype("f")
FINER = RANDOM.normal(size=(3, 8, 8, OTHERS)).astype("f")
LABELS = np.array([0, 3, 2])
KEY = jax.random.key(0)

bag = functools.partial(bag_of_parts.BagOfParts, dimensions=(7, 4), boxes=9)
descriptors = functools.partial(Descriptors, dimensions=(7, 4))
marks = functools.partial(landmarks.Landmarks, dimensions=(7, 4))
near = functools.partial(prototypes.Prototypes, per_class=2, width=5)


def learned_windows(classes, parts, channels, others):
    return bag(classes, parts, channels, others, region="windows", assignment="learned")


DECISIONS = {
    "descriptors": lambda o: descriptors(CLASSES, 5, CHANNELS, o),
    "descriptors, rank 3": lambda o: descriptors(CLASSES, 5, CHANNELS, o, rank=3),
    "bag": lambda o: bag(CLASSES, 8, CHANNELS, o),
    "bag, gates": lambda o: learned_windows(CLASSES, 8, CHANNELS, o),
    "bag, competition": lambda o: bag(
        CLASSES, 8, CHANNELS, o, competition=True, pooling="top_k"
    ),
    "bag, raw": lambda o: bag(CLASSES, 8, CHANNELS, o, dimensions=(0, 0)),
    "prototypes": lambda o: near(CLASSES, CHANNELS, o),
    "prototypes, white": lambda o: near(CLASSES, CHANNELS, o, space="white"),
    "landmarks": lambda o: marks(CLASSES, 5, CHANNELS, o),
} | {
    f"bag, {region}, {pooling}": functools.partial(
        lambda o, region, pooling: bag(
            CLASSES, 8, CHANNELS, o, region=region, pooling=pooling, normalise=True
        ),
        region=region,
        pooling=pooling,
    )
    for region, pooling in (
        ("windows", "logsumexp"),
        ("boxes", "top_k"),
        ("proposals", "max+mean"),
        ("proposals", "mean"),
    )
}
# One for each kind, where all would take long.
KINDS = ("descriptors", "bag, gates", "prototypes", "landmarks")


def grid(others):
    return cells.Grid(jnp.asarray(MAPS), jnp.asarray(FINER) if others else None)


def drawn(module, others):
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), grid(others), method="logits")
    )
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype("f") * 0.5, shapes
    )


@functools.cache
def everything(module):
    @jax.jit
    def run(variables, cells, labels):
        run = functools.partial(module.apply, variables)
        return {
            "logits": run(cells, method="logits"),
            "read": run(cells, method="read"),
            "evidence": run(cells, labels, method="evidence"),
            "offset": run(method="offset"),
            "traits": run(cells, method="traits"),
            "look": run(cells, method="look"),
        }

    return run


@pytest.mark.parametrize(
    ("name", "others"),
    tiers.by_tier(
        [(name, OTHERS) for name in DECISIONS] + [(KINDS[0], 0), (KINDS[1], 0)], 5
    ),
)
def test_all_that_is_said_adds_up_to_the_logits(name, others):
    module = DECISIONS[name](others)
    module.check(4, 4)
    variables = drawn(module, others)
    found = everything(module)(variables, grid(others), LABELS)
    logits, reading, traits = (found[key] for key in ("logits", "read", "traits"))
    size = 1 + np.abs(logits).max()
    added = reading.contributions.sum(1) + reading.bias[None]
    np.testing.assert_allclose(added, logits, atol=1e-5 * size)
    np.testing.assert_allclose(traits.logits, logits, atol=1e-5 * size)

    own = np.take_along_axis(np.asarray(logits), LABELS[:, None], 1)[:, 0]
    evidence = found["evidence"]
    assert evidence.shape == (3, 4, 4, module.parts)
    told = np.asarray(evidence, np.float64).sum((1, 2, 3)) + found["offset"][LABELS]
    np.testing.assert_allclose(told, own, atol=1e-5 * size)

    scores, shares = found["look"]
    np.testing.assert_array_equal(reading.scores, scores)
    side = 8 if others and ("descr" in name or "land" in name) else 4
    assert scores.shape == shares.shape == (3, side, side, module.parts)
    assert (shares >= 0).all() and (shares.sum(-1) < 1 + 1e-5).all()
    assert traits.cells.shape == shares.shape
    assert traits.kernel.shape == (module.parts, CLASSES)
    assert traits.descriptors.shape[:2] == (3, module.parts)
    assert traits.parts.shape[0] == module.parts
    for trait in ("gates", "blocks", "distances"):
        assert (trait in module.knows) == (getattr(traits, trait) is not None)


PARTS_AXES = {
    "parts/kernel": 1,
    "kernel": 0,
    "mean": 0,
    "modulation": 0,
    "gates": 0,
}


@pytest.mark.parametrize("name", KINDS)
def test_parts_have_no_order(name):
    module = DECISIONS[name](0)
    variables = drawn(module, 0)
    order = np.random.default_rng(2).permutation(module.parts)
    leaves = tree.flatten(variables)
    for path, axis in PARTS_AXES.items():
        shared = path == "kernel" and name == "landmarks"
        if f"params/{path}" in leaves and not shared:
            leaf = leaves[f"params/{path}"]
            leaves[f"params/{path}"] = np.take(leaf, order, axis)
    run = everything(module)
    found = run(variables, grid(0), LABELS)
    turned = run(tree.unflatten(leaves), grid(0), LABELS)
    same = functools.partial(np.testing.assert_allclose, atol=2e-5)
    same(turned["logits"], found["logits"])
    same(turned["read"].contributions, found["read"].contributions[:, order])
    same(turned["evidence"], found["evidence"][..., order])
    same(turned["read"].shares, found["read"].shares[..., order])


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_does_not_depend_on_the_others(name):
    module = DECISIONS[name](OTHERS)
    variables = drawn(module, OTHERS)
    run = everything(module)
    found = run(variables, grid(OTHERS), LABELS)
    backwards = jax.tree.map(lambda leaf: leaf[::-1], grid(OTHERS))
    turned = run(variables, backwards, LABELS[::-1])
    for key in ("logits", "evidence"):
        np.testing.assert_allclose(turned[key][::-1], found[key], atol=1e-5)


@pytest.mark.parametrize(
    "name",
    tiers.by_tier([*KINDS, "bag, proposals, max+mean"], {"descriptors", "landmarks"}),
)
@pytest.mark.parametrize("zero", tiers.by_tier([False, True], {True}))
def test_gradients_are_numbers_and_reach_what_learns(name, zero):
    module = DECISIONS[name](0)
    variables = drawn(module, 0)
    seen = jax.tree.map(jnp.zeros_like, grid(0)) if zero else grid(0)

    @jax.jit
    @jax.grad
    def slope(variables):
        rngs = {"dropout": jax.random.key(0)}
        traits = module.apply(variables, seen, True, method="traits", rngs=rngs)
        logs = jax.nn.log_softmax(traits.logits)
        return -logs[jnp.arange(3), LABELS].sum() + (traits.shares**2).sum()

    for path, leaf in tree.flatten(slope(variables)).items():
        assert np.isfinite(leaf).all(), path
        assert zero or np.abs(leaf).max() > 0, path


@pytest.mark.exhaustive
def test_the_winning_window_has_the_say():
    """Two parts, raw cells, windows of 2: by hand."""
    module = bag(2, 2, 2, region="windows", sizes=(2,), dimensions=(0, 0))
    maps = np.zeros((1, 3, 3, 2), "f")
    maps[0, 0, 0, 0], maps[0, 2, 1, 1] = 4, 8
    params = {"parts": {"kernel": np.eye(2)}, "bias": np.array([1.0, 2.0])}
    params["kernel"] = np.array([[[1.0, 0.0]], [[0.5, 3.0]]])
    run = functools.partial(
        module.apply, {"params": params}, cells.Grid(jnp.asarray(maps), None)
    )
    # The mean of 4 cells: part 0 scores 1, part 1 scores 2.
    np.testing.assert_allclose(run(method="logits"), [[1 + 1 + 1, 2 + 6]])
    evidence = np.asarray(run(np.array([1]), method="evidence"))
    np.testing.assert_allclose(evidence[0, ..., 0], 0)
    expected = np.zeros((3, 3))
    # Windows 2 and 3 hold the cell: the first of them counts.
    expected[1:, :2] = 6 / 4
    np.testing.assert_allclose(evidence[0, ..., 1], expected)
    scores, _ = run(method="look")
    # The best window over a cell; the cell in the upper right has none of part 0.
    np.testing.assert_allclose(scores[0, :2, :2, 0], 1)
    np.testing.assert_allclose(scores[0, :, 2, 0], 0)
    np.testing.assert_allclose(scores[0, 0, :, 1], 0)
    np.testing.assert_allclose(scores[0, 1:, :, 1], 2)


@pytest.mark.exhaustive
def test_shut_gates_let_nothing_through():
    module = DECISIONS["bag, gates"](0)
    variables = drawn(module, 0)
    gates = -np.ones((8, CLASSES), "f")
    gates[3, 1] = 1
    variables["params"]["gates"] = gates
    reading = applied(module)(variables, grid(0), method="read")
    is_open = np.zeros((8, CLASSES), bool)
    is_open[3, 1] = True
    assert (np.asarray(reading.contributions) != 0).all(0)[3, 1]
    np.testing.assert_array_equal(reading.contributions[:, ~is_open], 0)


@pytest.mark.exhaustive
def test_prototypes_start_for_their_class():
    module = near(CLASSES, CHANNELS)
    params = module.init(jax.random.key(0), grid(0), method="logits")["params"]
    own = np.repeat(np.eye(CLASSES), 2, 0) > 0
    np.testing.assert_array_equal(params["kernel"], np.where(own, 1.0, -0.5))
    points = params["parts"]["kernel"]
    assert 0 <= points.min() < 0.2 and 0.8 < points.max() <= 1


def test_similarity_of_a_prototype_at_a_cell():
    module = near(CLASSES, CHANNELS, epsilon=0.01)
    variables = drawn(module, 0)
    found = applied(module)(variables, grid(0), method="cells")
    assert (found > 0).all() and (found < 1).all()
    variables["params"]["parts"]["kernel"][:, 0] = found[1, 2, 3]
    scores, _ = applied(module)(variables, grid(0), method="look")
    np.testing.assert_allclose(scores[1, 2, 3, 0], np.log(1 / 0.01), rtol=1e-3)
    apart = np.square(np.asarray(found[0, 0, 0] - found[1, 2, 3])).sum()
    expected = np.log((apart + 1) / (apart + 0.01))
    np.testing.assert_allclose(scores[0, 0, 0, 0], expected, rtol=1e-4)


@pytest.mark.exhaustive
def test_landmarks_leave_out_whole_parts():
    module = DECISIONS["landmarks"](0)
    reading = module.apply(
        drawn(module, 0),
        grid(0),
        True,
        method="read",
        rngs={"dropout": jax.random.key(1)},
    )
    zeros = np.asarray(reading.contributions) == 0
    gone = zeros.all(-1)
    np.testing.assert_array_equal(gone, zeros.any(-1))
    assert 0 < gone.sum() < gone.size


def test_landmarks_of_one_cell_by_hand():
    """One part at the cell, the background 1 away: shares 1 / (1 + e^-1)."""
    module = marks(2, 1, 2, dimensions=(2, 0), temperature=1.0, dropout=0.0)
    params = {
        "regions": {"last": {"mean": np.zeros(2), "kernel": np.eye(2)}},
        "parts": {"kernel": np.array([[1.0], [0.0]])},
        "background": np.zeros(2),
        "modulation": np.array([[2.0, 1.0]]),
        "kernel": np.eye(2),
        "bias": np.zeros(2),
    }
    maps = cells.Grid(jnp.array([3.0, 0.0]).reshape((1, 1, 1, 2)), None)
    reading = applied(module)({"params": params}, maps, method="read")
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(reading.shares.ravel(), share, rtol=1e-6)
    np.testing.assert_allclose(reading.contributions[0, 0], [6 * share, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (descriptors(CLASSES, 17, CHANNELS), "`parts`=17, but .* 16 regions"),
        (marks(CLASSES, 65, CHANNELS, OTHERS), "`parts`=65, but .* 64 regions"),
        (marks(CLASSES, 5, CHANNELS, temperature=0.0), "`temperature`"),
        (bag(CLASSES, 0, CHANNELS), "`parts`=0"),
        (bag(CLASSES, 5, CHANNELS, region="rings"), "`region`='rings'"),
        (bag(CLASSES, 5, CHANNELS, pooling="min"), "`pooling`='min'"),
        (bag(CLASSES, 5, CHANNELS, assignment="all"), "`assignment`='all'"),
        (bag(CLASSES, 5, CHANNELS, assignment="blocks"), "`parts`=5; expected a mult"),
        (bag(CLASSES, 5, CHANNELS, region="windows", sizes=(5,)), "`sizes`"),
        (bag(CLASSES, 5, CHANNELS, pooling="top_k", top=17), "`top`=17.* 16 regions"),
        (near(CLASSES, CHANNELS, space="black"), "`space`='black'"),
        (near(CLASSES, CHANNELS, epsilon=1.0), "`epsilon`=1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(module, match):
    with pytest.raises(ValueError, match=match):
        module.check(4, 4)


@pytest.mark.parametrize(
    "decision",
    [
        {"name": "bag", "parts": 20, "layer": "auto", "sizes": [1, 2]},
        {"name": "prototypes", "per_class": 2},
        {"name": "landmarks", "parts": 6, "layer": "auto", "dimensions": [9, 9]},
    ],
    ids=lambda decision: decision["name"],
)
def test_a_network_is_built_again_from_its_specification(decision):
    backbone = zoo.networks()["cifar_resnet8"].build()
    network = parts.assemble(backbone, decision, CLASSES, 32)
    again = parts.specification(network)
    assert again["name"] == decision["name"]
    assert parts.assemble(backbone, again, CLASSES, 32) == network
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    logits = jax.eval_shape(lambda x: network.init_with_output(KEY, x)[0], images)
    assert logits.shape == (2, CLASSES)

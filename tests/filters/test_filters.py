import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from flax import linen as nn
from flax import nnx
from helpers import applied, same

from unlir_jax import filters, tree
from unlir_jax.models import fold as folding
from unlir_jax.models import pretrained
from unlir_jax.models.layers import ConvNorm, Style

MODES = ("output", "input", "output+input", "filter", "kronecker", "shift")
RANDOM = np.random.default_rng(0)


class Small(nn.Module):
    """A stem, a depthwise convolution, a projection and a classifier, as in ours."""

    style: Style = Style()

    def setup(self):
        self.stem = ConvNorm(8, 3, 2, activation=jnp.tanh, style=self.style)
        self.depthwise = ConvNorm(8, 3, groups=8, activation=jnp.tanh, style=self.style)
        self.project = ConvNorm(6, 1, style=self.style)
        self.classifier = nn.Dense(4)

    def __call__(self, images, train=False):
        maps = self.project(self.depthwise(self.stem(images, train), train), train)
        return self.classifier(jnp.mean(jnp.square(maps), (1, 2)))


class Foreign(nn.Module):
    """Layers with the names that Flax gives."""

    @nn.compact
    def __call__(self, images, train=False):
        maps = nn.Conv(5, (3, 3))(images)
        maps = nn.BatchNorm(use_running_average=not train)(maps)
        return nn.Dense(4)(jnp.mean(jnp.tanh(maps), (1, 2)))


def drawn(tree_of_shapes, seed=0):
    """Give every leaf values that are not special, above 0.4 for what must be."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = path.rpartition("/")[2] in ("scale", "var")
        low, high = (0.5, 1.5) if positive else (-1, 1)
        return random.uniform(low, high, leaf.shape).astype(np.float32)

    return tree.map_with_path(draw, tree_of_shapes)


@functools.cache
def known(kind):
    """Give images, and variables of a network."""
    images = jnp.asarray(np.random.default_rng(1).random((6, 12, 12, 3)), jnp.float32)
    shapes = jax.eval_shape(kind().init, jax.random.key(0), images)
    return images, drawn(shapes)


@functools.cache
def forward(kind, train):
    """Compile a network, in train mode without its new statistics."""

    def run(variables, images):
        if not train:
            return kind().apply(variables, images)
        return kind().apply(variables, images, True, mutable=["batch_stats"])[0]

    return jax.jit(run)


def moved(weights, seed=3):
    """Move weights away from 1."""
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        for name, leaf in weights.items()
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "dtype", tiers.by_tier([np.float32, jnp.bfloat16], {np.float32})
)
def test_a_network_starts_bit_for_bit_as_it_was(mode, dtype):
    _, variables = known(Small)
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
    weights = filters.init(variables, mode=mode)
    assert {leaf.dtype for leaf in weights.values()} == {np.dtype(np.float32)}
    same(jax.jit(filters.apply)(variables, weights), variables)
    same(filters.fold(variables, weights), variables)


def test_output_weights_multiply_what_the_norm_gives():
    images, variables = known(Small)
    weights = moved(filters.init(variables, "project/.*"))
    assert list(weights) == ["project/norm/output"]
    for train in (False, True):

        def maps(variables, train=train):
            def run(module, images):
                stem = module.stem(images, train)
                return module.project(module.depthwise(stem, train), train)

            run = nn.apply(run, Small(), mutable=["batch_stats"])
            return run(variables, images)[0]

        expected = maps(variables) * weights["project/norm/output"][None, None, None]
        found = maps(filters.apply(variables, weights))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", tiers.by_tier(MODES, 2))
def test_gradient_reaches_every_weight_in_train_mode(mode):
    images, variables = known(Small)
    weights = moved(filters.init(variables, mode=mode))
    gradient = gradients(Small, variables, weights, images)
    for name, leaf in gradient.items():
        assert np.abs(leaf).min() > 1e-6, name
        assert np.median(np.abs(leaf)) > 1e-4, name


@pytest.mark.exhaustive
def test_weights_before_a_norm_would_not_learn():
    # What the pairing is for: told that no norm follows, the weights are lost.
    images, variables = known(Foreign)
    select, wrong = "Conv_0", {"Conv_0": None}
    weights = moved(filters.init(variables, select, pairing=wrong))
    lost = gradients(Foreign, variables, weights, images)["Conv_0/output"]
    right = {"Conv_0": "BatchNorm_0"}
    weights = moved(filters.init(variables, select, pairing=right))
    kept = gradients(Foreign, variables, weights, images)["BatchNorm_0/output"]
    assert np.abs(lost).max() < 1e-4 * np.abs(kept).max()


@functools.cache
def parameter_slopes(kind):
    """Compile the derivative of a loss in train mode by a network's parameters."""
    target = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)

    def loss(variables, images):
        return jnp.sum(forward(kind, True)(variables, images) * target)

    return jax.jit(jax.grad(loss))


def gradients(kind, variables, weights, images):
    """Differentiate that loss by the weights."""
    adapted, back = jax.vjp(lambda weights: filters.apply(variables, weights), weights)
    return back(parameter_slopes(kind)(adapted, images))[0]


def test_what_each_mode_multiplies():
    dense = {"kernel": RANDOM.normal(size=(3, 4)), "bias": RANDOM.normal(size=4)}
    kernel, bias = dense["kernel"], dense["bias"]

    def changed(mode):
        weights = moved(filters.init(dense, mode=mode))
        return weights, filters.fold(dense, weights)

    weights, found = changed("output")
    np.testing.assert_allclose(found["kernel"], kernel * weights["output"][None])
    np.testing.assert_allclose(found["bias"], bias * weights["output"])
    weights, found = changed("input")
    np.testing.assert_allclose(found["kernel"], kernel * weights["input"][:, None])
    np.testing.assert_array_equal(found["bias"], bias)
    weights, found = changed("output+input")
    outer = np.multiply.outer(weights["input"], weights["output"])
    np.testing.assert_allclose(found["kernel"], kernel * outer, rtol=1e-6)
    np.testing.assert_allclose(found["bias"], bias * weights["output"])
    weights, found = changed("filter")
    np.testing.assert_allclose(found["kernel"], kernel * weights["filter"])
    np.testing.assert_array_equal(found["bias"], bias)
    weights, found = changed("kronecker")
    outer = np.multiply.outer(weights["input"], weights["gain"])
    np.testing.assert_allclose(found["kernel"], kernel * outer, rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], bias)
    weights, found = changed("shift")
    np.testing.assert_array_equal(found["kernel"], kernel)
    np.testing.assert_allclose(found["bias"], bias + weights["shift"] - 1)


def test_shifts_come_after_products():
    images, variables = known(Small)
    scales, shifts = (
        moved(filters.init(variables, "project/.*", mode), seed)
        for seed, mode in enumerate(("output", "shift"))
    )
    for weights in (scales | shifts, shifts | scales):
        found = filters.fold(variables, weights)
        norm = found["params"]["project"]["norm"]
        old = variables["params"]["project"]["norm"]
        scale, shift = scales["project/norm/output"], shifts["project/norm/shift"]
        np.testing.assert_allclose(norm["scale"], old["scale"] * scale, rtol=1e-6)
        expected = old["bias"] * scale + shift - 1
        np.testing.assert_allclose(norm["bias"], expected, rtol=1e-6, atol=1e-7)
        back = filters.unfold(found, weights)["params"]["project"]["norm"]
        np.testing.assert_allclose(back["bias"], old["bias"], atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_output_weights_of_grouped_convolutions(groups):
    module = nn.Conv(12, (3, 3), feature_group_count=groups)
    images = jnp.asarray(RANDOM.random((2, 5, 5, 6)), jnp.float32)
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), images))
    weights = moved(filters.init(variables, mode="output"))
    apply = applied(module)
    found = apply(filters.apply(variables, weights), images)
    expected = apply(variables, images) * weights["output"][None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_input_weights_are_those_of_the_maps_before(groups):
    module = nn.Conv(8, (3, 3), feature_group_count=groups)
    images = jnp.asarray(RANDOM.random((2, 5, 5, 6)), jnp.float32)
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), images))
    weights = moved(filters.init(variables, mode="input"))
    assert weights["input"].shape == (6 // groups,)
    scaled = images * jnp.tile(weights["input"], groups)[None, None, None]
    apply = applied(module)
    found = apply(filters.apply(variables, weights), images)
    expected = apply(variables, scaled)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_depthwise_kernel_has_weights_of_outputs_only():
    _, variables = known(Small)
    depthwise = "depthwise/.*"
    assert list(filters.init(variables, depthwise, "filter")) == ["depthwise/norm/gain"]
    both = filters.init(variables, depthwise, "output+input")
    assert list(both) == ["depthwise/norm/output"]
    with pytest.raises(ValueError, match="see one channel"):
        filters.init(variables, depthwise, "input")


@pytest.mark.parametrize("mode", tiers.by_tier(MODES, 2))
def test_adapters_in_one_batch_equal_adapters_one_by_one(mode):
    images, variables = known(Small)
    start = filters.init(variables, mode=mode)
    each = [moved(start, seed) for seed in range(3)]
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *each)

    def run(weights, images):
        return Small().apply(filters.apply(variables, weights), images)

    found = jax.jit(jax.vmap(run, in_axes=(0, None)))(together, images)
    for row, weights in zip(found, each, strict=True):
        expected = jax.jit(run)(weights, images)
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_fold_is_apply_and_unfold_undoes_it(mode):
    images, variables = known(Small)
    weights = moved(filters.init(variables, mode=mode))
    folded = filters.fold(variables, weights)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(folded))
    applied = filters.apply(variables, weights)
    network = forward(Small, False)
    np.testing.assert_allclose(
        network(folded, images), network(applied, images), rtol=1e-6, atol=1e-6
    )
    back = filters.unfold(folded, weights)
    for path, leaf in tree.flatten(variables).items():
        found = tree.flatten(back)[path]
        # What was added and taken off again is rounded as the sum was.
        away = 2e-7 if mode == "shift" else 0
        np.testing.assert_allclose(found, leaf, rtol=5e-7, atol=away, err_msg=path)


def test_what_zeros_multiplied_is_lost():
    _, variables = known(Small)
    weights = {name: 0 * leaf for name, leaf in filters.init(variables).items()}
    with pytest.raises(ValueError, match="has zeros"):
        filters.unfold(variables, weights)


def test_weights_mean_the_same_once_norms_are_folded_away():
    images, variables = known(Small)
    weights = moved(filters.init(variables, "(stem|depthwise|project)/.*"))
    expected = Small().apply(filters.apply(variables, weights), images)
    module, plain = folding.fold_batchnorm(Small(), variables)
    renamed = {name.replace("norm", "conv"): leaf for name, leaf in weights.items()}
    assert set(renamed) == set(filters.init(plain, "(stem|depthwise|project)/.*"))
    found = module.apply(filters.apply(plain, renamed), images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.exhaustive
def test_states_of_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
            self.last = nnx.List([nnx.Linear(5, 2, rngs=rngs)])

        def __call__(self, images):
            return self.last[0](jnp.mean(self.norm(self.conv(images)), (1, 2)))

    net = Net(nnx.Rngs(0))
    graph, state = nnx.split(net)
    images = jnp.ones((1, 4, 4, 3))
    weights = moved(filters.init(state, pairing={"conv": "norm", "last/0": None}))
    assert list(weights) == ["norm/output", "last/0/output"]
    changed = nnx.merge(graph, filters.apply(state, weights))
    expected = net(images) * weights["last/0/output"][None]
    only = nnx.merge(
        graph, filters.apply(state, {"last/0/output": weights["last/0/output"]})
    )
    np.testing.assert_allclose(only(images), expected, rtol=1e-5)
    assert np.abs(changed(images) - only(images)).max() > 1e-3
    plain = nnx.to_pure_dict(state)
    assert set(filters.init(plain, "conv")) == {"norm/output"}


@functools.cache
def loaded(name, decision=()):
    """Load an untrained network."""
    return pretrained.load(name, "random", num_classes=3, decision=dict(decision))


@pytest.mark.exhaustive
def test_weights_of_mobilenet_from_block_7_on():
    network = loaded("mobilenet_v2")
    pairing = filters.pairs(network)
    assert pairing == filters.pairs("mobilenet_v2")
    select = "(block([7-9]|1[0-7])|top)/.*"
    weights = filters.init(network.variables, select, pairing=pairing)
    assert all(name.endswith("norm/output") for name in weights)
    assert tree.count(weights) == 15_296
    same(weights, filters.init(network.variables, select))


def test_trunks_of_part_networks():
    decision = (("name", "bag"), ("parts", 6), ("dimensions", (4, 4)))
    network = loaded("cifar_resnet8", decision)
    pairing = filters.pairs(network)
    assert pairing["backbone/stem/conv"] == "backbone/stem/norm"
    select = "backbone/.*"
    weights = filters.init(network.variables, select, pairing=pairing)
    table = filters.pairs("cifar_resnet8")
    same(weights, filters.init(network.variables, select, pairing=table))
    assert len(weights) == len(pairing) == 9
    filters.check(network.variables, weights)


@pytest.mark.exhaustive
def test_folded_networks_are_weighted_before_the_bias():
    network = loaded("cifar_resnet8")
    module, variables = folding.fold_batchnorm(network.module, network.variables)
    pairing = filters.pairs(network._replace(module=module, variables=variables))
    assert set(pairing.values()) == {None}
    with pytest.raises(ValueError, match="folded away"):
        filters.init(variables, "stem/.*", pairing=filters.pairs("cifar_resnet8"))


def test_penalties(unchecked):
    weights = {"a/output": np.array([1.0, 0.5], np.float32), "b/gain": np.ones(3) * -2}
    expected = {"towards_one": 0.25 + 27, "l1": 7.5}
    for kind, value in expected.items():
        np.testing.assert_allclose(filters.penalty(weights, kind), value)
    assert filters.penalty({}) == 0
    with pytest.raises(ValueError, match="`kind`='l3'"):
        filters.penalty(weights, "l3")
    with pytest.raises(ValueError, match="shifted by -1"):
        filters.penalty({"a/shift": np.ones(3)}, "l1")


@pytest.mark.exhaustive
def test_hard_concrete_gates_are_open_as_often_as_the_penalty_says():
    logits = {"a": jnp.full((20_000,), -0.5), "b": jnp.full((20_000,), 1.0)}
    gates = filters.hard_concrete(logits, key=jax.random.key(0))
    for name, leaf in gates.items():
        expected = float(filters.penalty({name: logits[name]}, "l0")) / leaf.size
        # Five standard deviations of a share of 20,000.
        assert abs(float(jnp.mean(leaf > 0)) - expected) < 0.02
        assert leaf.min() == 0 and leaf.max() == 1
    assert not np.array_equal(gates["a"], gates["b"])


@pytest.mark.exhaustive
def test_hard_concrete_gates_after_training():
    logits = {"a": np.array([3.0, 2.4, 0.0, -2.4], np.float32)}
    gates = filters.hard_concrete(logits)["a"]
    np.testing.assert_allclose(gates, [1, 1, 0.5, 0], atol=1e-6)
    slope = jax.grad(
        lambda logits: jnp.sum(
            filters.hard_concrete({"a": logits}, key=jax.random.key(1))["a"]
        )
    )(jnp.zeros(50))
    assert (slope > 0).any() and jnp.isfinite(slope).all()


def error(match, function, *arguments, **settings):
    with pytest.raises(ValueError, match=match) as caught:
        function(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_in_one_sentence(unchecked):
    _, ours = known(Small)
    _, foreign = known(Foreign)
    error("selects no convolution", filters.init, ours, "block9/.*")
    error("no regular expression", filters.init, ours, "(")
    error("`mode`='sum'", filters.init, ours, mode="sum")
    error("may follow Conv_0", filters.init, foreign, "Conv_0")
    error("says nothing of Conv_0", filters.init, foreign, "Conv_0", pairing={})
    error(
        "no norm with a scale",
        *(filters.init, foreign, "Conv_0"),
        pairing={"Conv_0": "BatchNorm_1"},
    )
    error(
        "does not fit the kernel of Dense_0",
        *(filters.init, drawn_wide(foreign), "Dense_0"),
        pairing={"Dense_0": "BatchNorm_0"},
    )
    error(
        "follow both",
        *(filters.init, ours, "(stem|depthwise)/.*"),
        pairing={"stem/conv": "stem/norm", "depthwise/conv": "stem/norm"},
    )
    error("has no bias", filters.init, {"kernel": np.ones((3, 4))}, mode="shift")
    error("did you mean 'resnet18'", filters.pairs, "resnet17")
    other = filters.init(foreign, mode="filter")
    error("the network lacks", filters.apply, ours, other)
    weights = filters.init(ours)
    wrong = weights | {"stem/norm/output": jnp.ones(3)}
    error(r"shape \(3,\); expected \(8,\)", filters.check, ours, wrong)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), weights)
    error("go through `jax.vmap`", filters.apply, ours, stacked)


def drawn_wide(variables):
    """Give a network's norm a length that nothing has."""
    return tree.map_with_path(
        lambda path, leaf: np.ones(7) if "BatchNorm" in path else leaf, variables
    )


def test_transposed_kernels_are_refused():
    images = jnp.ones((1, 4, 4, 3))
    module = nn.ConvTranspose(5, (2, 2), transpose_kernel=True)
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), images))
    for mode in MODES:
        error("transpose_kernel", filters.init, variables, mode=mode)
    module = nn.ConvTranspose(5, (2, 2))
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), images))
    weights = moved(filters.init(variables))
    apply = applied(module)
    found = apply(filters.apply(variables, weights), images)
    expected = apply(variables, images) * weights["output"][None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

"""The input gradient that resembles the guided one: derivatives, rules, and bounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from unlir_jax import objectives
from unlir_jax.objectives import input_gradients, network
from unlir_jax.objectives.objective import Apply
from unlir_jax.saliency import rectifiers
from unlir_jax.saliency.gradients import guided

RANDOM = np.random.default_rng(0)
CLASSES = 3
KEY = jax.random.key(5)
LABELS = np.asarray([0, 2, 1, 0], np.int32)


class Small(nn.Module):
    """Has a norm that sees the batch, and a rectifier that ends at 6."""

    activation: str = "relu6"

    def setup(self):
        self.conv = nn.Conv(8, (3, 3))
        self.norm = nn.BatchNorm(momentum=0.5)
        self.second = nn.Conv(8, (3, 3), strides=2)
        self.dense = nn.Dense(CLASSES)

    def features(self, images, train=False):
        maps = self.norm(self.conv(images), use_running_average=not train)
        act = getattr(nn, self.activation)
        return act(self.second(act(4 * maps)))

    def head(self, maps, train=False):
        return self.dense(maps.mean((1, 2)))

    def __call__(self, images, train=False):
        return self.head(self.features(images, train))


@functools.cache
def made(activation="relu6"):
    module = Small(activation)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.jit(module.init)(jax.random.key(1), images)
    return network.whole(module), variables


def batch(dtype=np.float32):
    generator = np.random.default_rng(3)
    return {
        "image": generator.uniform(size=(4, 8, 8, 3)).astype(dtype),
        "label": LABELS,
        "weight": np.ones(4, dtype),
        "position": np.arange(4, dtype=np.int32),
        "index": np.arange(4, dtype=np.int32),
    }


def total(objective, statistics, rows, params):
    variables = {"params": params, "batch_stats": statistics}
    return jnp.mean(objective.train(variables, rows, KEY).loss)


@pytest.mark.parametrize("distance", ["cosine", "mean_squared"])
def test_the_second_derivative_is_what_finite_differences_say(distance):
    """In float64, with the guided gradient held where it is."""
    with jax.enable_x64(True):
        apply, variables = made()
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
        rows = batch(np.float64)
        towards = jax.tree.map(
            lambda leaf: jnp.asarray(RANDOM.normal(size=leaf.shape)),
            variables["params"],
        )
        targets = jax.nn.one_hot(rows["label"], CLASSES, dtype=jnp.float64)
        run = _run(apply, variables)
        ruled = guided.ruled("guided", lambda x: run(x)[0], rows["image"])
        held = input_gradients.differentiated(
            lambda x: (ruled(x), None), rows["image"], targets, rows["weight"]
        )[0]

        @jax.jit
        def by_hand(params):
            known = variables | {"params": params}
            plain, (loss, *_) = input_gradients.differentiated(
                _run(apply, known), rows["image"], targets, rows["weight"]
            )
            apart = input_gradients.distance(distance, plain, held)
            return jnp.mean(loss + 0.5 * apart)

        objective = objectives.interpretable_gradients(
            apply, CLASSES, weight=0.5, distance=distance
        )
        learned = functools.partial(total, objective, variables["batch_stats"], rows)
        value, slope = jax.jit(jax.value_and_grad(learned))(variables["params"])
        np.testing.assert_allclose(value, by_hand(variables["params"]), rtol=1e-10)
        pairs = zip(*map(jax.tree.leaves, (slope, towards)), strict=True)
        found = sum(jnp.vdot(first, second) for first, second in pairs)
        before, after = (
            by_hand(
                jax.tree.map(lambda p, t, s=s: p + s * t, variables["params"], towards)
            )
            for s in (-1e-6, 1e-6)
        )
        np.testing.assert_allclose(found, (after - before) / 2e-6, rtol=1e-4)


def _run(apply, variables):
    return lambda images: apply.train(variables, images, KEY)


def test_without_weight_a_step_is_that_of_plain_training_bit_for_bit():
    apply, variables = made()
    rows = batch()

    def step(objective):
        learned = functools.partial(total, objective, variables["batch_stats"], rows)
        return jax.jit(jax.value_and_grad(learned))(variables["params"])

    expected = step(objectives.classify(apply, CLASSES))
    found = step(objectives.interpretable_gradients(apply, CLASSES, weight=0.0))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    other = step(objectives.interpretable_gradients(apply, CLASSES, weight=1.0))
    kernels = [each[1]["conv"]["kernel"] for each in (expected, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def test_norms_see_the_batch_and_move_once():
    apply, variables = made()
    rows = batch()
    plain, guided_too = (
        objective.train(variables, rows, KEY)
        for objective in (
            objectives.classify(apply, CLASSES),
            objectives.interpretable_gradients(apply, CLASSES, weight=1.0),
        )
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        guided_too.statistics,
        plain.statistics,
    )
    moved = np.asarray(plain.statistics["norm"]["mean"])
    assert np.abs(moved - variables["batch_stats"]["norm"]["mean"]).max() > 1e-3
    np.testing.assert_array_equal(
        guided_too.metrics["accuracy"], plain.metrics["accuracy"]
    )


def test_the_rule_does_not_leak_into_the_plain_gradient():
    apply, variables = made()
    rows = batch()
    images, labels = jnp.asarray(rows["image"]), rows["label"]

    def loss(images):
        logits = apply.evaluate(variables, images)
        return -jnp.sum(jax.nn.log_softmax(logits)[np.arange(4), labels])

    plain = jax.grad(loss)(images)
    ruled = jax.grad(guided.ruled("guided", loss, images))(images)
    objective = objectives.interpretable_gradients(apply, CLASSES)
    found = objective.evaluate(variables, rows)
    np.testing.assert_allclose(
        found["gradient_cosine"], _cosine(plain, ruled), rtol=1e-4
    )
    assert np.all(np.asarray(found["gradient_cosine"]) < 0.99)
    rough = _roughness(np.asarray(plain))
    np.testing.assert_allclose(found["gradient_total_variation"], rough, rtol=1e-4)
    np.testing.assert_allclose(jax.grad(loss)(images), plain, rtol=0)


def _cosine(first, second):
    first, second = (np.asarray(each).reshape(4, -1) for each in (first, second))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / norms


def _roughness(gradient):
    down = np.abs(gradient[:, 1:] - gradient[:, :-1]).reshape(4, -1)
    right = np.abs(gradient[:, :, 1:] - gradient[:, :, :-1]).reshape(4, -1)
    both = np.concatenate([down, right], axis=1).mean(1)
    return both / np.abs(gradient).max((1, 2, 3))


def test_a_row_that_could_not_be_read_changes_no_other():
    apply, variables = made()
    rows = batch()
    objective = objectives.interpretable_gradients(apply, CLASSES)
    known = objective.evaluate(variables, rows)
    rows["weight"] = np.asarray([1, 1, 1, 0], np.float32)
    found = objective.evaluate(variables, rows)
    for name in objective.metrics:
        np.testing.assert_allclose(found[name][:3], known[name][:3], rtol=1e-5)


@pytest.mark.exhaustive
def test_the_guided_gradient_is_learned_where_it_is_not_a_constant():
    apply, variables = made()
    rows = batch()
    slopes = []
    for detached in (True, False):
        objective = objectives.interpretable_gradients(
            apply, CLASSES, weight=1.0, detached=detached
        )
        learned = functools.partial(total, objective, variables["batch_stats"], rows)
        slopes.append(jax.jit(jax.grad(learned))(variables["params"]))
    first, second = (np.asarray(slope["conv"]["kernel"]) for slope in slopes)
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()


def test_any_function_is_trained_and_its_own_norms_are_not_asked_for():
    """An NNX network, as people bring their own."""
    conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
    graph, state = nnx.split(conv)

    def logits(variables, images):
        return jax.nn.relu(nnx.merge(graph, variables)(images)).mean((1, 2))

    def train(variables, images, key):
        del key
        return logits(variables, images), {}

    objective = objectives.interpretable_gradients(Apply(train, logits), 4, weight=1.0)
    outcome = objective.train(state, batch(), KEY)
    assert np.isfinite(outcome.loss).all()
    assert sorted(outcome.metrics) == ["accuracy", "gradient_cosine"]


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh_gelu", "quick_gelu"])
def test_smooth_rectifiers_pass_positive_gradients_of_positive_inputs(activation):
    curve = {
        "gelu": functools.partial(jax.nn.gelu, approximate=False),
        "silu": jax.nn.silu,
        "tanh_gelu": jax.nn.gelu,
        "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    }[activation]
    values = jnp.linspace(-3, 3, 7)[None]
    factors = jnp.asarray([1, -1, 1, 1, -1, 2, -1.0])[None]

    def network(values):
        return jnp.sum(factors * curve(values + 0.25))

    ruled = guided.ruled("guided", network, values)
    np.testing.assert_allclose(ruled(values), network(values), rtol=1e-6)
    slope = jax.vmap(jax.grad(curve))(values[0] + 0.25)
    passed = (values[0] + 0.25 > 0) & (factors[0] > 0)
    expected = np.where(passed, factors[0] * slope, 0)
    np.testing.assert_allclose(jax.grad(ruled)(values)[0], expected, rtol=1e-5)
    everywhere = jax.grad(guided.ruled("deconvolution", network, values))(values)[0]
    expected = np.where(factors[0] > 0, factors[0] * slope, 0)
    np.testing.assert_allclose(everywhere, expected, rtol=1e-5)


def test_a_gate_of_another_value_is_no_rectifier():
    def network(values):
        gate = jax.nn.sigmoid(values.mean(1, keepdims=True))
        return jnp.sum(jax.nn.relu(values) * gate + jnp.tanh(values) * values)

    values = jnp.asarray(RANDOM.normal(size=(3, 5)), jnp.float32)
    closed = jax.make_jaxpr(network)(values)
    scope = rectifiers.Scope(closed.jaxpr, [None], smooth=True)
    products = [e for e in closed.jaxpr.eqns if e.primitive.name == "mul"]
    assert len(products) == 2
    assert [scope.bent(equation) for equation in products] == [None, None]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cosine", 1 - 3 / np.sqrt(5 * 2)),
        ("mean_absolute", 1 / 4),
        ("mean_squared", 1 / 4),
        ("histogram_intersection", -2 / (3 * 2)),
        ("normalized_histogram_intersection", 1 - (1 / 3 + 1 / 2)),
    ],
)
def test_distances_of_two_small_gradients(kind, expected):
    plain = jnp.asarray([2.0, -1, 0, 0]).reshape(1, 2, 2, 1)
    other = jnp.asarray([1.0, -1, 0, 0]).reshape(1, 2, 2, 1)
    found = input_gradients.distance(kind, plain, other)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_gradient_of_zeros_has_a_distance_and_a_derivative():
    nothing, other = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))

    def apart(plain):
        return input_gradients.distance("cosine", plain, other).sum()

    value, slope = jax.value_and_grad(apart)(nothing)
    assert value == 1 and np.isfinite(slope).all()
    tiny = input_gradients.cosine(1e-30 * other, 1e-25 * other)
    np.testing.assert_allclose(tiny, [1], rtol=1e-6)
    assert input_gradients.total_variation(nothing) == 0


def test_a_rough_gradient_has_more_variation():
    checks = jnp.asarray([[1.0, -1], [-1, 1]]).reshape(1, 2, 2, 1)
    found = input_gradients.total_variation(
        jnp.concatenate([checks, jnp.ones_like(checks)])
    )
    np.testing.assert_allclose(found, [2, 0], rtol=1e-6)


def test_wrong_settings_are_refused():
    apply, variables = made()
    make = objectives.interpretable_gradients
    with pytest.raises(ValueError, match=r"`weight`=-1\.0; expected 0 or more"):
        make(apply, CLASSES, weight=-1.0)
    with pytest.raises(ValueError, match="`weight`=nan"):
        make(apply, CLASSES, weight=float("nan"))
    with pytest.raises(ValueError, match=r"expected features\.cache=False"):
        make(apply._replace(inputs="features"), CLASSES)
    bent, known = made("tanh")
    with pytest.raises(ValueError, match="no ReLU.*that bend: tanh"):
        make(bent, CLASSES, weight=1.0).train(known, batch(), KEY)

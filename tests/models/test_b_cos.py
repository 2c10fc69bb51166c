"""A network whose explanation is exact, as a test of what explains and scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, saliency, split
from unlir_jax.models import b_cos, zoo

CLASSES = 4
LABELS = jnp.asarray([0, 3, 1])


@functools.cache
def made(power=2.0):
    module = b_cos.BCosNet(CLASSES, widths=(6, 8), power=power)
    random = np.random.default_rng(2)
    images = jnp.asarray(random.random((3, 12, 12, 3)), jnp.float32)
    return module, jax.jit(module.init)(jax.random.key(3), images), images


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_contributions_add_up_to_the_logit(power):
    module, variables, images = made(power)
    found = b_cos.contributions(module)(variables, images, LABELS)
    logits = module.apply(variables, images)[jnp.arange(3), LABELS]
    np.testing.assert_allclose(
        found.sum((1, 2)), logits - module.bias, rtol=1e-4, atol=1e-6
    )
    assert module.bias == pytest.approx(-np.log(3))


def test_a_layer_is_the_published_formula():
    """|cos|^(B - 1) times the product with a unit kernel, at one location."""
    module = b_cos.BCos(5, size=3, power=2.0)
    random = np.random.default_rng(1)
    maps = jnp.asarray(random.normal(size=(1, 3, 3, 2)), jnp.float32)
    variables = module.init(jax.random.key(0), maps)
    kernel = np.asarray(variables["params"]["kernel"], np.float64).reshape(-1, 5)
    unit = kernel / np.linalg.norm(kernel, axis=0)
    patch = np.asarray(maps, np.float64).reshape(-1)
    linear = patch @ unit
    cosine = np.abs(linear) / np.sqrt((patch**2).sum() + 1e-6)
    found = module.apply(variables, maps)[0, 1, 1]
    np.testing.assert_allclose(found, cosine * linear, rtol=1e-5)
    scaled = {"params": {"kernel": 7 * variables["params"]["kernel"]}}
    np.testing.assert_allclose(module.apply(scaled, maps)[0, 1, 1], found, rtol=1e-5)


def test_a_norm_divides_by_the_spread_of_the_batch_and_subtracts_nothing():
    """As `batch_norm_uncentered_2d` of the official code, B-cos v2 at 9a849c9."""
    module = b_cos.UncenteredNorm()
    random = np.random.default_rng(1)
    maps = jnp.asarray(random.normal(3, 2, (4, 5, 6, 2)), jnp.float32)
    variables = {
        "params": {"scale": jnp.asarray([1.0, 2.0])},
        "batch_stats": {"var": jnp.asarray([1.0, 4.0])},
    }
    found, changed = module.apply(variables, maps, True, mutable=["batch_stats"])
    spread = np.asarray(maps, np.float64).var((0, 1, 2))
    expected = np.asarray(maps) / np.sqrt(spread + 1e-5) * [1, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    left = changed["batch_stats"]["var"]
    np.testing.assert_allclose(left, [0.9, 3.6] + 0.1 * spread, rtol=1e-5)
    still = module.apply(variables, maps)
    np.testing.assert_allclose(still, maps, rtol=1e-4)


def test_a_start_can_be_trained():
    """Its logits differ: without norms they are alike to 1e-4 and learn nothing."""
    module = zoo.find("b_cos_small")[1].build(num_classes=6)
    images = jnp.asarray(np.random.default_rng(0).random((8, 32, 32, 3)), jnp.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    run = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    logits, _ = run(variables, images)
    assert np.ptp(np.asarray(logits), axis=1).min() > 0.01


def test_with_power_1_it_is_the_gradient_of_a_linear_network():
    """Then input times gradient differs by what 1 - x adds, which is known."""
    module, variables, images = made(1.0)
    model = split.from_methods(module)
    exact = b_cos.contributions(module)(variables, images, LABELS)
    plain = saliency.input_x_gradient(model, channels="sum")
    nothing = b_cos.contributions(module)(variables, 0 * images, LABELS)
    found = plain(variables, images, LABELS)
    np.testing.assert_allclose(found + nothing, exact, rtol=1e-3, atol=1e-5)


@pytest.mark.exhaustive
def test_the_harness_finds_the_exact_explanation_where_the_evidence_is():
    """Contributions lie on the spot that decides, and controls do not."""
    module, variables, images, labels, masks = trained()
    model = split.from_methods(module)
    exact = jax.nn.relu(b_cos.contributions(module)(variables, images, labels))
    score = metrics.energy_pointing_game(model)

    def energy(found):
        given = variables, images, labels, found
        return np.mean(score(*given, masks)["energy_pointing_game"])

    for control in (saliency.center, saliency.random):
        other = control(model)(variables, images, labels, key=jax.random.key(0))
        assert energy(exact) > 2 * energy(other)


@functools.cache
def trained():
    """Learn which colour a spot at a random place has."""
    module = b_cos.BCosNet(3, widths=(8, 8))
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.uniform(0.4, 0.6, (48, 16, 16, 3)).astype("f")
    masks = np.zeros((48, 16, 16), np.int8)
    for image, mask, label in zip(images, masks, labels, strict=True):
        top, left = random.integers(0, 12, 2)
        image[top : top + 4, left : left + 4] = np.eye(3)[label]
        mask[top : top + 4, left : left + 4] = 1
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    variables = jax.jit(module.init)(jax.random.key(1), images)

    params, statistics = variables["params"], variables["batch_stats"]

    @jax.jit
    def step(params, statistics, speed):
        def loss(params):
            given = {"params": params, "batch_stats": statistics}
            applied = module.apply(given, images, train=True, mutable=["batch_stats"])
            logits, changed = applied
            found = jax.nn.log_softmax(logits)[jnp.arange(48), labels]
            return -jnp.mean(found), changed["batch_stats"]

        slope, statistics = jax.grad(loss, has_aux=True)(params)
        speed = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, speed, slope)
        return jax.tree.map(jnp.add, params, speed), statistics, speed

    speed = jax.tree.map(jnp.zeros_like, params)
    for _ in range(150):
        params, statistics, speed = step(params, statistics, speed)
    variables = {"params": params, "batch_stats": statistics}
    right = module.apply(variables, images).argmax(1) == labels
    assert right.mean() > 0.9
    return module, variables, images[:12], labels[:12], masks[:12]

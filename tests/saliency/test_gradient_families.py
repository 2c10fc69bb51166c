"""The gradient family and FullGrad: completeness, and rules of ReLUs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy
from flax import linen as nn

from unlir_jax import maps, saliency, split
from unlir_jax.saliency.gaussian_blur import blur
from unlir_jax.saliency.gradients import integrated

LABELS = jnp.asarray([0, 3, 1, 2])
KEY = jax.random.key(0)


class Smooth(nn.Module):
    """Bends everywhere and has no kinks."""

    @nn.compact
    def __call__(self, images):
        found = nn.Conv(6, (3, 3), name="conv")(3 * images)
        return nn.Dense(5, name="dense")(jnp.mean(nn.softplus(found), (1, 2)))


class Mixed(nn.Module):
    """Has what hides biases: a norm, ReLU6, a skip, pooling, and a dense layer."""

    activation: str = "relu6"

    @nn.compact
    def __call__(self, images):
        relu6 = {
            "relu6": jax.nn.relu6,
            "clamp": lambda x: jax.lax.clamp(x.dtype.type(0), x, x.dtype.type(6)),
            "clip": lambda x: jnp.clip(x, 0, 6),
            "min_first": lambda x: jnp.maximum(jnp.minimum(x, 6), 0),
        }[self.activation]
        images = (images - 0.4) / 0.2
        first = nn.Conv(8, (3, 3), name="conv1")(images)
        first = nn.BatchNorm(use_running_average=True, name="norm")(first)
        first = relu6(4 * first)
        second = jnp.maximum(0, nn.Conv(8, (3, 3), name="conv2")(first))
        pooled = nn.max_pool(first + second, (2, 2), (2, 2))
        return nn.Dense(5, name="dense")(nn.relu(pooled).mean((1, 2)))


def mixed(pictures, activation="relu6"):
    module = Mixed(activation)
    variables = toy.random_variables(module, pictures)
    return split.from_linen(module, "conv1"), variables


@pytest.fixture(scope="module")
def pictures(pictures):
    """Give every second pixel."""
    return pictures[:, ::2, ::2]


@pytest.fixture(scope="module")
def smooth(pictures):
    module = Smooth()
    return split.from_linen(module, "conv"), toy.random_variables(module, pictures)


@pytest.mark.exhaustive
def test_gradient_and_its_colours(smooth, pictures):
    cut, variables = smooth

    def total(images):
        return split.whole(cut)(variables, images)[jnp.arange(4), LABELS].sum()

    slope = jax.grad(total)(jnp.asarray(pictures))
    inputs = (variables, pictures, LABELS)
    for channels, expected in (
        ("keep", slope),
        ("sum", slope.sum(-1)),
        ("absolute_sum", abs(slope).sum(-1)),
        ("absolute_max", abs(slope).max(-1)),
        ("norm", jnp.sqrt((slope**2).sum(-1))),
    ):
        found = saliency.gradient(cut, channels=channels)(*inputs)
        np.testing.assert_allclose(found, expected, atol=1e-7)
    found = saliency.input_x_gradient(cut)(*inputs)
    np.testing.assert_allclose(found, (slope * pictures).sum(-1), atol=1e-7)


@pytest.mark.exhaustive
@pytest.mark.parametrize("baseline", tiers.by_tier(["black", "blur"], {"black"}))
def test_integrated_gradients_are_complete(smooth, pictures, baseline):
    cut, variables = smooth
    inputs = (variables, pictures, LABELS)
    measure = saliency.completeness(cut, baseline=baseline)
    errors = {}
    for rule, steps in (("gauss_legendre", 64), ("trapezoid", 64), ("trapezoid", 8)):
        explain = saliency.integrated_gradients(
            cut, steps=steps, rule=rule, baseline=baseline
        )
        errors[rule, steps] = measure(*inputs, explain(*inputs)).error.max()
    assert errors["gauss_legendre", 64] < 1e-2
    assert errors["trapezoid", 64] < 1e-2
    assert errors["trapezoid", 8] > errors["trapezoid", 64]


@pytest.mark.exhaustive
def test_error_of_the_field_the_trapezoid_rule_is_one(x64, pictures):
    """A score of degree two has a linear integrand, which the rule integrates."""
    square = split.from_functions(
        lambda v, images: images, lambda v, stack: (stack**2).mean((1, 2))
    )
    images, labels = jnp.asarray(pictures, jnp.float64), LABELS % 3
    explain = saliency.integrated_gradients(square, steps=2, rule="trapezoid")
    error = saliency.completeness(square)(
        {}, images, labels, explain({}, images, labels)
    ).error
    assert error.max() < 1e-12
    for rule in ("gauss_legendre", "trapezoid"):
        nodes, weights = integrated.quadrature(9, rule)
        assert weights.sum() == pytest.approx(1)
        assert weights @ nodes == pytest.approx(1 / 2)


@pytest.mark.exhaustive
def test_host_and_device_agree(smooth, pictures):
    cut, variables = smooth
    for name in ("integrated_gradients", "blur_integrated_gradients", "smooth_grad"):
        small = {"samples": 4} if name == "smooth_grad" else {"steps": 4}
        found = [
            saliency.METHODS[name](cut, loop=loop, **small)(
                variables, jnp.asarray(pictures), LABELS, key=KEY
            )
            for loop in ("host", "device")
        ]
        np.testing.assert_allclose(*found, atol=1e-6)


@pytest.mark.exhaustive
def test_blur_integrated_gradients_are_complete(smooth, pictures):
    cut, variables = smooth
    images = jnp.asarray(pictures)
    found = saliency.blur_integrated_gradients(cut)(variables, images, LABELS)
    network = split.whole(cut)
    blurred = blur(images, 0.2 * 16)
    expected = network(variables, images) - network(variables, blurred)
    expected = expected[jnp.arange(4), LABELS]
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found.sum((1, 2)), expected, atol=1e-2 * scale)


def test_the_blur_keeps_what_is_constant_and_vanishes(pictures):
    images = jnp.asarray(pictures)
    np.testing.assert_allclose(blur(images, 0.0), images, atol=1e-6)
    grey = jnp.full_like(images, 0.25)
    np.testing.assert_allclose(blur(grey, 5.0), grey, atol=1e-6)


@pytest.mark.exhaustive
def test_gradient_shap_adds_up_in_expectation(smooth, pictures):
    cut, variables = smooth
    images = jnp.asarray(pictures)
    explain = saliency.gradient_shap(cut, samples=200)
    found = explain(variables, images, LABELS, key=KEY).sum((1, 2))
    network = split.whole(cut)
    draw = jax.jit(
        lambda key: network(variables, maps.background(images, "noise", key=key))
    )
    start = jnp.stack([draw(jax.random.key(seed)) for seed in range(20)]).mean(0)
    expected = (network(variables, images) - start)[jnp.arange(4), LABELS]
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=0.05 * scale)
    black = saliency.gradient_shap(cut, samples=200, baseline="black")
    measured = saliency.completeness(cut)(
        variables, images, LABELS, black(variables, images, LABELS, key=KEY)
    )
    assert measured.error.max() < 1e-2


@pytest.mark.exhaustive
def test_moments_of_a_linear_network_are_known(pictures):
    linear = split.from_functions(
        lambda v, images: images, lambda v, stack: stack.mean((1, 2))
    )
    inputs = ({}, jnp.asarray(pictures), LABELS % 3)
    plain = saliency.gradient(linear)(*inputs)
    smooth = saliency.smooth_grad(linear, samples=5)(*inputs, key=KEY)
    np.testing.assert_allclose(smooth, plain, rtol=1e-5)
    square = saliency.square_grad(linear, samples=5)(*inputs, key=KEY)
    np.testing.assert_allclose(square, plain**2, rtol=1e-5)
    variance = saliency.var_grad(linear, samples=5)(*inputs, key=KEY)
    np.testing.assert_allclose(variance, 0, atol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["smooth_grad", "gradient_shap", "ss_cam"])
def test_random_methods_need_a_key_and_follow_it(unchecked, smooth, pictures, name):
    cut, variables = smooth
    inputs = (variables, jnp.asarray(pictures), LABELS)
    explain = saliency.METHODS[name](cut, samples=2)
    with pytest.raises(ValueError, match="`key`=None"):
        explain(*inputs)
    first, again = (explain(*inputs, key=KEY) for _ in range(2))
    other = explain(*inputs, key=jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.max(jnp.abs(other - first))) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "activation", tiers.by_tier(["relu6", "clamp", "clip", "min_first"], {"relu6"})
)
def test_error_of_the_field_every_relu_is_guided_however_written(pictures, activation):
    """The gradient by hand, layer by layer, with the rule at each ReLU."""
    cut, variables = mixed(pictures, activation)
    images = jnp.asarray(pictures)
    inputs = (variables, images, LABELS)
    expected = by_hand(variables, images, LABELS, True)
    found = saliency.guided_backpropagation(cut, channels="keep")(*inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    expected = by_hand(variables, images, LABELS, False)
    found = saliency.deconvolution(cut, channels="keep")(*inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    # The network's own gradient is what it was.
    plain = saliency.gradient(cut, channels="keep")(*inputs)
    assert float(jnp.max(jnp.abs(plain - found))) > 1e-3 * np.abs(expected).max()


@functools.partial(jax.jit, static_argnums=3)
def by_hand(variables, images, labels, guided):
    params, statistics = variables["params"], variables["batch_stats"]["norm"]

    def conv(name):
        return lambda x: nn.Conv(8, (3, 3)).apply({"params": params[name]}, x)

    def norm(x):
        layer = nn.BatchNorm(use_running_average=True)
        collections = {"params": params["norm"], "batch_stats": statistics}
        return 4 * layer.apply(collections, x)

    def gate(x, slope, high=np.inf):
        positive = jnp.maximum(slope, 0)
        return jnp.where((x > 0) & (x < high), positive, 0) if guided else positive

    start = (images - 0.4) / 0.2
    before, back1 = jax.vjp(lambda x: norm(conv("conv1")(x)), start)
    first = jnp.clip(before, 0, 6)
    inner, back2 = jax.vjp(conv("conv2"), first)
    second = jnp.maximum(inner, 0)
    pooled, back3 = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), first + second)
    weights = params["dense"]["kernel"][:, labels].T / pooled[0, :, :, 0].size
    slope = jnp.broadcast_to(weights[:, None, None], pooled.shape)
    (slope,) = back3(gate(pooled, slope))
    slope = slope + back2(gate(inner, slope))[0]
    return back1(gate(before, slope, 6))[0] / 0.2


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("method", "mode"),
    [
        ("guided_backpropagation", "forward"),
        ("deconvolution", "reverse"),
        ("guided_grad_cam", "reverse"),
    ],
)
def test_the_second_derivative_is_that_of_the_modified_gradient(x64, method, mode):
    """Central differences of the map itself; a rule applied twice gives others."""
    random = np.random.default_rng(5)
    shapes = {"one": (3, 8), "two": (8, 8), "three": (8, 5)}
    variables = {name: random.normal(size=shape) for name, shape in shapes.items()}

    def head(variables, stack):
        # Bent before, between and after the rectifiers: no derivative is flat.
        inner = jnp.tanh(jax.nn.relu(stack)) @ variables["two"]
        outer = jax.nn.softplus(jnp.minimum(jax.nn.relu(inner), 6))
        return outer.mean((1, 2)) @ variables["three"]

    cut = split.from_functions(lambda v, x: jnp.sin(3 * x) @ v["one"], head)
    explain = saliency.METHODS[method](cut, channels="keep")
    towards, weights = (
        jnp.asarray(random.normal(0.5, 1, size=(4, 4, 4, 3))) for _ in range(2)
    )
    images = jnp.asarray(random.uniform(0.1, 0.9, size=(4, 4, 4, 3)))

    def total(images):
        return jnp.sum(weights * explain(variables, images, LABELS))

    if mode == "forward":
        found = jax.jvp(total, (images,), (towards,))[1]
    else:
        found = jnp.sum(jax.grad(total)(images) * towards)
    step = 1e-6 * towards
    expected = (total(images + step) - total(images - step)) / 2e-6
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_network_without_relus_is_refused(smooth, pictures):
    cut, variables = smooth
    with pytest.raises(ValueError, match="no ReLU"):
        saliency.guided_backpropagation(cut)(variables, pictures, LABELS)


def test_relus_in_a_loop_are_refused(pictures):
    looped = split.from_functions(
        lambda v, images: images,
        lambda v, stack: jax.lax.scan(
            lambda x, _: (jax.nn.relu(x - 0.1), None), stack, None, length=2
        )[0].mean((1, 2)),
    )
    with pytest.raises(ValueError, match="inside of `scan`"):
        saliency.deconvolution(looped)({}, pictures, LABELS % 3)


def test_gates_and_variances_are_not_relus(pictures):
    gated = split.from_functions(
        lambda v, images: images,
        lambda v, stack: jax.nn.relu(
            jax.nn.hard_sigmoid(stack)
            - jnp.maximum(0, (stack**2).mean(-1) - stack.mean(-1) ** 2)[..., None]
        ).mean((1, 2)),
    )
    found = saliency.guided_backpropagation(gated, channels="keep")
    plain = saliency.gradient(gated, channels="keep")
    inputs = ({}, jnp.asarray(pictures), LABELS % 3)
    # The only ReLU is the outer one, whose inputs and gradients are positive here.
    np.testing.assert_allclose(found(*inputs), plain(*inputs), atol=1e-9)


@pytest.mark.exhaustive
def test_guided_grad_cam_is_the_product(pictures):
    cut, variables = mixed(pictures)
    inputs = (variables, jnp.asarray(pictures), LABELS)
    fine = saliency.guided_backpropagation(cut, channels="keep")(*inputs)
    coarse = saliency.grad_cam(cut)(*inputs)
    found = saliency.guided_grad_cam(cut, channels="keep")(*inputs)
    np.testing.assert_allclose(found, fine * coarse[..., None], rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("activation", ["clamp"])
def test_full_grad_is_complete(x64, pictures, activation):
    cut, variables = mixed(pictures, activation)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    images = jnp.asarray(pictures, jnp.float64)
    found = saliency.full_gradient(cut)(variables, images, LABELS)
    logits = split.whole(cut)(variables, images)[jnp.arange(4), LABELS]
    np.testing.assert_allclose(found.score, logits, atol=1e-12)
    layers = sum(statistics[:, 0] for statistics in found.statistics)
    total = found.image.sum((1, 2, 3)) + layers + found.rest
    np.testing.assert_allclose(total, logits, atol=1e-10)
    # Only the classifier's bias has no place.
    bias = variables["params"]["dense"]["bias"][LABELS]
    np.testing.assert_allclose(found.rest, bias, atol=1e-12)


@pytest.mark.exhaustive
def test_full_grad_of_one_layer_is_its_formula(pictures):
    module = toy.Halves()
    variables = toy.random_variables(module, pictures)
    cut = split.from_methods(module)
    images = jnp.asarray(pictures)
    params = variables["params"]
    before = nn.Conv(6, (3, 3)).apply({"params": params["conv"]}, images)
    slope = (before > 0) * params["dense"]["kernel"][:, LABELS].T[:, None, None] / 256
    image = saliency.input_x_gradient(cut, channels="absolute_sum")
    bias = jnp.abs(slope * params["conv"]["bias"][None, None, None]).sum(-1)
    expected = image(variables, images, LABELS) + bias
    found = saliency.full_grad(cut, rescale=False)(variables, images, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scaled = saliency.full_grad(cut)(variables, images, LABELS)
    assert float(scaled.max()) <= 3 + 6 + 1e-5


def test_full_grad_takes_networks_that_are_not_relu_networks(x64, smooth, pictures):
    cut, variables = smooth
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    images = jnp.asarray(pictures, jnp.float64)
    found = saliency.full_gradient(cut)(variables, images, LABELS)
    total = found.image.sum((1, 2, 3)) + found.rest
    total = total + sum(statistics[:, 0] for statistics in found.statistics)
    np.testing.assert_allclose(total, found.score, atol=1e-10)

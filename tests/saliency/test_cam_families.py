"""The CAM family: identities, slow references, and the field's known errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy

from unlir_jax import maps, saliency, split
from unlir_jax.saliency import targets
from unlir_jax.types import Features

LABELS = jnp.asarray([0, 3, 1, 2])
KEY = jax.random.key(0)


class Curved(toy.nn.Module):
    """A network whose head bends: convolution, then pooled and classified twice."""

    @toy.nn.compact
    def __call__(self, images):
        found = toy.nn.relu(toy.nn.Conv(6, (3, 3), name="conv")(images))
        found = toy.nn.Conv(5, (3, 3), (2, 2), name="second")(found)
        hidden = jnp.tanh(jnp.mean(toy.nn.relu(found), (1, 2)))
        return toy.nn.Dense(5, name="dense")(hidden)


@pytest.fixture(scope="module")
def curved(pictures):
    module = Curved()
    variables = toy.random_variables(module, pictures)
    return split.from_linen(module, "conv"), variables


@pytest.fixture(scope="module")
def pooled(pictures):
    module = toy.Halves()
    return split.from_methods(module), toy.random_variables(module, pictures)


@pytest.mark.exhaustive
def test_on_a_pooled_linear_head_the_family_is_one_method(pooled, pictures):
    cut, variables = pooled
    cells = 32 * 32
    evidence = saliency.cam(cut)(variables, pictures, LABELS) / cells
    for explain in (
        saliency.grad_cam(cut, rectify=False),
        saliency.xgrad_cam(cut),
        saliency.hires_cam(cut),
        saliency.shapley_cam(cut, rectify=False),
    ):
        found = explain(variables, pictures, LABELS)
        np.testing.assert_allclose(found, evidence, atol=1e-6)
    layer = saliency.layer_cam(cut)(variables, pictures, LABELS)
    elementwise = saliency.elementwise_grad_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(layer, elementwise, atol=1e-7)


def test_hires_cam_adds_up_in_a_homogeneous_network(pictures):
    cut = split.from_functions(
        lambda v, images: images - 0.3,
        lambda v, stack: jax.nn.relu(stack @ v).mean((1, 2)),
    )
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
    found = saliency.hires_cam(cut)(weights, pictures, LABELS)
    logits = split.whole(cut)(weights, pictures)[jnp.arange(4), LABELS]
    np.testing.assert_allclose(found.sum((1, 2)), logits, rtol=1e-4)


@pytest.mark.exhaustive
def test_xgrad_cam_and_hires_cam_have_the_same_sum(curved, pictures):
    cut, variables = curved
    xgrad = saliency.xgrad_cam(cut)(variables, pictures, LABELS)
    hires = saliency.hires_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(xgrad.sum((1, 2)), hires.sum((1, 2)), rtol=1e-4)


@pytest.mark.exhaustive
def test_shapley_cam_is_a_taylor_expansion_of_the_second_order(x64, pictures):
    kernel = np.random.default_rng(0).normal(size=(3, 3))
    quadratic = split.from_functions(
        lambda v, images: images,
        lambda v, stack: (stack.mean((1, 2)) @ v) ** 2 + stack.mean((1, 2)) @ v,
    )
    images, labels = jnp.asarray(pictures, jnp.float64), LABELS % 3
    explain = saliency.shapley_cam(quadratic, rectify=False)
    found = explain(jnp.asarray(kernel), images, labels)
    pooled = images.mean((1, 2))
    mixed = (pooled @ kernel)[jnp.arange(4), labels]
    # d/dA = (2 m + 1) w / n, H A = 2 m w / n; half of it is taken off.
    weights = kernel[:, labels].T * (mixed + 1)[:, None] / (32 * 32)
    expected = jnp.einsum("bhwk,bk->bhw", images, weights)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_eigen_cam_is_numpys_singular_vector(curved, pictures):
    cut, variables = curved
    stack = np.asarray(cut.features(variables, pictures).maps, np.float64)
    found = saliency.eigen_cam(cut)(variables, pictures, LABELS)
    for one, projection in zip(stack, found, strict=True):
        rows = one.reshape(-1, one.shape[-1])
        rows = rows - rows.mean(0)
        expected = np.abs(rows @ np.linalg.svd(rows)[2][0]).reshape(32, 32)
        np.testing.assert_allclose(projection, expected, atol=1e-4 * expected.max())


@pytest.mark.exhaustive
def test_error_of_the_field_an_eigen_map_has_no_arbitrary_sign(curved, pictures):
    cut, variables = curved
    stack = cut.features(variables, pictures).maps
    found = saliency.eigen_cam(cut, sign="aligned")(variables, pictures, LABELS)
    negated = split.SplitModel(
        lambda v, images: Features(-cut.features(v, images).maps, images),
        lambda v, f: cut.head(v, Features(-f.maps, f.context)),
    )
    turned = saliency.eigen_cam(negated, sign="aligned")(variables, pictures, LABELS)
    np.testing.assert_allclose(turned, -found, atol=1e-4)
    for one, average in zip(found, stack.mean(-1), strict=True):
        assert np.corrcoef(one.ravel(), average.ravel())[0, 1] > 0
    explain = saliency.eigen_grad_cam(cut)
    evidence = saliency.hires_cam(cut)(variables, pictures, LABELS)
    for one, own in zip(explain(variables, pictures, LABELS), evidence, strict=True):
        assert np.corrcoef(one.ravel(), own.ravel())[0, 1] > 0


@pytest.mark.exhaustive
def test_ablation_cam_against_a_loop_and_across_a_cut_with_context(curved, pictures):
    cut, variables = curved
    features = cut.features(variables, pictures)
    logits = cut.head(variables, features)[jnp.arange(4), LABELS]
    weights = []
    for number in range(6):
        without = features._replace(maps=features.maps.at[..., number].set(0))
        lost = cut.head(variables, without)[jnp.arange(4), LABELS]
        weights.append((logits - lost) / logits)
    expected = jnp.einsum("bhwk,kb->bhw", features.maps, jnp.stack(weights))
    for batch_size in (5, 128):
        explain = saliency.ablation_cam(cut, batch_size=batch_size)
        found = explain(variables, pictures, LABELS)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_error_of_the_field_ablation_with_a_negative_or_no_score(pooled, pictures):
    cut, variables = pooled
    params = variables["params"]
    logits = split.whole(cut)(variables, pictures)[jnp.arange(4), LABELS]
    for shift in (logits.max() + 1, logits[1]):
        bias = params["dense"]["bias"] - shift
        lower = {"params": params | {"dense": params["dense"] | {"bias": bias}}}
        own = split.whole(cut)(lower, pictures)[jnp.arange(4), LABELS]
        plain = saliency.ablation_cam(cut, division="none")
        found = plain(lower, pictures, LABELS)
        expected = plain(variables, pictures, LABELS)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        size = jnp.where(own == 0, 1, jnp.abs(own))[:, None, None]
        steady = saliency.ablation_cam(cut, division="magnitude")
        found = steady(lower, pictures, LABELS)
        assert jnp.isfinite(found).all()
        np.testing.assert_allclose(found * size, expected, atol=2e-4)


def counting(cut, calls):
    """Count the images that go through each half, whoever runs it."""

    def count(half, images):
        calls[half] += len(images)

    def features(variables, images):
        jax.debug.callback(functools.partial(count, "trunk"), images)
        return cut.features(variables, images)

    def head(variables, features):
        jax.debug.callback(functools.partial(count, "head"), features.maps)
        return cut.head(variables, features)

    return split.SplitModel(features, head)


@pytest.mark.parametrize(
    ("name", "settings", "trunk", "head"),
    tiers.by_tier(
        [
            ("grad_cam", {}, 4, 4),
            ("grad_cam_plus_plus", {}, 4, 4),
            ("shapley_cam", {}, 4, 4),
            ("eigen_cam", {}, 4, 4),
            ("smooth_grad_cam_plus_plus", {"samples": 5}, 4 + 20, 20),
            # Six filters: 24 pairs, in chunks that waste none.
            ("ablation_cam", {"batch_size": 8}, 4, 4 + 24),
            ("score_cam", {"batch_size": 8}, 4 + 24, 24),
            ("score_cam", {"batch_size": 7}, 4 + 24, 24),
            ("is_cam", {"batch_size": 8, "steps": 3}, 4 + 72, 72),
            ("ss_cam", {"batch_size": 8, "samples": 3}, 4 + 72, 72),
            ("gradient", {}, 4, 4),
            ("guided_backpropagation", {}, 4, 4),
            ("integrated_gradients", {"steps": 5}, 20, 20),
            ("blur_integrated_gradients", {"steps": 5}, 24, 24),
            ("smooth_grad", {"samples": 5}, 20, 20),
            ("gradient_shap", {"samples": 5}, 20, 20),
        ],
        {"grad_cam", "ablation_cam", "integrated_gradients"},
    ),
)
def test_passes_through_the_network(pooled, pictures, name, settings, trunk, head):
    cut, variables = pooled
    calls = {"trunk": 0, "head": 0}
    explain = saliency.METHODS[name](counting(cut, calls), **settings)
    explain(variables, pictures, LABELS, key=KEY).block_until_ready()
    jax.effects_barrier()
    assert calls["trunk"] <= 1.2 * trunk
    assert calls["head"] <= 1.2 * head
    assert calls["trunk"] >= trunk or name in ("eigen_cam",)


def reference_score_cam(cut, variables, images, labels):
    """Mask with each filter in turn."""
    stack = cut.features(variables, images).maps
    network, scores = split.whole(cut), []
    for number in range(stack.shape[-1]):
        mask = maps.normalize(maps.resize(stack[..., number], (32, 32)))
        masked = maps.apply_mask(images, mask)
        scores.append(network(variables, masked))
    return stack, jnp.stack(scores, 1)[jnp.arange(4), :, labels]


@pytest.mark.exhaustive
def test_score_cam_s_weightings_against_a_loop(curved, pictures):
    cut, variables = curved
    inputs = (variables, jnp.asarray(pictures), LABELS)
    stack, scores = reference_score_cam(cut, *inputs)
    black = split.whole(cut)(variables, 0 * inputs[1])[jnp.arange(4), LABELS]
    for weighting, weights in (
        ("softmax", jax.nn.softmax(scores)),
        ("increase", scores - black[:, None]),
    ):
        expected = jnp.einsum("bhwk,bk->bhw", stack, weights)
        for loop in ("host", "device"):
            explain = saliency.score_cam(
                cut, weighting=weighting, batch_size=5, loop=loop
            )
            np.testing.assert_allclose(explain(*inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.exhaustive
def test_score_cam_s_probabilities_are_the_authors_code(curved, pictures):
    cut, variables = curved
    found = saliency.score_cam(cut, weighting="probability")
    linear = saliency.score_cam(cut, weighting="increase", target="probability")
    inputs = (variables, jnp.asarray(pictures), LABELS)
    stack = cut.features(*inputs[:2]).maps
    black = jax.nn.softmax(split.whole(cut)(variables, 0 * inputs[1]))
    offset = black[jnp.arange(4), LABELS][:, None, None] * stack.sum(-1)
    np.testing.assert_allclose(found(*inputs), linear(*inputs) + offset, atol=1e-5)


@pytest.mark.exhaustive
def test_error_of_the_field_is_cam_stays_inside_the_image_s_range(curved, pictures):
    cut, variables = curved
    inputs = (variables, jnp.asarray(pictures), LABELS)
    once = saliency.is_cam(cut, steps=1)(*inputs)
    np.testing.assert_allclose(once, saliency.score_cam(cut)(*inputs), atol=1e-6)
    seen = []
    watched = split.SplitModel(
        lambda v, images: (
            jax.debug.callback(lambda x: seen.append(x), jnp.max(images)),
            cut.features(v, images),
        )[1],
        cut.head,
    )
    saliency.is_cam(watched, steps=10)(*inputs)
    jax.effects_barrier()
    assert max(seen) <= pictures.max() + 1e-6


@pytest.mark.exhaustive
def test_noiseless_smoothing_is_the_method_itself(curved, pictures):
    cut, variables = curved
    inputs = (variables, jnp.asarray(pictures), LABELS)
    for smooth, plain in (
        (saliency.ss_cam(cut, samples=2, level=0.0), saliency.score_cam(cut)),
        (
            saliency.smooth_grad_cam_plus_plus(cut, samples=2, level=0.0),
            saliency.grad_cam_plus_plus(cut),
        ),
    ):
        expected = plain(*inputs)
        found = smooth(*inputs, key=KEY)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


def test_error_of_the_field_grad_cam_plus_plus_divides(x64):
    """By hand; torchcam 0.5.0 divides a copy, and xplique has means for these sums."""
    stack = jnp.asarray([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    cut = split.from_functions(
        lambda v, images: images, lambda v, s: (s * v[None]).sum((1, 2))
    )
    slopes = jnp.asarray([[[0.5, -1.0]], [[2.0, 1.0]]])
    found = saliency.grad_cam_plus_plus(cut, target=(0, 1))(
        slopes, stack, jnp.asarray([0])
    )
    # Filter 0: sum(A) = 4; 0.5 / (2 + 2) + 2 / (2 + 8). Filter 1: 1 / (2 + 2).
    first, second = 0.125 + 0.2, 0.25
    expected = [[[first + 2 * second], [3 * first]]]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Without the denominator, as torchcam: sum(relu(g)^3) is 8.125 and 1.
    cubes = (np.maximum(slopes, 0) ** 3).sum((0, 1))
    assert cubes.tolist() == [8.125, 1]
    one, two = (np.asarray(stack) @ cubes).ravel()
    assert abs(found[0, 0, 0] / found[0, 1, 0] - one / two) > 0.1


LOGITS = jnp.asarray([[2.0, 1.0, -1.0, 1.5], [0.0, 3.0, 2.0, -4.0]])
TWO = jnp.asarray([0, 2])


def test_targets_are_what_their_names_say():
    chances = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    own = chances[[0, 1], [0, 2]]
    for target, expected in (
        ("logit", [2, 2]),
        ("probability", own),
        ("log_probability", np.log(own)),
        ("residual_softmax", 2 + np.log(own)),
        ("margin", [0.5, -1]),
        (1, [1, 3]),
        ([1, 3], [2.5, -1]),
        ((0,), [2, 0]),
        (lambda logits, labels: logits[:, 0], [2, 0]),
    ):
        found = targets.resolve(target)(LOGITS, TWO)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_contrast_takes_the_nearest_classes_by_their_probabilities():
    found = targets.contrast(others=2, strength=0.5)(LOGITS[:1], TWO[:1])
    near = np.asarray([1.5, 1.0])
    weights = np.exp(near) / np.exp(near).sum()
    assert float(found[0]) == pytest.approx(float(weights @ (2 - 0.5 * near)))


def test_a_region_of_a_dense_output(unchecked, pictures):
    dense = split.SplitModel(
        lambda v, images: Features(images), lambda v, features: 2 * features.maps
    )
    mask = np.zeros((32, 32), np.float32)
    mask[4:9, 5:7] = 1
    explain = saliency.hires_cam(dense, target=targets.region(mask))
    found = explain({}, pictures, LABELS % 3)
    chosen = pictures[np.arange(4), :, :, np.asarray(LABELS % 3)]
    np.testing.assert_allclose(found, 2 * chosen * mask, atol=1e-6)
    with pytest.raises(ValueError, match="region"):
        saliency.hires_cam(dense)({}, pictures, LABELS % 3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "settings"),
    tiers.by_tier(
        [
            ("grad_cam", {}),
            ("score_cam", {}),
            ("ablation_cam", {}),
            ("full_grad", {}),
            ("guided_backpropagation", {}),
            ("occlusion", {"window": 16}),
        ],
        {"grad_cam", "occlusion"},
    ),
)
def test_a_region_is_the_logit_of_a_network_that_sums_it_up(
    unchecked, pictures, name, settings
):
    module = toy.nn.Sequential(
        [toy.nn.Conv(6, (3, 3)), toy.nn.relu, toy.nn.Conv(4, (1, 1))]
    )
    images = jnp.asarray(pictures[:, :16, :16])
    variables = toy.random_variables(module, images)
    dense = split.from_linen(module, "layers_0")
    mask = np.zeros((16, 16), np.float32)
    mask[2:9, 5:7] = 1

    def summed(variables, features):
        return jnp.einsum("bhwc,hw->bc", dense.head(variables, features), mask)

    inputs = (variables, images, LABELS)
    given = settings | {"target": targets.region(mask)}
    found = saliency.METHODS[name](dense, **given)(*inputs)
    plain = split.SplitModel(dense.features, summed)
    expected = saliency.METHODS[name](plain, **settings)(*inputs)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.exhaustive
def test_finer_cam_is_grad_cam_of_a_contrast(curved, pictures):
    cut, variables = curved
    own = saliency.finer_cam(cut, strength=0.0)(variables, pictures, LABELS)
    plain = saliency.grad_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(own, plain, atol=1e-6)
    found = saliency.finer_cam(cut)(variables, pictures, LABELS)
    assert float(jnp.max(jnp.abs(found - plain))) > 1e-4


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        ("logits", ValueError, "did you mean 'logit'"),
        ([], ValueError, "one class or more"),
        (1.5, TypeError, "a class, several"),
    ],
)
def test_wrong_scores_are_refused(unchecked, pooled, score, error, message):
    with pytest.raises(error, match=message):
        saliency.grad_cam(pooled[0], score=score)


def test_a_target_that_is_no_class_is_refused(unchecked, pooled, pictures):
    cut, variables = pooled
    with pytest.raises(ValueError, match="classes 0 to 3"):
        saliency.grad_cam(cut, target=9)(variables, pictures, LABELS)


@pytest.mark.exhaustive
def test_several_layers_are_fused(pictures):
    module = toy.Plain()
    variables = toy.random_variables(module, pictures)
    layers = [split.from_linen(module, name) for name in ("conv1", "conv2")]
    explainers = [saliency.layer_cam(cut) for cut in layers]
    inputs = (variables, jnp.asarray(pictures), LABELS)
    scaled = [maps.normalize(explain(*inputs)) for explain in explainers]
    for fusion, expected in (
        ("mean", (scaled[0] + scaled[1]) / 2),
        ("max", jnp.maximum(*scaled)),
        ("product", scaled[0] * scaled[1]),
    ):
        found = saliency.fuse(explainers, fusion=fusion)(*inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    largest = saliency.fuse(explainers[:1], scaling="tanh")(*inputs).max((1, 2))
    np.testing.assert_allclose(largest, np.tanh(2), rtol=1e-5)


def test_maps_of_other_sizes_are_enlarged(pictures):
    coarse = lambda v, images, labels, *, key=None: jnp.ones((4, 2, 2))  # noqa: E731
    fine = lambda v, images, labels, *, key=None: jnp.ones((4, 8, 8))  # noqa: E731
    found = saliency.fuse([coarse, fine], scaling="none")({}, pictures, LABELS)
    np.testing.assert_allclose(found, np.ones((4, 8, 8)))


def test_augmented_maps_turn_with_the_image(curved, pictures):
    cut, variables = curved
    explain = saliency.augmented(saliency.grad_cam(cut))
    found = explain(variables, pictures, LABELS)
    mirrored = explain(variables, pictures[:, :, ::-1], LABELS)
    np.testing.assert_allclose(mirrored[:, :, ::-1], found, atol=1e-6)
    alone = saliency.augmented(saliency.grad_cam(cut), flip=False, intensities=(1.0,))
    plain = saliency.grad_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(alone(variables, pictures, LABELS), plain, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("score_cam", {"weighting": "mean"}, "'softmax', 'increase', 'probability'"),
        ("score_cam", {"alignment": "center"}, "'half_pixel', 'corners'"),
        (
            "score_cam",
            {"weighting": "probability", "target": "margin"},
            "score of its own",
        ),
        ("ss_cam", {"samples": 0}, "1 or more"),
        ("ss_cam", {"noise_on": "logits"}, "'maps', 'image'"),
        ("is_cam", {"steps": 0}, "1 or more"),
        ("ablation_cam", {"division": "max"}, "'score', 'magnitude', 'none'"),
        ("eigen_cam", {"sign": "positive"}, "'absolute', 'aligned'"),
        ("finer_cam", {"others": 0}, "at least 1"),
        ("gradient", {"channels": "mean"}, "'sum', 'absolute_sum'"),
        ("integrated_gradients", {"steps": 0}, "1 or more"),
        ("integrated_gradients", {"rule": "simpson"}, "'gauss_legendre'"),
        ("integrated_gradients", {"baseline": "white"}, "'black', 'mean'"),
        ("blur_integrated_gradients", {"deviation": 0.0}, "more than 0"),
        ("smooth_grad", {"level": -1.0}, "0 or more"),
    ],
)
def test_wrong_settings_are_refused(unchecked, pooled, name, settings, message):
    with pytest.raises(ValueError, match=message):
        saliency.METHODS[name](pooled[0], **settings)

"""AOPC, infidelity, sensitivity, ADCC and sparseness, against slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import maps, metrics, split

KEY = jax.random.key(0)
LABELS = jnp.asarray([0, 1, 2, 1])


def linear_model(weights):
    """Give logits that are weighted sums of pixels; a probability is a softmax."""
    return split.from_functions(
        lambda v, images: images,
        lambda v, maps_: jnp.einsum(
            "bhwc,hwck->bk", maps_, weights, precision="highest"
        ),
    )


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(5).normal(size=(32, 32, 3, 3)).astype(np.float32) / 30


@pytest.fixture(scope="module")
def model(weights):
    return linear_model(weights)


@pytest.fixture
def saliency():
    return np.random.default_rng(0).normal(size=(4, 7, 7)).astype(np.float32)


def slow_scores(weights, images, score):
    logits = np.einsum("bhwc,hwck->bk", np.asarray(images, np.float64), weights)
    if score == "probability":
        logits = np.exp(logits - logits.max(1, keepdims=True))
        logits /= logits.sum(1, keepdims=True)
    return logits[np.arange(len(logits)), np.asarray(LABELS)[: len(logits)]]


def slow_aopc(weights, images, enlarged, patch, regions, score, sign):
    """Replace patch after patch by black; those at the border are smaller."""
    corners = [(y, x) for y in range(0, 32, patch) for x in range(0, 32, patch)]
    curves = []
    for index, image in enumerate(images):
        means = [
            enlarged[index, y : y + patch, x : x + patch].mean(dtype=np.float64)
            for y, x in corners
        ]
        order = sorted(range(len(corners)), key=lambda i: (-sign * means[i], i))
        shown, states = image.copy(), [image.copy()]
        for i in order[:regions]:
            y, x = corners[i]
            shown[y : y + patch, x : x + patch] = 0
            states.append(shown.copy())
        labels = [int(LABELS[index])] * len(states)
        logits = np.einsum("bhwc,hwck->bk", np.stack(states).astype(float), weights)
        if score == "probability":
            logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        curves.append(logits[np.arange(len(states)), labels])
    return np.stack(curves)


@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_aopc_is_that_of_a_slow_loop(model, pictures, weights, saliency, score, loop):
    settings = {"patch": 9, "regions": 6, "score": score, "loop": loop}
    enlarged = np.asarray(maps.resize(saliency, (32, 32)))
    inputs = ({}, pictures, LABELS, saliency)
    both = metrics.symmetric_relevance_gain(model, **settings)(*inputs)
    for name, sign in (("aopc_morf", 1), ("aopc_lerf", -1)):
        curve = slow_aopc(weights, pictures, enlarged, 9, 6, score, sign)
        found = metrics.METRICS[name](model, **settings)(*inputs)
        np.testing.assert_allclose(found[f"{name}_curve"], curve, atol=1e-5)
        np.testing.assert_allclose(
            found[name], (curve[:, :1] - curve).mean(1), atol=1e-5
        )
        np.testing.assert_allclose(both[name], found[name], atol=1e-6)
    gain = both["aopc_morf"] - both["aopc_lerf"]
    np.testing.assert_array_equal(both["symmetric_relevance_gain"], gain)


@pytest.mark.exhaustive
def test_the_gain_of_the_negative_differs_in_sign(model, pictures, saliency):
    metric = metrics.symmetric_relevance_gain(model, patch=8)
    one = metric({}, pictures, LABELS, saliency)["symmetric_relevance_gain"]
    other = metric({}, pictures, LABELS, -saliency)["symmetric_relevance_gain"]
    np.testing.assert_allclose(one, -other, atol=1e-6)
    assert (jnp.abs(one) > 1e-3).all()


@pytest.mark.exhaustive
def test_insertion_minus_deletion_reverses_with_the_map(model, pictures, weights):
    order = np.random.default_rng(1).permutation(4 * 32 * 32).reshape(4, 32, 32)
    metric = metrics.insertion_minus_deletion(
        model, insertion_baseline="black", steps=8
    )
    one = metric({}, pictures, LABELS, order.astype(np.float32))
    other = metric({}, pictures, LABELS, -order.astype(np.float32))
    difference = one["insertion_minus_deletion"]
    np.testing.assert_array_equal(difference, one["insertion"] - one["deletion"])
    opposite = -other["insertion_minus_deletion"]
    np.testing.assert_allclose(difference, opposite, atol=1e-6)
    assert (jnp.abs(difference) > 1e-4).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("scaled", "loop"),
    tiers.by_tier([(True, "host"), (False, "host"), (True, "device")], 1),
)
def test_infidelity_of_a_linear_network_is_zero(model, pictures, weights, scaled, loop):
    """The map foretells every change: its sum in the square, or times the noise."""
    of_label = np.moveaxis(weights[..., np.asarray(LABELS)], -1, 0)
    times, plain = (pictures * of_label).sum(-1), of_label.sum(-1)
    for perturbation, saliency in (("square", times), ("noise", plain)):
        metric = metrics.infidelity(
            model,
            perturbation=perturbation,
            samples=6,
            score="logit",
            scaled=scaled,
            loop=loop,
        )
        inputs = ({}, pictures, LABELS)
        exact = metric(*inputs, saliency, key=KEY)["infidelity"]
        assert (exact < 1e-8).all()
        shifted = metric(*inputs, np.roll(saliency, 16, 1), key=KEY)["infidelity"]
        assert (shifted > 1e-3).all()
        tripled = metric(*inputs, 3 * saliency, key=KEY)["infidelity"]
        assert (tripled < 1e-8).all() == scaled


def test_infidelity_of_what_foretells_nothing(model, pictures, weights):
    """A flat map, and one that foretells the opposite, are as bad as no map."""
    of_label = np.moveaxis(weights[..., np.asarray(LABELS)], -1, 0)
    times = (pictures * of_label).sum(-1)
    metric = metrics.infidelity(model, samples=6, score="logit")
    flat = metric({}, pictures, LABELS, 0 * times, key=KEY)["infidelity"]
    opposite = metric({}, pictures, LABELS, -times, key=KEY)["infidelity"]
    np.testing.assert_allclose(flat, opposite, rtol=1e-5)
    unscaled = metrics.infidelity(model, samples=6, score="logit", scaled=False)(
        {}, pictures, LABELS, -times, key=KEY
    )["infidelity"]
    # (-d - d)^2 = 4 d^2
    np.testing.assert_allclose(unscaled, 4 * flat, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_max_sensitivity_of_known_explainers(model, pictures, weights, loop):

    def light(variables, images, labels, *, key=None):
        return jnp.asarray(images).mean(-1)

    def constant(variables, images, labels, *, key=None):
        return jnp.ones((len(images), 4, 4)).at[:, 0].set(2)

    def nothing_then_something(variables, images, labels, *, key=None):
        grey = jnp.asarray(images) == 0.5
        return jnp.where(grey.all((1, 2, 3))[:, None, None], 0.0, jnp.ones((1, 4, 4)))

    for explain, images, low, high in (
        (constant, pictures, 0, 0),
        (light, pictures, 0.05, 0.5),
        (nothing_then_something, np.full_like(pictures, 0.5), 1, 1),
    ):
        metric = metrics.max_sensitivity(model, explain, samples=3, loop=loop)
        saliency = explain({}, images, LABELS)
        found = metric({}, images, LABELS, saliency, key=KEY)["max_sensitivity"]
        assert (found >= low).all() and (found <= high).all(), explain
    # A uniform change of at most r moves the mean of three channels by at most r.
    small = metrics.max_sensitivity(model, light, samples=3, radius=0.01)
    inputs = ({}, pictures, LABELS, pictures.mean(-1))
    bound = 0.01 * 32 / np.linalg.norm(pictures.mean(-1).reshape(4, -1), axis=1)
    found = small(*inputs, key=KEY)["max_sensitivity"]
    assert (found <= bound).all() and (found >= 0.2 * bound).all()
    more = metrics.max_sensitivity(model, light, samples=9, radius=0.01)
    assert (more(*inputs, key=KEY)["max_sensitivity"] >= found).all()


def test_adcc_is_the_harmonic_mean_of_its_parts(model, pictures, weights, saliency):

    def explain(variables, images, labels, *, key=None):
        return jnp.asarray(images).mean(-1) * weights[..., 0].sum(-1)[None]

    found = metrics.adcc(model, explain)({}, pictures, LABELS, saliency)
    positive = jnp.maximum(maps.resize(saliency, (32, 32)), 0)
    mask = np.asarray(maps.normalize(positive), np.float64)
    masked = pictures * mask[..., None]
    again = np.maximum(np.asarray(explain({}, masked, LABELS), np.float64), 0)
    coherency = [
        (1 + np.corrcoef(m.ravel(), a.ravel())[0, 1]) / 2
        for m, a in zip(mask, again, strict=True)
    ]
    complexity = mask.mean((1, 2))
    p, o = (slow_scores(weights, x, "probability") for x in (pictures, masked))
    drop = np.maximum(p - o, 0) / p
    parts = np.stack([coherency, 1 - complexity, 1 - drop])
    np.testing.assert_allclose(found["coherency"], coherency, atol=1e-5)
    np.testing.assert_allclose(found["complexity"], complexity, atol=1e-5)
    np.testing.assert_allclose(found["average_drop"], drop, atol=1e-5)
    np.testing.assert_allclose(found["adcc"], 3 / (1 / parts).sum(0), atol=1e-5)
    alone = metrics.complexity(model)({}, pictures, LABELS, saliency)["complexity"]
    np.testing.assert_allclose(alone, complexity, atol=1e-6)
    flat = metrics.adcc(model, explain)({}, pictures, LABELS, 0 * saliency)
    assert (flat["adcc"] == 0).all() and (flat["coherency"] == 0).all()


def test_sparseness_is_the_gini_index(model, pictures, weights):
    metric = metrics.sparseness(model)
    random = np.random.default_rng(0)
    saliency = random.normal(size=(4, 32, 32)).astype(np.float32) ** 3
    values = np.abs(saliency.reshape(4, -1).astype(np.float64))
    apart = np.abs(values[:, :, None] - values[:, None]).sum((1, 2))
    expected = apart / (2 * values.shape[1] * values.sum(1))
    for scale in (1, -1e20, 1e-20):
        found = metric({}, pictures, LABELS, scale * saliency)["sparseness"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    one = np.zeros((4, 32, 32), np.float32)
    one[:, 3, 4] = 2
    found = metric({}, pictures, LABELS, one)["sparseness"]
    np.testing.assert_allclose(found, 1 - 1 / 1024, atol=1e-6)
    flat = metric({}, pictures, LABELS, np.full((4, 7, 7), 3.0))["sparseness"]
    assert (flat == 0).all()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("aopc_morf", {"patch": 0}, "1 or more"),
        ("aopc_lerf", {"score": "odds"}, "'softmax', 'sigmoid', 'logit'"),
        ("aopc_lerf", {"baseline": "grey"}, "'black', 'mean'"),
        ("infidelity", {"samples": 0}, "1 or more"),
        ("infidelity", {"side": 0.0}, r"\(0, 1\]"),
        ("infidelity", {"deviation": 0.0}, "more than 0"),
        ("infidelity", {"perturbation": "cut"}, "'square', 'noise'"),
        ("infidelity", {"baseline": "grey"}, "'black', 'mean'"),
    ],
)
def test_wrong_settings_are_refused(model, unchecked, weights, name, settings, message):
    with pytest.raises(ValueError, match=message):
        metrics.METRICS[name](model, **settings)


def test_what_is_random_needs_a_key(model, pictures, weights, saliency):
    with pytest.raises(ValueError, match="key"):
        metrics.infidelity(model)({}, pictures, LABELS, saliency)
    with pytest.raises(ValueError, match="key"):
        metrics.max_sensitivity(model, lambda *a, key: saliency)(
            {}, pictures, LABELS, saliency
        )
    with pytest.raises(ValueError, match="16 patches"):
        metrics.aopc_morf(model, patch=8, regions=17)({}, pictures, LABELS, saliency)

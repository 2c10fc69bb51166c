"""Maps with a sign: which they are, what masks make of them, and what a mask says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps, metrics, saliency, split
from unlir_jax.evaluation import scorers
from unlir_jax.explanation import explainers, scoring
from unlir_jax.report import overlay

SIGNED = {
    *("cam", "xgrad_cam", "hires_cam", "ablation_cam", "input_x_gradient"),
    *("integrated_gradients", "blur_integrated_gradients", "gradient_shap"),
    *("occlusion", "rise", "lime", "kernel_shap", "lrp", "attn_lrp"),
    *("deep_lift", "libra_input_x_gradient"),
}
RAMP = np.asarray([[[-4, -1, 0, 2, 4]]], np.float32)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ("relu", [0, 0, 0, 0.5, 1]),
        ("abs", [1, 0.25, 0, 0.5, 1]),
        ("range", [0, 0.375, 0.5, 0.75, 1]),
    ],
)
def test_masks_by_hand(signs, expected):
    found = maps.mask(RAMP, (1, 5), signs)[0, 0]
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32))


def test_maps_without_negative_values_have_one_mask():
    saliency = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32)
    before = np.asarray(maps.normalize(maps.resize(saliency, (32, 32)), "range"))
    for signs in ("relu", "abs", "range"):
        np.testing.assert_array_equal(maps.mask(saliency, (32, 32), signs), before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_hides_everything_and_what_is_negative_too(value):
    saliency = np.concatenate([RAMP, -1 - np.abs(RAMP)])
    saliency[0, 0, 3] = value
    assert not np.asarray(maps.mask(saliency, (1, 5))).any()


def test_an_unknown_rule_is_refused(unchecked):
    with pytest.raises(ValueError, match="`signs`='relus' is unknown; did you mean"):
        maps.mask(RAMP, (1, 5), "relus")


def test_deciles_tell_nearly_flat_masks():
    """Of an even ramp from 0 to 1 the deciles are 0.1 and 0.9."""
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None, None]
    assert not maps.is_nearly_flat(ramp * 0.126)[0]
    assert maps.is_nearly_flat(0.5 + ramp * 0.124)[0]
    # Nine in ten pixels are hidden, though the others are not.
    few = np.zeros((1, 10, 10), np.float32)
    few[0, 0, :9] = 1
    many = few.copy()
    many[0, 1] = 1
    found = maps.is_nearly_flat(np.concatenate([few, many, np.ones_like(few)]))
    assert found.tolist() == [True, False, True]


def test_methods_say_whether_their_maps_have_a_sign():
    assert {name for name in saliency.SPECS if saliency.is_signed(name)} == SIGNED
    assert saliency.is_signed("grad_cam", {"rectify": False})
    assert saliency.is_signed("gradcam", {"rectify": False, "target": "logit"})
    assert saliency.is_signed("gradient", {"channels": "sum"})
    assert not saliency.is_signed("integrated_gradients", {"channels": "norm"})
    assert not saliency.is_signed("rise", {"centered": False})
    # A square has no sign, whatever becomes of the colours.
    assert not saliency.is_signed("square_grad", {"channels": "sum"})
    assert not saliency.is_signed("parts")
    given = {name: {} for name in ("occlusion", "edges", "grad_cam", "cam")}
    assert explainers.signed(given) == ["occlusion", "cam"]


@pytest.fixture(scope="module")
def linear():
    """Give a linear network of 4 x 4 pixels, its weights, and two images."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(4, 4, 3, 2)).astype(np.float32)
    model = split.from_functions(
        lambda variables, images: images,
        lambda variables, values: jnp.einsum("bhwc,hwck->bk", values, variables),
    )
    images = random.uniform(0.2, 1, (2, 4, 4, 3)).astype(np.float32)
    return model, weights, images, np.asarray([0, 1])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("integrated_gradients", {"steps": 2}),
        ("input_x_gradient", {}),
        ("occlusion", {"window": 1, "stride": 1, "baseline": "black"}),
    ],
)
def test_a_linear_network_shows_the_signs_of_its_weights(linear, name, settings):
    model, weights, images, labels = linear
    found = saliency.METHODS[name](model, **settings)(weights, images, labels)
    exact = np.einsum("bhwc,hwcb->bhw", images, weights)
    np.testing.assert_allclose(found, exact, atol=2e-5)
    assert (exact < 0).any() and (exact > 0).any()
    drawn = overlay.signed_values(found, (4, 4))
    np.testing.assert_array_equal(np.sign(drawn), np.sign(exact))
    mask = np.asarray(maps.mask(found, (4, 4)))
    np.testing.assert_array_equal(mask > 0, exact > 0)


def softmax(weights, images, labels):
    logits = np.einsum("bhwc,hwck->bk", images, weights)
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[[0, 1], labels]


@pytest.mark.parametrize("signs", ["relu", "abs", "range"])
def test_gain_and_drop_are_those_of_the_stated_mask(linear, signs):
    model, weights, images, labels = linear
    exact = np.einsum("bhwc,hwcb->bhw", images, weights)
    kept = {"relu": np.maximum(exact, 0), "abs": np.abs(exact), "range": exact}[signs]
    low, high = (end(kept, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    masked = images * ((kept - low) / (high - low))[..., None]
    before, after = (softmax(weights, each, labels) for each in (images, masked))
    score = metrics.average_scores(model, signs=signs)
    found = score(weights, images, labels, exact.astype(np.float32))
    gain = np.maximum(after - before, 0) / (1 - before)
    np.testing.assert_allclose(found["average_gain"], gain, atol=1e-5)
    assert (gain > 0.1).all() and not found["average_drop"].any()
    # The complement loses what the map has found.
    lost = score(weights, images, 1 - labels, exact.astype(np.float32))
    drop = np.maximum(1 - (1 - after) / (1 - before), 0)
    np.testing.assert_allclose(lost["average_drop"], drop, atol=1e-5)


def test_maps_without_a_sign_are_masked_by_their_range(linear):
    model, weights, images, labels = linear
    exact = np.einsum("bhwc,hwcb->bhw", images, weights).astype(np.float32)
    names = ("average_gain", "average_drop", "complexity")
    options = {"average_gain": {"signs": "abs"}}
    made, contracts = scorers.make(model, names, options)
    # Gain has another rule, and so a masked pass of its own.
    assert [list(each.columns) for each in made] == [[name] for name in names]
    assert [contracts[name]["settings"]["signs"] for name in names] == [
        *("abs", "relu", "relu")
    ]
    given = (weights, images, labels, exact)
    for name, scorer in zip(names, made, strict=True):
        signed = metrics.METRICS[name](model, **contracts[name]["settings"])(*given)
        plain = metrics.METRICS[name](model, signs="range")(*given)
        np.testing.assert_array_equal(scorer.score(*given)[name], signed[name])
        np.testing.assert_array_equal(scorer.unsigned(*given)[name], plain[name])
        # Nothing is dropped by either.
        differ = (np.asarray(signed[name]) != np.asarray(plain[name])).all()
        assert differ == (name != "average_drop")


class Network:
    """Stand in for what `score_batch` asks of a loaded network."""

    name = "linear"

    def __init__(self, model, variables):
        self.model, self.variables = model, variables


def test_a_batch_is_scored_by_the_rule_of_each_method(unchecked, linear):
    model, weights, images, labels = linear
    exact = jnp.asarray(np.einsum("bhwc,hwcb->bhw", images, weights))

    def explain(variables, images, labels, *, key=None):
        return exact

    made, _ = scorers.make(model, ("complexity",), {})
    batch = scoring.Batch(jnp.asarray(images), labels, ["one", "two"])
    found = scoring.score_batch(
        Network(model, weights),
        {"signed": explain, "plain": explain},
        made,
        batch,
        key=jax.random.key(0),
        signed=("signed",),
    )
    for name, signs in (("signed", "relu"), ("plain", "range")):
        mask = np.asarray(maps.mask(exact, (4, 4), signs))
        np.testing.assert_allclose(
            found.values[name]["complexity"], mask.mean((1, 2)), atol=1e-6
        )
        np.testing.assert_array_equal(
            found.nearly_flat[name], maps.is_nearly_flat(mask)
        )

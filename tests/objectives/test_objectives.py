"""What is minimised, on linear networks; mixtures, from what they leave behind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unlir_jax import objectives
from unlir_jax.objectives import mixing, network
from unlir_jax.objectives.objective import Apply
from unlir_jax.runtime import mesh

RANDOM = np.random.default_rng(0)
CLASSES = 7
VARIABLES = {"params": {"kernel": RANDOM.normal(size=(48, CLASSES)).astype("f")}}
KEY = jax.random.key(5)


def linear(variables, images):
    return images.reshape((len(images), -1)) @ variables["params"]["kernel"]


APPLY = Apply(lambda variables, images, key: (linear(variables, images), {}), linear)


def batch(rows=8):
    generator = np.random.default_rng(rows)
    return {
        "image": generator.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8),
        "label": (np.arange(rows) % CLASSES).astype(np.int32),
        "weight": np.ones(rows, np.float32),
        "position": np.arange(rows, dtype=np.int32),
    }


def log_softmax(logits):
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max(1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def expected_logits(rows):
    flat = rows["image"].reshape(len(rows["image"]), -1) / 255.0
    return flat @ VARIABLES["params"]["kernel"].astype(np.float64)


# Classification


def test_classify_evaluates():
    rows = batch(64)
    objective = objectives.OBJECTIVES["classify"](
        APPLY, CLASSES, label_smoothing=0.3, mixup=1.0
    )
    measured = objective.evaluate(VARIABLES, rows)
    logits, labels = expected_logits(rows), rows["label"]
    places = (logits > logits[np.arange(64), labels][:, None]).sum(1)
    assert sorted(measured) == ["accuracy", "loss", "top5_accuracy"]
    assert sorted(objective.metrics) == sorted(measured)
    np.testing.assert_array_equal(measured["accuracy"], places == 0)
    np.testing.assert_array_equal(measured["top5_accuracy"], places < 5)
    assert 0 < measured["accuracy"].sum() < measured["top5_accuracy"].sum() < 64
    loss = -log_softmax(logits)[np.arange(64), labels]
    np.testing.assert_allclose(measured["loss"], loss, rtol=1e-4)


def test_no_best_five_of_five():
    five = {"params": {"kernel": VARIABLES["params"]["kernel"][:, :5]}}
    rows = batch(5)
    objective = objectives.classify(APPLY, 5)
    measured = objective.evaluate(five, rows)
    assert sorted(measured) == sorted(objective.metrics) == ["accuracy", "loss"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_classify_trains_on_smoothed_labels(smoothing):
    rows = batch()
    outcome = objectives.classify(APPLY, CLASSES, label_smoothing=smoothing).train(
        VARIABLES, rows, KEY
    )
    logs = log_softmax(expected_logits(rows))
    right = logs[np.arange(8), rows["label"]]
    expected = -(1 - smoothing) * right - smoothing * logs.mean(1)
    np.testing.assert_allclose(outcome.loss, expected, rtol=1e-4)
    np.testing.assert_array_equal(
        outcome.metrics["accuracy"], logs.argmax(1) == rows["label"]
    )


def test_pictures_may_be_floats():
    rows = batch()
    floats = rows | {"image": rows["image"].astype(np.float32) / 255}
    objective = objectives.classify(APPLY, CLASSES)
    one, other = (objective.evaluate(VARIABLES, b) for b in (rows, floats))
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)


def test_what_is_not_a_number_stays_so():
    broken = {"params": {"kernel": VARIABLES["params"]["kernel"] * np.nan}}
    objective = objectives.classify(APPLY, CLASSES)
    measured = objective.evaluate(broken, batch())
    assert np.isnan(measured["loss"]).all()
    assert not measured["accuracy"].any() and not measured["top5_accuracy"].any()
    assert np.isnan(objective.train(broken, batch(), KEY).loss).all()


def test_settings_that_make_no_sense():
    for smoothing in (-0.1, 1.0, np.nan):
        with pytest.raises(
            ValueError, match="`label_smoothing`=.*expected it in .0, 1"
        ):
            objectives.classify(APPLY, CLASSES, label_smoothing=smoothing)
    features = APPLY._replace(inputs="features")
    with pytest.raises(ValueError, match="`cutmix`=1.0 cuts images, .*no cache"):
        objectives.classify(features, CLASSES, cutmix=1.0)
    for settings in ({"mixup": -1.0}, {"cutmix": -0.5}, {"mixup": np.nan}):
        with pytest.raises(ValueError, match="expected numbers from 0"):
            objectives.classify(APPLY, CLASSES, **settings)
    with pytest.raises(ValueError, match="^3 rows cannot be mixed in pairs"):
        objectives.classify(APPLY, CLASSES, mixup=1.0).train(VARIABLES, batch(3), KEY)


@pytest.mark.exhaustive
def test_devices_change_nothing():
    """Mixtures are drawn for a pair's place in the global batch."""
    objective = objectives.classify(APPLY, CLASSES, mixup=0.4, cutmix=1.0)

    def run(laid):
        def measure(known, rows):
            outcome = objective.train(known, rows, KEY)
            every = {"loss": outcome.loss, "accuracy": outcome.metrics["accuracy"]}
            return {n: mesh.every_row(v, laid.axis_name) for n, v in every.items()}

        known = mesh.put_state(laid, VARIABLES)
        rows = mesh.put_batch(laid, batch())
        return mesh.compile_measure(laid, measure)(known, rows)

    alone = run(mesh.layout(devices=jax.devices()[:1]))
    plain = objectives.classify(APPLY, CLASSES).train(VARIABLES, batch(), KEY)
    assert (np.abs(alone["loss"] - plain.loss) > 1e-3).any()
    for mode in ("jit", "pmap"):
        spread = run(mesh.layout(mode))
        np.testing.assert_allclose(spread["loss"], alone["loss"], rtol=1e-5)
        np.testing.assert_array_equal(spread["accuracy"], alone["accuracy"])


# Mixtures

ROWS = 64
PARTNER = np.arange(ROWS) ^ 1
NOISE = RANDOM.random((ROWS, 16, 8, 3), np.float32)
ONES_AND_ZEROS = np.broadcast_to(
    np.tile(np.array([1, 0], "f"), ROWS // 2).reshape(ROWS, 1, 1, 1), NOISE.shape
)
STRENGTHS = {
    "mixup": {"mixup": 0.7},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 50.0, "cutmix": 1.0},
}


@functools.cache
def compiled(how):
    return jax.jit(functools.partial(mixing.mix, **STRENGTHS[how]))


def mixed(how, images, weight=None, seed=5, order=None):
    """Mix pictures whose labels are all different; give also each row's own share."""
    weight = np.ones(ROWS, np.float32) if weight is None else weight
    order = np.arange(ROWS, dtype=np.int32) if order is None else order
    images, targets = compiled(how)(
        jax.random.key(seed), order, images[order], np.eye(ROWS, dtype="f"), weight
    )
    return np.asarray(images), np.asarray(targets), np.asarray(targets).diagonal()


def test_no_strength_changes_nothing():
    targets, weight = np.eye(3, dtype="f"), np.ones(3, "f")
    places = np.arange(3, dtype=np.int32)
    out = mixing.mix(KEY, places, NOISE[:3], targets, weight)
    np.testing.assert_array_equal(out[0], NOISE[:3])
    np.testing.assert_array_equal(out[1], targets)


@pytest.mark.exhaustive
def test_mixup_of_pairs():
    out, targets, share = mixed("mixup", NOISE)
    expected = np.diag(share)
    expected[np.arange(ROWS), PARTNER] = 1 - share
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    np.testing.assert_array_equal(share[::2], share[1::2])
    assert len(set(share)) == ROWS // 2
    own = share[:, None, None, None]
    expected = own * NOISE + (1 - own) * NOISE[PARTNER]
    np.testing.assert_allclose(out, expected, atol=1e-6)
    # Both of a pair together are what they were.
    sums = NOISE[::2] + NOISE[1::2]
    np.testing.assert_allclose(out[::2] + out[1::2], sums, atol=1e-6)


def test_shares_follow_beta():
    """Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4)."""
    draws = [mixed("mixup", ONES_AND_ZEROS, seed=seed)[2][::2] for seed in range(40)]
    shares = np.concatenate(draws)
    variance = 1 / (8 * 0.7 + 4)
    assert len(set(shares.tolist())) == 40 * ROWS // 2
    assert abs(shares.mean() - 0.5) < 4 * (variance / len(shares)) ** 0.5
    assert shares.var() == pytest.approx(variance, rel=0.12)


@pytest.mark.exhaustive
def test_cutmix_pastes_a_box_of_the_share_it_takes():
    """Of pictures all 1 and all 0 the share of ones is the share of the label."""
    out, targets, share = mixed("cutmix", ONES_AND_ZEROS)
    np.testing.assert_array_equal(out[::2].mean((1, 2, 3)), share[::2])
    np.testing.assert_array_equal(out[1::2].mean((1, 2, 3)), 1 - share[1::2])
    np.testing.assert_array_equal(targets.sum(1), np.ones(ROWS))
    assert set(np.unique(out)) == {0, 1} and (out == out[..., :1]).all()
    pasted = out[::2, :, :, 0] == 0
    for box in pasted:
        rows, columns = box.any(1), box.any(0)
        np.testing.assert_array_equal(box, rows[:, None] & columns[None, :])
        for side in (rows, columns):
            assert (np.diff(np.flatnonzero(side)) == 1).all()
    areas = pasted.mean((1, 2))
    assert areas.min() < 0.1 and areas.max() > 0.4 and len(set(areas)) > 10


@pytest.mark.exhaustive
def test_with_both_each_pair_tosses_a_coin():
    cuts = []
    for seed in range(8):
        out, _, share = mixed("both", ONES_AND_ZEROS, seed=seed)
        np.testing.assert_allclose(out[::2].mean((1, 2, 3)), share[::2], atol=1e-6)
        cut = np.isin(out[::2], (0, 1)).all((1, 2, 3))
        even = out[::2].max((1, 2, 3)) == out[::2].min((1, 2, 3))
        assert (cut | even).all()
        # Of Beta(50, 50), whose deviation is 0.05.
        assert (np.abs(share[::2][~cut] - 0.5) < 0.25).all()
        cuts.append(cut)
    assert abs(np.mean(cuts) - 0.5) < 4 * 0.5 / np.size(cuts) ** 0.5


@pytest.mark.parametrize("how", STRENGTHS)
def test_a_row_without_weight_is_not_mixed_into_its_neighbour(how):
    weight = np.ones(ROWS, np.float32)
    weight[[1, 2]] = 0
    out, targets, share = mixed(how, NOISE, weight)
    np.testing.assert_array_equal(out[:4], NOISE[:4])
    np.testing.assert_array_equal(targets[:4], np.eye(ROWS)[:4])
    assert (share[4:] < 1).any() and (out[4:] != NOISE[4:]).any()


@pytest.mark.parametrize("how", STRENGTHS)
def test_a_pair_is_drawn_for_its_place_in_the_batch_and_the_key(how):
    order = np.arange(ROWS, dtype=np.int32).reshape(-1, 2)[::-1].ravel()
    one, _, share = mixed(how, NOISE)
    turned, _, same = mixed(how, NOISE, order=order)
    np.testing.assert_array_equal(turned, one[order])
    np.testing.assert_array_equal(same, share[order])
    assert (mixed(how, NOISE, seed=6)[2] != share).sum() > ROWS // 2


# Linen networks


class Tiny(nn.Module):
    """A norm and dropout, and a norm in the head."""

    def setup(self):
        self.norm = nn.BatchNorm(momentum=0.75)
        self.drop = nn.Dropout(0.5)
        self.last = nn.BatchNorm(momentum=0.5, use_scale=False, use_bias=False)

    def features(self, images, train=False):
        maps = self.norm(images, use_running_average=not train)
        return self.drop(maps, deterministic=not train)

    def head(self, maps, train=False):
        return self.last(maps.mean((1, 2)), use_running_average=not train)

    def __call__(self, images, train=False):
        return self.head(self.features(images, train), train)


@pytest.fixture(scope="module")
def tiny():
    return Tiny().init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)))


@pytest.mark.exhaustive
def test_whole_updates_the_statistics(tiny):
    images = RANDOM.random((4, 2, 2, 3), np.float32)
    apply = network.whole(Tiny())
    logits, statistics = apply.train(tiny, images, KEY)
    norm = statistics["norm"]
    np.testing.assert_allclose(norm["mean"], images.mean((0, 1, 2)) / 4, rtol=1e-5)
    np.testing.assert_allclose(norm["var"], 0.75 + images.var((0, 1, 2)) / 4, rtol=1e-5)
    # The head's norm gives mean 0, and its statistics are those of what it was given.
    np.testing.assert_allclose(logits.mean(0), np.zeros(3), atol=1e-5)
    assert np.abs(statistics["last"]["mean"]).max() > 0
    again, _ = apply.train(tiny, images, KEY)
    other, _ = apply.train(tiny, images, jax.random.key(9))
    np.testing.assert_array_equal(logits, again)
    assert (logits != other).any()


def test_frozen_norms_leave_their_statistics(tiny):
    images = RANDOM.random((4, 2, 2, 3), np.float32)
    _, statistics = network.whole(Tiny(), freeze_norms=True).train(tiny, images, KEY)
    before = tiny["batch_stats"]["norm"]
    jax.tree.map(np.testing.assert_array_equal, statistics["norm"], before)


def test_evaluation_is_the_network_as_it_is(tiny):
    images = RANDOM.random((4, 2, 2, 3), np.float32)
    logits = network.whole(Tiny()).evaluate(tiny, images)
    expected = images.mean((1, 2)) / (1 + 1e-5)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_a_head_alone():
    class Head(nn.Module):
        def setup(self):
            self.classifier = nn.Dense(2)

        def head(self, maps, train=False):
            return self.classifier(maps.mean((1, 2)))

    kernel, bias = RANDOM.normal(size=(3, 2)).astype("f"), np.array([1, 2], "f")
    known = {"params": {"classifier": {"kernel": kernel, "bias": bias}}}
    maps = RANDOM.random((4, 2, 2, 3), np.float32)
    expected = maps.mean((1, 2)) @ kernel + bias[None]
    apply = network.head(Head())
    logits, statistics = apply.train(known | {"batch_stats": {"a": 1}}, maps, KEY)
    assert apply.inputs == "features" and statistics == {"a": 1}
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    np.testing.assert_allclose(apply.evaluate(known, maps), expected, rtol=1e-5)

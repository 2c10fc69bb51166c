"""Adversarial training: closed forms of linear networks, attacks, plain training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks import attack_worlds
from flax import linen as nn

from unlir_jax import attacks, objectives, split
from unlir_jax.attacks import search
from unlir_jax.objectives import crafting, network, robust_losses
from unlir_jax.objectives.crafting import Ascent
from unlir_jax.objectives.objective import Apply
from unlir_jax.runtime import mesh

ROWS, EPSILON, CLASSES = 8, 0.05, 3
KEY = jax.random.key(3)
KEYS = jax.random.split(KEY, 12)
RANDOM = np.random.default_rng(11)
KERNEL = RANDOM.normal(size=(48, 2)).astype("f") / 8
SLOPE = (KERNEL[:, 1] - KERNEL[:, 0]).astype(np.float64)
DUAL = {"linf": np.abs(SLOPE).sum(), "l2": np.linalg.norm(SLOPE)}
VARIABLES = {"params": {"kernel": KERNEL}}


def linear(variables, images):
    return (images - 0.5).reshape((len(images), -1)) @ variables["params"]["kernel"]


LINEAR = Apply(lambda variables, images, key: (linear(variables, images), {}), linear)


def batch(classes=2, side=4, low=0.2, high=0.8):
    generator = np.random.default_rng(5)
    return {
        "image": generator.uniform(low, high, (ROWS, side, side, 3)).astype("f"),
        "label": (np.arange(ROWS) % classes).astype(np.int32),
        "weight": np.ones(ROWS, np.float32),
        "position": np.arange(ROWS, dtype=np.int32),
        "index": np.arange(ROWS, dtype=np.int32),
    }


def margins(rows):
    """Give each row's logit of the label minus the other one."""
    apart = (rows["image"].reshape(ROWS, -1).astype(np.float64) - 0.5) @ SLOPE
    return np.where(rows["label"] == 1, apart, -apart)


@pytest.mark.parametrize(
    ("norm", "settings"),
    [
        ("linf", {"method": "pgd", "steps": 3}),
        ("linf", {"method": "fast", "step_size": 0.2}),
        ("linf", {"method": "pgd", "steps": 1, "random_start": False}),
        ("l2", {"method": "pgd", "steps": 2, "random_start": False}),
        ("l2", {"method": "fast", "random_start": False}),
    ],
)
def test_the_loss_of_a_linear_network_is_that_of_the_worst_image(norm, settings):
    """A logistic loss, whose margin is less by `epsilon` times the dual norm."""
    rows = batch()
    expected = np.logaddexp(0, -margins(rows) + EPSILON * DUAL[norm])
    objective = objectives.adversarial(
        LINEAR, 2, norm=norm, epsilon=EPSILON, **settings
    )
    found = jax.jit(objective.train)(VARIABLES, rows, KEY)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    right = margins(rows) > EPSILON * DUAL[norm]
    np.testing.assert_array_equal(found.metrics["adversarial_accuracy"], right)


@pytest.mark.parametrize("method", ["ddn", "boundary_projection"])
def test_the_least_change_is_shrunk_to_the_ball(method):
    rows = batch()
    apart = margins(rows) / DUAL["l2"]
    rows["label"] = np.where(apart > 0, rows["label"], 1 - rows["label"])
    epsilon = float(np.sort(np.abs(apart))[ROWS // 2])
    objective = objectives.adversarial(
        LINEAR, 2, method=method, norm="l2", epsilon=epsilon, steps=20
    )
    found = objective.train(VARIABLES, rows, KEY)
    # The boundary is nearer or farther than the ball reaches.
    reached = np.minimum(np.abs(apart), epsilon)
    expected = np.logaddexp(0, DUAL["l2"] * (reached - np.abs(apart)))
    far = np.abs(apart) > 1.2 * epsilon
    assert 2 <= far.sum() < ROWS
    np.testing.assert_allclose(found.loss[far], expected[far], rtol=1e-3)
    near = np.abs(apart) < 0.8 * epsilon
    assert near.sum() >= 2
    np.testing.assert_allclose(found.loss[near], np.log(2), rtol=0.1)


def test_trades_of_a_linear_network():
    """The divergence is greatest in one of two corners; noise chooses the nearer."""
    rows = batch()
    objective = objectives.adversarial(
        LINEAR, 2, method="trades", epsilon=EPSILON, steps=4, weight=2.0
    )
    found = jax.jit(objective.train)(VARIABLES, rows, KEY)
    clean = margins(rows)
    corners = []
    for side in (-1, 1):
        moved = clean + side * EPSILON * DUAL["linf"]
        corners.append(np.logaddexp(0, -clean) + 2 * divergence(clean, moved))
    apart = np.abs(np.stack(corners) - np.asarray(found.loss))
    np.testing.assert_allclose(apart.min(axis=0), 0, atol=2e-5)
    np.testing.assert_array_equal(found.metrics["accuracy"], clean > 0)


def divergence(first, second):
    """Compute KL of two Bernoulli distributions by their log-odds."""
    p, q = (1 / (1 + np.exp(-odds)) for odds in (first, second))
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def test_losses_are_those_of_the_papers():
    """By probabilities in float64, as the equations have them."""
    clean, changed = RANDOM.normal(size=(2, 6, 4))
    labels = np.asarray([0, 1, 2, 3, 0, 1])
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (clean, changed))
    each = np.arange(6)
    apart = (p * np.log(p / q)).sum(1)
    hot = np.eye(4)[labels]
    expected = -np.log(p[each, labels]) + 6 * apart
    found = robust_losses.trades(clean.astype("f"), changed.astype("f"), hot, 6.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    rival = np.where(hot > 0, 0, q).max(1)
    boosted = -np.log(q[each, labels]) - np.log(1 - rival)
    expected = boosted + 5 * apart * (1 - p[each, labels])
    found = robust_losses.mart(clean.astype("f"), changed.astype("f"), labels, 5.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_boosted_loss_of_a_sure_network_keeps_its_gradient():
    wide = jnp.asarray([[-80.0, 80.0, 0.0]])
    label = np.zeros(1, int)

    def loss(logits):
        return robust_losses.boosted_cross_entropy(logits, label).sum()

    value, slope = jax.value_and_grad(loss)(wide)
    # log p_0 is -160, and log (1 - p_1) is -80.
    np.testing.assert_allclose(value, 240, rtol=1e-6)
    np.testing.assert_allclose(slope, [[-1, 2, -1]], atol=1e-6)


@functools.cache
def world():
    weights, images, labels, _ = attack_worlds.small()
    logits = split.whole(attack_worlds.SMALL)
    apply = Apply(lambda v, images, key: (logits(v, images), {}), logits)
    return apply, weights, images, labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_crafted_images_are_those_of_the_attack(norm):
    """Attacks are compared with peers' in tests/attacks."""
    apply, weights, images, labels = world()
    epsilon = {"linf": 0.1, "l2": 1.0}[norm]
    ascent = Ascent(norm, epsilon, 4, epsilon / 3, False)
    craft = crafting.climbing(apply, ascent, "evaluation", "label")
    found = jax.jit(craft)(weights, images, labels, KEYS, KEY)
    attack = attacks.pgd(
        attack_worlds.SMALL,
        **{"norm": norm, "epsilon": epsilon, "steps": 4, "step_size": epsilon / 3},
        random_start=False,
    )
    expected = attack(weights, images, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - images).max() > 0.05


def test_a_loop_on_the_device_crafts_the_same(monkeypatch):
    rows = batch()
    objective = objectives.adversarial(LINEAR, 2, epsilon=EPSILON, step_size=0.01)

    def total(params):
        return objective.train({"params": params}, rows, KEY).loss.sum()

    expected = jax.value_and_grad(total)(VARIABLES["params"])
    monkeypatch.setattr(crafting.loops, "place", lambda loop: "device")
    found = jax.value_and_grad(total)(VARIABLES["params"])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, found, expected)


def test_a_search_of_few_steps_is_the_same_without_a_loop(monkeypatch):
    """Compiled in a loop, compiled one step after the other, and run by the host."""
    _, weights, images, labels = world()
    attack = attacks.ddn(attack_worlds.SMALL, steps=3, quantise=False)
    aim = attacks.losses.Aim(jnp.asarray(labels))

    def crafted(most):
        monkeypatch.setattr(search, "UNROLLED", most)
        found = jax.jit(lambda x: attack.craft(weights, x, aim, None)[:2])(images)
        return [np.asarray(part) for part in found]

    host = attack.craft(weights, images, aim, None)
    for most in (0, 3):
        found, made = crafted(most)
        np.testing.assert_allclose(found, host.images, atol=1e-4)
        np.testing.assert_array_equal(made, host.gradients)


class Small(nn.Module):
    """Has a norm that sees the batch, and a share of units that are dropped."""

    dtype: str = "float32"

    def setup(self):
        self.conv = nn.Conv(6, (3, 3), dtype=self.dtype)
        self.norm = nn.BatchNorm(momentum=0.5, dtype=self.dtype)
        self.drop = nn.Dropout(0.3)
        self.dense = nn.Dense(CLASSES, dtype=self.dtype)

    def features(self, images, train=False):
        return nn.relu(self.norm(self.conv(images), use_running_average=not train))

    def head(self, maps, train=False):
        return self.dense(self.drop(maps.mean((1, 2)), deterministic=not train))

    def __call__(self, images, train=False):
        return self.head(self.features(images, train))


@functools.cache
def made(dtype="float32"):
    module = Small(dtype)
    variables = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    # Far from what the batch would give, so that the two modes differ.
    variables["batch_stats"]["norm"]["mean"] += 0.3
    return network.whole(module), variables


def slopes(objective, rows, variables):
    def total(params):
        outcome = objective.train(variables | {"params": params}, rows, KEY)
        return jnp.mean(outcome.loss), outcome

    return jax.jit(jax.value_and_grad(total, has_aux=True))(variables["params"])


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_a_step_is_plain_training_on_images_that_are_constants(mode):
    """Loss, gradient and the one move of the norms' statistics."""
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    objective = objectives.adversarial(
        apply, CLASSES, epsilon=EPSILON, steps=2, crafting_mode=mode
    )
    draw, own = jax.random.split(KEY)
    own = jax.random.fold_in(own, 0)
    ascent = Ascent("linf", EPSILON, 2, 2.5 * EPSILON / 2)
    keys = mesh.per_row_keys(draw, jnp.asarray(rows["position"]))
    craft = jax.jit(crafting.climbing(apply, ascent, mode, "label"))
    images = craft(variables, rows["image"], rows["label"], keys, own)
    moved = np.abs(images - rows["image"])
    assert moved.max() <= EPSILON + 1e-6 and moved.mean() > EPSILON / 2
    expected = slopes(
        objectives.classify(apply, CLASSES), rows | {"image": images}, variables
    )
    found = slopes(objective, rows, variables)
    (value, outcome), gradient = found
    (known, plain), slope = expected
    np.testing.assert_allclose(value, known, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, gradient, slope)
    jax.tree.map(close, outcome.statistics, plain.statistics)
    mean = np.asarray(outcome.statistics["norm"]["mean"])
    assert np.abs(mean - variables["batch_stats"]["norm"]["mean"]).max() > 0.05


def test_the_mode_of_crafting_counts():
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    losses = [
        objectives.adversarial(
            apply, CLASSES, epsilon=0.2, steps=1, random_start=False, crafting_mode=mode
        )
        .train(variables, rows, KEY)
        .loss
        for mode in ("evaluation", "training")
    ]
    assert np.abs(losses[0] - losses[1]).max() > 1e-4


@pytest.mark.parametrize("method", ["trades", "mart"])
def test_the_statistics_of_two_passes_move_once(method):
    """To the middle of where the image and its changed copy take them."""
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    objective = objectives.adversarial(
        apply, CLASSES, method=method, epsilon=0.0, steps=1
    )
    if method == "trades":
        objective = objectives.adversarial(
            apply, CLASSES, method=method, epsilon=1e-9, steps=1
        )
    plain = objectives.classify(apply, CLASSES).train(variables, rows, KEY)
    found = objective.train(variables, rows, KEY)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, found.statistics, plain.statistics)
    wide = objectives.adversarial(apply, CLASSES, method=method, epsilon=0.2, steps=1)
    other = wide.train(variables, rows, KEY).statistics
    assert np.abs(other["norm"]["var"] - plain.statistics["norm"]["var"]).max() > 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "plain"},
        {"method": "pgd", "epsilon": 0.0},
        {"method": "fast", "epsilon": 0.0},
        {"method": "trades", "epsilon": 0.0},
        {"method": "trades", "weight": 0.0},
        {"method": "ddn", "norm": "l2", "epsilon": 0.0},
    ],
)
def test_without_a_ball_a_step_is_that_of_plain_training_bit_for_bit(settings):
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    expected = slopes(objectives.classify(apply, CLASSES), rows, variables)
    found = slopes(objectives.adversarial(apply, CLASSES, **settings), rows, variables)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_images_do_not_tell_labels_where_predictions_are_aimed_at():
    apply, weights, images, labels = world()
    ascent = Ascent("linf", 0.1, 1, 0.1, False)
    wrong = (labels + 1) % 3
    for aim, same in (("predicted", True), ("label", False)):
        craft = jax.jit(crafting.climbing(apply, ascent, "evaluation", aim))
        one, other = (
            craft(weights, images, each, KEYS, KEY) for each in (labels, wrong)
        )
        assert bool(jnp.all(one == other)) == same


def test_a_row_does_not_depend_on_the_others():
    rows = batch()
    objective = objectives.adversarial(
        LINEAR, 2, epsilon=EPSILON, steps=1, step_size=0.02
    )
    whole = objective.train(VARIABLES, rows, KEY).loss
    order = np.asarray([5, 1, 2])
    few = {name: each[order] for name, each in rows.items()}
    some = objective.train(VARIABLES, few, KEY).loss
    np.testing.assert_allclose(some, whole[order], rtol=1e-6)
    drawn = objective.train(VARIABLES, rows, jax.random.key(4)).loss
    assert np.abs(drawn - whole).max() > 1e-4


@pytest.mark.parametrize("method", ["pgd", "trades", "ddn"])
def test_images_stay_in_the_range_at_its_border(method):
    """A network that says which images it has been given."""
    rows = batch(low=0.0, high=0.02)
    norm = "l2" if method == "ddn" else "linf"
    seen = []

    def train(variables, images, key):
        seen.append(images)
        return linear(variables, images), {}

    objective = objectives.adversarial(
        Apply(train, linear), 2, method=method, norm=norm, epsilon=0.3, steps=3
    )
    objective.train(VARIABLES, rows, KEY)
    assert min(float(images.min()) for images in seen) >= 0
    changed = seen[0] - rows["image"]
    lengths = np.linalg.norm(changed.reshape(ROWS, -1), axis=1)
    size = np.abs(changed).max() if norm == "linf" else lengths.max()
    assert 0 < size <= 0.3 + 1e-6


def test_bytes_and_half_precision():
    apply, variables = made("bfloat16")
    rows = batch(CLASSES, side=8)
    rows["image"] = np.round(rows["image"] * 255).astype(np.uint8)
    objective = objectives.adversarial(
        apply, CLASSES, method="mart", epsilon=EPSILON, steps=1
    )
    (value, outcome), gradient = slopes(objective, rows, variables)
    assert outcome.loss.dtype == jnp.float32 and np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_accuracy_under_attack_of_a_linear_network():
    rows = batch()
    apart = margins(rows)
    epsilon = float(np.median(np.abs(apart)) / DUAL["linf"])
    objective = objectives.adversarial(LINEAR, 2, epsilon=epsilon)
    assert objective.metrics == ("loss", "accuracy", "robust_accuracy", "fgsm_accuracy")
    found = jax.jit(objective.evaluate)(VARIABLES, rows)
    assert set(found) == set(objective.metrics)
    robust = apart > epsilon * DUAL["linf"]
    assert 0 < robust.sum() < (apart > 0).sum()
    np.testing.assert_array_equal(found["accuracy"], apart > 0)
    np.testing.assert_array_equal(found["robust_accuracy"], robust)
    np.testing.assert_array_equal(found["fgsm_accuracy"], robust)
    none = objectives.adversarial(LINEAR, 2, evaluation_steps=0)
    assert none.metrics == ("loss", "accuracy")
    assert none.notice({}, {}) == ""


def test_overfitting_to_one_step_is_said():
    notice = objectives.adversarial(LINEAR, 2).notice

    def told(robust, single, **best):
        test = {"test/robust_accuracy": robust, "test/fgsm_accuracy": single}
        return notice(test, {f"test/{name}": each for name, each in best.items()})

    assert told(0.42, 0.48) == "" and told(0.05, 0.2) == "" and told(0.5, 0.9) == ""
    assert told(0.01, 0.8) == (
        "catastrophic overfitting: 80.0% of the test images are right after FGSM, and "
        "1.0% after PGD with 10 steps"
    )
    silent = objectives.adversarial(LINEAR, 2, method="plain").notice
    assert silent({"test/robust_accuracy": 0.0, "test/fgsm_accuracy": 0.9}, {}) == ""
    best = {"test/robust_accuracy": 0.4, "step": 300}
    test = {"test/robust_accuracy": 0.01, "test/fgsm_accuracy": 0.8}
    assert notice(test, best).endswith("10 steps; step 300 had 40.0%")


def test_adversarial_training_makes_a_network_robust():
    """One value tells the class nearly always; others together always, but by little.

    A plain linear network adds up the others, and is wrong under attack.
    """
    count, epsilon = 256, 0.1
    generator = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int32)
    side = np.where(labels == 1, 1, -1)
    images = 0.5 + 0.04 * side[:, None] + generator.normal(0, 0.05, (count, 48))
    images[:, 0] = 0.5 + 0.3 * np.where(
        generator.uniform(size=count) < 0.9, side, -side
    )
    rows = {
        "image": images.clip(0, 1).reshape(count, 4, 4, 3).astype("f"),
        "label": labels,
        "weight": np.ones(count, np.float32),
        "position": np.arange(count, dtype=np.int32),
    }

    def trained(objective):
        @jax.jit
        def step(kernel, key):
            def total(kernel):
                variables = {"params": {"kernel": kernel}}
                return jnp.mean(objective.train(variables, rows, key).loss)

            return kernel - 5.0 * jax.grad(total)(kernel)

        kernel = jnp.zeros((48, 2))
        for number in range(60):
            kernel = step(kernel, jax.random.fold_in(KEY, number))
        test = objectives.adversarial(LINEAR, 2, epsilon=epsilon).evaluate
        found = jax.jit(test)({"params": {"kernel": kernel}}, rows)
        return {name: float(each.mean()) for name, each in found.items()}

    plain = trained(objectives.classify(LINEAR, 2))
    assert plain["accuracy"] > 0.97 and plain["robust_accuracy"] < 0.3
    for method in ("pgd", "fast", "trades", "mart"):
        robust = trained(
            objectives.adversarial(LINEAR, 2, method=method, epsilon=epsilon, steps=1)
        )
        assert robust["robust_accuracy"] > 0.8, method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8.0}, "`epsilon`=8; expected at most 1"),
        ({"epsilon": -1.0}, "`epsilon`=-1"),
        ({"steps": -1}, "`steps`=-1 with `method`='pgd'; expected at least 1"),
        ({"method": "fast", "steps": 2}, "expected 1, or method='pgd'"),
        ({"step_size": -0.1}, "`step_size`=-0.1"),
        ({"method": "ddn"}, "`norm`='linf' with `method`='ddn'.*norm='l2'"),
        ({"method": "ddn", "norm": "l2", "step_size": 0.1}, "own lengths; expected 0"),
        ({"method": "trades", "random_start": False}, "`random_start`=False with"),
        ({"weight": float("nan")}, "`weight`=nan; expected 0 or more"),
        ({"aim": "predicted", "method": "trades"}, "crafts without labels"),
        ({"evaluation_steps": -1}, "`evaluation_steps`=-1"),
        ({"method": "mart", "label_smoothing": 0.1}, "whose loss is of one class"),
        ({"label_smoothing": 1.0}, r"`label_smoothing`=1\.0"),
    ],
)
def test_wrong_settings_of_adversarial_training_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        objectives.adversarial(LINEAR, 2, **settings)


def test_adversarial_training_needs_pixels():
    kept = LINEAR._replace(inputs="features")
    for make in (objectives.adversarial, objectives.gaussian_noise):
        with pytest.raises(ValueError, match=r"expected features\.cache=False"):
            make(kept, 2)


def test_noise_has_the_deviation_that_is_asked_for():
    """A network that gives back what it was given, as its logits and its statistics."""
    rows = batch()
    seen = []

    def train(variables, images, key):
        seen.append(np.asarray(images))
        return linear(variables, images), {}

    objective = objectives.gaussian_noise(Apply(train, linear), 2, sigma=0.25)
    found = objective.train(VARIABLES, rows, KEY)
    noise = seen[0] - rows["image"]
    # 384 numbers: five standard errors.
    assert abs(noise.mean()) < 5 * 0.25 / 384**0.5
    assert abs(noise.std() / 0.25 - 1) < 5 / (2 * 384) ** 0.5
    apart = margins(rows | {"image": seen[0]})
    np.testing.assert_allclose(found.loss, np.logaddexp(0, -apart), rtol=1e-5)
    order = np.asarray([3, 0])
    objective.train(VARIABLES, {n: each[order] for n, each in rows.items()}, KEY)
    np.testing.assert_array_equal(seen[1], seen[0][order])
    with pytest.raises(ValueError, match="`sigma`=-1"):
        objectives.gaussian_noise(LINEAR, 2, sigma=-1.0)


def test_without_noise_a_step_is_that_of_plain_training():
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    expected = objectives.classify(apply, CLASSES).train(variables, rows, KEY)
    found = objectives.gaussian_noise(apply, CLASSES, sigma=0.0)
    jax.tree.map(
        np.testing.assert_array_equal, found.train(variables, rows, KEY), expected
    )

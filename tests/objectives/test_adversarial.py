"""Adversarial training: closed forms of linear networks, and what is said of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.adversarial_worlds import (
    DUAL,
    EPSILON,
    KEY,
    LINEAR,
    RANDOM,
    ROWS,
    VARIABLES,
    batch,
    linear,
    margins,
)

from unlir_jax import objectives
from unlir_jax.objectives import robust_losses
from unlir_jax.objectives.objective import Apply


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


def test_a_free_step_moves_to_the_worst_image():
    """The slope of a linear network has the signs of its weights."""
    rows = batch() | {"change": jnp.zeros((ROWS, 4, 4, 3))}
    objective = objectives.adversarial(LINEAR, 2, method="free", epsilon=EPSILON)

    def total(change):
        outcome = objective.train(VARIABLES, rows | {"change": change}, KEY)
        return outcome.loss.sum(), outcome

    step = jax.jit(jax.grad(total, has_aux=True))
    slope, found = step(rows["change"])
    np.testing.assert_allclose(found.loss, np.logaddexp(0, -margins(rows)), rtol=1e-5)
    worst = objective.replay.move(rows["change"], slope)
    found = step(worst)[1]
    expected = np.logaddexp(0, -margins(rows) + EPSILON * DUAL["linf"])
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    # Farther is not in the ball, and a slope that is no number moves nothing.
    np.testing.assert_allclose(objective.replay.move(worst, slope), worst, atol=1e-7)
    np.testing.assert_array_equal(objective.replay.move(worst, slope * np.nan), worst)
    assert objective.replay.times == 8


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
        "1.0% of the test images after PGD with 10 steps"
    )
    silent = objectives.adversarial(LINEAR, 2, method="plain").notice
    assert silent({"test/robust_accuracy": 0.0, "test/fgsm_accuracy": 0.9}, {}) == ""
    # One step of the training may be easier still, as norms see its batch.
    test = {"test/robust_accuracy": 0.0, "test/fgsm_accuracy": 0.1}
    test["train/adversarial_accuracy"] = 0.67
    assert notice(test, {}) == ""
    single = objectives.adversarial(LINEAR, 2, method="fast").notice
    assert single(test, {}).startswith(
        "catastrophic overfitting: 67.0% of the training images are right after their "
        "one step, and 0.0% of the test images"
    )
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
        ({"method": "free", "norm": "l2"}, "`norm`='l2' with `method`='free'"),
        ({"method": "free", "steps": 2}, "expected 1, or more `replays`"),
        ({"method": "free", "random_start": False}, "`random_start`=False with"),
        ({"method": "free", "aim": "predicted"}, "has the loss of labels"),
        ({"method": "free", "replays": 0}, "`replays`=0; expected 1 or more"),
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


def test_a_ball_that_holds_all_images_is_refused():
    objective = objectives.adversarial(LINEAR, 2, norm="l2", epsilon=128.0)
    with pytest.raises(ValueError, match="`epsilon`=128; .* divide by 255"):
        objective.train(VARIABLES, batch(), KEY)


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

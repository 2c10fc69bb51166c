"""Which rule each parameter follows, schedules by hand, and optimisers by formula."""

import functools
import math

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiers

from unlir_jax import tree
from unlir_jax.training import defaults, optim

RANDOM = np.random.default_rng(0)
PARAMS = {
    "block2": {"norm": {"scale": np.ones(3, np.float32)}},
    "block10": {"kernel": RANDOM.normal(size=(2, 3)).astype(np.float32)},
    "head": {
        "kernel": RANDOM.normal(size=(3, 2)).astype(np.float32),
        "bias": RANDOM.normal(size=2).astype(np.float32),
    },
}
TABLE = (
    ("block2/.*", None),
    ("head/kernel", {"learning_rate": 0.25}),
    (".*bias", {"weight_decay": False}),
    (".*", {}),
)
LEARNING = ["block10/kernel", "head/bias", "head/kernel"]


def gradients(step):
    """Draw a gradient for each parameter of PARAMS that learns under TABLE."""
    generator = np.random.default_rng([1, step])
    leaves = tree.flatten(PARAMS)
    return {
        path: generator.normal(size=leaves[path].shape).astype(np.float32)
        for path in LEARNING
    }


def train(optimizer, params, steps, gradient=gradients):
    """Apply an optimiser for some steps, and give the parameters after each."""
    state, history = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for step in range(steps):
        changes, state = update(gradient(step), state, params)
        params = optax.apply_updates(params, changes)
        history.append(params)
    return history


def started():
    found = optim.rules(PARAMS, TABLE)
    learning, frozen = optim.split_by_rule(PARAMS, found)
    return found, jax.tree.map(jnp.asarray, learning), frozen


close = functools.partial(helpers.close, rtol=1e-6, atol=1e-7)


# The table


def test_the_first_pattern_that_matches_the_whole_path_wins():
    found = optim.rules(PARAMS, TABLE)
    assert found == {
        "block2/norm/scale": optim.Rule(train=False),
        "head/kernel": optim.Rule(learning_rate=0.25),
        "head/bias": optim.Rule(weight_decay=False),
        "block10/kernel": optim.Rule(),
    }
    turned = optim.rules(
        {"a": 1.0, "b": 2.0}, ((".", {}), ("a|b|c", {"learning_rate": 2.0}))[:1]
    )
    assert set(turned.values()) == {optim.Rule()}


WRONG = {
    "uncovered": ((("head/.*", {}),), "covers block10/kernel, block2/norm/scale; exp"),
    "part of a path": ((("head", {}),), "covers block10/kernel"),
    "idle": (((".*", {}), ("heed/.*", None)), "has 'heed/.*', which is the rule of no"),
    "shadowed": (((".*", {}), ("head/.*", None)), "has 'head/.*', which is the rule"),
    "no regex": ((("*", {}),), "has '.', which is no regular expression"),
    "field": (((".*", {"lr": 1}),), "The rule of '.*' has 'lr'; expected train, lear"),
    "no pair": ((("head/.*",),), "expected pairs of a pattern and a rule"),
    "turned": ((({}, ".*"),), "expected pairs of a pattern and a rule"),
}


@pytest.mark.parametrize("case", WRONG)
def test_tables_that_make_no_sense(case, unchecked):
    table, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        optim.rules(PARAMS, table)
    assert "\n" not in str(caught.value)


def test_a_network_without_biases_takes_the_usual_table():
    table = defaults.training().optimizer.table
    assert optim.rules({"head": 0.0}, table) == {"head": optim.Rule()}


def test_many_uncovered_parameters_are_counted():
    many = {f"p{index:02}": 0.0 for index in range(20)}
    with pytest.raises(ValueError, match="p10, p11 and 8 more; expected every"):
        optim.rules(many | {"q": 0.0}, (("q", {}),))


def test_parts_join_to_the_whole():
    found, learning, frozen = started()
    assert sorted(learning) == LEARNING and list(frozen) == ["block2/norm/scale"]
    joined = optim.join(learning, frozen)
    assert jax.tree.structure(joined) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, joined, PARAMS)


# Optimisers


def test_a_factor_scales_the_update():
    found, learning, _ = started()
    after = train(optim.make(found, optax.constant_schedule(0.5)), learning, 1)[0]
    expected = {
        path: learning[path] - 0.5 * gradient * (0.25 if path == "head/kernel" else 1)
        for path, gradient in gradients(0).items()
    }
    close(after, expected)


def test_sgd_is_pytorchs():
    """Weight decay joins the gradient before momentum: `torch.optim.SGD`'s formula."""
    found, learning, _ = started()
    optimizer = optim.make(
        found,
        optim.schedule(0.1, 3, name="linear"),
        weight_decay=0.3,
        options={"momentum": 0.9},
    )
    history = train(optimizer, learning, 3)
    weights = {path: np.asarray(leaf, np.float64) for path, leaf in learning.items()}
    velocity = dict.fromkeys(weights, 0.0)
    for step, rate in enumerate([0.1, 0.1 * 2 / 3, 0.1 / 3]):
        for path, gradient in gradients(step).items():
            decay = 0.0 if path == "head/bias" else 0.3
            factor = 0.25 if path == "head/kernel" else 1.0
            velocity[path] = 0.9 * velocity[path] + gradient + decay * weights[path]
            weights[path] = weights[path] - factor * rate * velocity[path]
        close(history[step], weights)


def test_adamw_is_optax_with_a_mask():
    found, learning, _ = started()
    found = {path: rule._replace(learning_rate=1.0) for path, rule in found.items()}
    rate = optax.constant_schedule(0.01)
    ours = optim.make(found, rate, name="adamw", weight_decay=0.2, options={"b1": 0.8})
    mask = {"block10/kernel": True, "head/kernel": True, "head/bias": False}
    theirs = optax.adamw(rate, b1=0.8, weight_decay=0.2, mask=mask)
    for mine, yours in zip(
        train(ours, learning, 3), train(theirs, learning, 3), strict=True
    ):
        close(mine, yours)


def test_adamw_without_weight_decay_is_adam():
    found, learning, _ = started()
    found = {path: rule._replace(learning_rate=1.0) for path, rule in found.items()}
    rate = optax.constant_schedule(0.01)
    after = train(optim.make(found, rate, name="adamw"), learning, 2)[-1]
    close(after, train(optax.adam(rate), learning, 2)[-1])


@pytest.mark.parametrize(
    "name", tiers.by_tier(["sgd", "adamw", "lion", "adam", "lamb", "lars"], 2)
)
def test_weight_decay_spares_whom_the_rule_spares(name):
    found, learning, _ = started()
    rate, after = optax.constant_schedule(0.1), {}
    for decay in (0.0, 0.5):
        optimizer = optim.make(found, rate, name=name, weight_decay=decay)
        after[decay] = train(optimizer, learning, 2)[-1]
    np.testing.assert_array_equal(after[0.0]["head/bias"], after[0.5]["head/bias"])
    moved = after[0.0]["block10/kernel"] - after[0.5]["block10/kernel"]
    assert np.abs(moved).max() > 1e-6


# Without options, with a decay of its own, and one that needs the parameters.
@pytest.mark.parametrize("name", tiers.by_tier(["rmsprop", "adan", "lamb"], 1))
def test_any_optimiser_of_optax(name):
    """With weight decay 0 it is optax's own, to whom the options are passed."""
    found, learning, _ = started()
    found = {path: rule._replace(learning_rate=1.0) for path, rule in found.items()}
    rate = optim.schedule(0.1, 4)
    settings = {} if name == "rmsprop" else {"weight_decay": 0.0}
    theirs = getattr(optax, name)(rate, **settings)
    close(
        train(optim.make(found, rate, name=name), learning, 2)[-1],
        train(theirs, learning, 2)[-1],
    )
    decaying = optim.make(found, rate, name=name, weight_decay=0.1)
    after = train(decaying, learning, 2)[-1]
    assert all(np.isfinite(leaf).all() for leaf in after.values())


@pytest.mark.parametrize("largest", [1.0, 100.0])
def test_clip_norm(largest):
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": np.array([6.0], "f"), "b": np.array([8.0], "f")}  # Norm 10.
    optimizer = optim.make(
        optim.rules(params, ((".*", {}),)),
        optax.constant_schedule(1.0),
        clip_norm=largest,
    )
    after = train(optimizer, params, 1, lambda step: gradient)[0]
    scale = min(1.0, largest / 10)
    close(after, {"a": np.array([-6 * scale]), "b": np.array([-8 * scale])})


BAD = {
    "optimiser": ({"name": "adamv"}, "`name`='adamv' is no optimiser; did you mean 'a"),
    "line search": ({"name": "lbfgs"}, "is no optimiser"),
    "number only": ({"name": "rprop"}, "is no optimiser"),
    "no optimiser": ({"name": "clip_by_global_norm"}, "is no optimiser"),
    "option": ({"options": {"momentun": 1}}, "'momentun' is no .* mean 'momentum'"),
    "decay": ({"weight_decay": -1.0}, "`weight_decay`=-1.0; expected a number from 0"),
    "decay nan": ({"weight_decay": math.nan}, "`weight_decay`=nan"),
    "clip": ({"clip_norm": -1.0}, "`clip_norm`=-1.0; expected a number from 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_optimisers_that_make_no_sense(case):
    settings, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        optim.make(started()[0], optax.constant_schedule(0.1), **settings)
    assert "\n" not in str(caught.value)


def test_weight_decay_is_given_once():
    """An option of the same name would contradict the setting and the table."""
    for option in ("weight_decay", "mask"):
        with pytest.raises(ValueError, match=f"`options`='{option}' .*weight_decay"):
            optim.make(
                started()[0],
                optax.constant_schedule(0.1),
                name="adamw",
                options={option: 0.1},
            )


def test_norm():
    leaves = {"a": jnp.array([3.0, 0.0]), "b": {"c": jnp.array([[4.0]])}}
    assert float(optim.norm(leaves)) == 5.0


# Schedules

SCHEDULES = [
    ({"name": "constant"}, {0: 1, 50: 1, 99: 1}),
    ({"name": "cosine"}, {0: 1, 25: (1 + 0.5**0.5) / 2, 50: 0.5, 100: 0}),
    ({"name": "cosine", "final": 0.2}, {0: 1, 50: 0.6, 100: 0.2}),
    ({"name": "linear"}, {0: 1, 25: 0.75, 100: 0}),
    ({"name": "linear", "final": 0.5}, {0: 1, 50: 0.75, 100: 0.5}),
    (
        {"name": "multi_step", "milestones": (0.5, 0.75)},
        {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01},
    ),
    (
        {"name": "multi_step", "milestones": (0.5, 0.5), "factor": 0.5},
        {49: 1, 50: 0.25},
    ),
    # With a fifth of warm-up, from 0 in a line.
    ({"name": "constant", "warmup": 0.2}, {0: 0, 5: 0.25, 19: 0.95, 20: 1, 99: 1}),
    ({"name": "cosine", "warmup": 0.2}, {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
    ({"name": "linear", "warmup": 0.2, "final": 0.2}, {20: 1, 60: 0.6, 100: 0.2}),
    (
        {"name": "multi_step", "warmup": 0.2, "milestones": (0.5,), "factor": 0.3},
        {10: 0.5, 20: 1, 49: 1, 50: 0.3, 99: 0.3},
    ),
]


@pytest.mark.parametrize(("settings", "expected"), SCHEDULES)
def test_schedules_by_hand(settings, expected):
    rate = optim.schedule(3.0, 100, **settings)
    for step, share in expected.items():
        assert float(rate(step)) == pytest.approx(3 * share, rel=1e-6, abs=1e-6), step


def test_the_shape_does_not_depend_on_the_length():
    for name in optim.SCHEDULES:
        settings = {"name": name, "warmup": 0.1, "milestones": (0.5,)}
        short = optim.schedule(1.0, 10, **settings)
        long = optim.schedule(1.0, 1000, **settings)
        for step in range(10):
            assert float(short(step)) == pytest.approx(float(long(100 * step)))


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_runs_of_no_length(steps, warmup):
    for name in optim.SCHEDULES:
        assert math.isfinite(optim.schedule(1.0, steps, name=name, warmup=warmup)(0))


BAD_SCHEDULES = {
    "name": ({"name": "cosin"}, "`schedule`='cosin'; did you mean 'cosine'"),
    "warmup": ({"warmup": 1.5}, "`warmup`=1.5; expected a share in .0, 1."),
    "final": ({"final": -0.1}, "`final`=-0.1; expected a share"),
    "milestone": (
        {"milestones": (0.5, 30.0)},
        "`milestones.1.`=30.0; expected a share",
    ),
    "not a number": ({"warmup": math.nan}, "`warmup`=nan; expected a share"),
}


@pytest.mark.parametrize("case", BAD_SCHEDULES)
def test_schedules_that_make_no_sense(case):
    settings, message = BAD_SCHEDULES[case]
    with pytest.raises(ValueError, match=message):
        optim.schedule(0.1, 10, **settings)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(ValueError, match="`learning_rate`=.*; expected a number from"):
        optim.schedule(rate, 10)


def test_steps():
    assert optim.steps(7, 0.0, 100, 8) == 7
    assert optim.steps(0, 2.0, 100, 8) == 25
    assert optim.steps(0, 1.0, 9, 8) == 2
    assert optim.steps(0, 0.5, 100, 50) == 1
    for steps, epochs in ((0, 0.0), (1, 1.0), (-1, 0.0), (-1, 2.0), (2, -1.0)):
        with pytest.raises(ValueError, match="expected one of them to be above 0"):
            optim.steps(steps, epochs, 100, 8)


# The table as people read it


def test_describe_adds_up():
    found = optim.rules(PARAMS, TABLE)
    for depth in (0, 1, 2):
        head, *rows, sums = optim.describe(PARAMS, found, depth).splitlines()
        numbers = [int(row.split("  ")[-2].strip().replace(",", "")) for row in rows]
        assert sum(numbers) == tree.count(PARAMS) == 17
        assert sums == "14 numbers learn, 3 are frozen."
        assert head.split()[0] == "parameter"
    lines = optim.describe(PARAMS, found).splitlines()
    paths = [line.split()[0] for line in lines[1:-1]]
    assert paths == ["block2/norm/scale", "block10/kernel", "head/bias", "head/kernel"]
    assert lines[1].endswith("frozen") and lines[2].endswith("learns")
    assert lines[3].endswith("learns, no decay")
    assert lines[4].endswith("learns, learning rate x 0.25") and "3 x 2" in lines[4]

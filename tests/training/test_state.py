"""One step of training, against gradients of the rows that count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiers
from helpers import close

from unlir_jax import tree
from unlir_jax.objectives.objective import Objective, Outcome
from unlir_jax.runtime import mesh
from unlir_jax.training import optim, state

RANDOM = np.random.default_rng(0)
PARAMS = {
    "body": {"kernel": RANDOM.normal(size=(3, 4)).astype("f")},
    "head": {
        "kernel": RANDOM.normal(size=(4, 2)).astype("f"),
        "bias": RANDOM.normal(size=2).astype("f"),
    },
}
KNOWN = {"params": PARAMS, "batch_stats": {"mean": np.zeros(3, np.float32)}}
RATE = 0.3
KEEP_ALL = (("body/.*", None), (".*", {}))


def batch(rows=16, padding=5):
    generator = np.random.default_rng(rows)
    weight = np.ones(rows, np.float32)
    weight[generator.permutation(rows)[:padding]] = 0
    index = np.where(weight > 0, np.arange(rows) + 100, -1).astype(np.int32)
    return {
        "features": generator.normal(size=(rows, 3)).astype("f"),
        "target": generator.normal(size=(rows, 2)).astype("f"),
        "weight": weight,
        "index": index,
        "position": np.arange(rows, dtype=np.int32),
    }


def errors(params, rows):
    """Compute each row's squared error of a network of two layers."""
    hidden = jnp.tanh(rows["features"] @ params["body"]["kernel"])
    out = hidden @ params["head"]["kernel"] + params["head"]["bias"][None]
    return ((out - rows["target"]) ** 2).sum(1)


def _train(variables, rows, key):
    loss = errors(variables["params"], rows)
    drawn = jnp.full(loss.shape, jax.random.uniform(key))
    mean = variables.get("batch_stats", {}).get("mean")
    statistics = {} if mean is None else {"mean": mean + 1}
    return Outcome(loss, {"double": 2 * loss, "drawn": drawn}, statistics)


def _evaluate(variables, rows):
    loss = errors(variables["params"], rows)
    return {"loss": loss, "double": 2 * loss}


OBJECTIVE = Objective(_train, _evaluate, ("loss", "double"))


def run(
    *batches, laid=None, table=((".*", {}),), known=KNOWN, average=0.0, seed=0, **more
):
    """Train for a step a batch; give the states and reports, as NumPy arrays."""
    laid = laid or mesh.layout(devices=jax.devices()[:1])
    found = optim.rules(PARAMS, table)
    optimizer = optim.make(
        found, optax.constant_schedule(RATE), options={"momentum": 0.9}
    )
    start = state.create(known, found, optimizer, average=bool(average))
    update = mesh.compile_update(
        laid,
        state.make_update(
            OBJECTIVE,
            optimizer,
            found,
            seed=seed,
            average=average,
            axis_name=laid.axis_name,
            **more,
        ),
    )
    now, states, reports = mesh.put_state(laid, start), [start], []
    for rows in batches:
        now, report = update(now, mesh.put_batch(laid, rows))
        states.append(mesh.gather(laid, now))
        reports.append(jax.tree.map(np.asarray, report))
    return states, reports


def real(rows):
    return {name: values[rows["weight"] > 0] for name, values in rows.items()}


# Layouts and numbers of parts that all have to give the same numbers.
SPREAD = {
    "one device": (None, 1),
    "two parts": (None, 2),
    "four parts": (None, 4),
    "jit": (lambda: mesh.layout(), 1),
    "jit in two": (lambda: mesh.layout(), 2),
    "sharded": (lambda: mesh.layout("jit", 8), 1),
    "pmap": (lambda: mesh.layout("pmap"), 1),
    "pmap in two": (lambda: mesh.layout("pmap"), 2),
}


@pytest.mark.parametrize(
    "how", tiers.by_tier(SPREAD, {"one device", "jit in two", "pmap"})
)
def test_a_step_descends_the_mean_over_the_rows_that_count(how):
    laid, accumulate = SPREAD[how]
    rows = batch()
    counted = real(rows)
    loss, slopes = jax.value_and_grad(lambda p: errors(p, counted).mean())(PARAMS)
    states, (report,) = run(rows, laid=laid and laid(), accumulate=accumulate)
    expected = jax.tree.map(lambda p, slope: p - RATE * slope, PARAMS, slopes)
    close(states[1].params, expected)
    assert report.values["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert report.values["double"] == pytest.approx(2 * float(loss), rel=1e-5)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(slopes)))
    assert report.values["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    np.testing.assert_array_equal(report.index, rows["index"])
    np.testing.assert_array_equal(report.weight, rows["weight"])
    assert states[1].step == 1 and report.stop == 0
    # Statistics pass from part to part.
    np.testing.assert_array_equal(states[1].statistics["mean"], [accumulate] * 3)


def test_padding_counts_for_nothing():
    rows = batch()
    garbage = dict(rows)
    dead = rows["weight"] == 0
    garbage["features"] = np.where(dead[:, None], 1e3, rows["features"]).astype("f")
    one, other = run(rows)[0][1], run(garbage)[0][1]
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_batch_without_any_row_that_counts_changes_nothing():
    rows = batch(16, 16)
    (_, after), (report,) = run(rows)
    jax.tree.map(np.testing.assert_array_equal, after.params, PARAMS)
    assert report.values["loss"] == 0 and after.step == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", tiers.by_tier(["jit", "sharded", "pmap"], {"jit"}))
def test_several_steps_are_the_same_on_all_layouts(how):
    batches = [batch(16, 3), batch(8, 0), batch(16, 9)]
    one, _ = run(*batches, average=0.9)
    other, _ = run(*batches, average=0.9, laid=SPREAD[how][0]())
    for mine, yours in zip(one[1:], other[1:], strict=True):
        close(yours, mine)


@pytest.mark.exhaustive
def test_a_wish_to_stop_is_known_everywhere():
    rows = batch() | {"stop": np.eye(16, dtype=np.float32)[13]}
    for laid in (None, mesh.layout(), mesh.layout("pmap")):
        assert run(rows, laid=laid)[1][0].stop > 0


def test_what_is_frozen_stays_bit_for_bit():
    batches = [batch(16, 3), batch(16, 0)]
    states, _ = run(*batches, table=KEEP_ALL)
    for after in states[1:]:
        np.testing.assert_array_equal(
            after.params["body"]["kernel"], PARAMS["body"]["kernel"]
        )
        assert (after.params["head"]["kernel"] != PARAMS["head"]["kernel"]).all()
    kept = [
        path for path in tree.listed(states[0].optimizer) if path.endswith("kernel")
    ]
    assert len(kept) == 1, "the optimiser remembers what does not learn"


def test_the_gradient_of_what_learns_is_that_of_the_whole():
    rows = batch()
    slopes = jax.grad(lambda p: errors(p, real(rows)).mean())(PARAMS)["head"]
    (_, after), (report,) = run(rows, table=KEEP_ALL)
    expected = jax.tree.map(lambda p, s: p - RATE * s, PARAMS["head"], slopes)
    close(after.params["head"], expected)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(slopes)))
    assert report.values["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)


# The moving average


@pytest.mark.exhaustive
def test_the_average_by_hand():
    """It keeps min(decay, (1 + t) / (10 + t)) of the old, as TensorFlow's does."""
    batches = [batch(8 * count, count) for count in (1, 2, 3)]
    states, _ = run(*batches, average=0.2)
    plain, _ = run(*batches)
    average = PARAMS["head"]["bias"].astype(np.float64)
    mean = np.zeros(3)
    for step, keep in enumerate((2 / 11, 0.2, 0.2), start=1):
        np.testing.assert_array_equal(
            states[step].params["head"]["bias"], plain[step].params["head"]["bias"]
        )
        average = keep * average + (1 - keep) * plain[step].params["head"]["bias"]
        mean = keep * mean + (1 - keep) * step
        close(states[step].average["params"]["head"]["bias"], average)
        close(states[step].average["batch_stats"]["mean"], mean)
        assert state.variables(states[step]) is states[step].average


def test_variables_without_an_average_are_the_current_ones():
    (start, after), _ = run(batch())
    for now in (start, after):
        assert now.average == {}
        assert state.variables(now)["params"] is now.params
        assert state.variables(now)["batch_stats"] is now.statistics
    (_, after), _ = run(batch(), known={"params": PARAMS}, average=0.5)
    assert list(state.variables(after)) == ["params"]
    assert list(state.variables(after._replace(average={}))) == ["params"]


# Keys


@pytest.mark.exhaustive
def test_a_key_follows_from_seed_and_step():
    def drawn(*batches, **more):
        return [float(r.values["drawn"]) for r in run(*batches, **more)[1]]

    one = drawn(batch(8, 0), batch(8, 0))
    assert one[0] != one[1]
    np.testing.assert_allclose(drawn(batch(16, 2), batch(16, 2)), one, rtol=1e-5)
    for laid in (mesh.layout(), mesh.layout("pmap")):
        spread = drawn(batch(8, 0), batch(8, 0), laid=laid)
        np.testing.assert_allclose(spread, one, rtol=1e-5)
    other = drawn(batch(8, 0), seed=1)
    assert abs(other[0] - one[0]) > 1e-3
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    assert one[0] == pytest.approx(float(jax.random.uniform(key)), rel=1e-5)


def test_a_step_after_a_pause_is_as_without():
    """The state alone says how to go on."""
    first, second = batch(8, 0), batch(16, 2)
    together, _ = run(first, second)
    found = optim.rules(PARAMS, ((".*", {}),))
    optimizer = optim.make(
        found, optax.constant_schedule(RATE), options={"momentum": 0.9}
    )
    update = state.make_update(OBJECTIVE, optimizer, found, seed=0)
    after, _ = jax.jit(update)(together[1], second)
    close(after, together[2])


# Measuring


@pytest.mark.parametrize("how", tiers.by_tier(["one device", "jit", "pmap"], {"jit"}))
def test_measures_are_sums_over_exactly_the_examples(how):
    laid = SPREAD[how][0]
    laid = laid() if laid else mesh.layout(devices=jax.devices()[:1])
    measure = mesh.compile_measure(
        laid, state.make_measure(OBJECTIVE, axis_name=laid.axis_name)
    )
    known = mesh.put_state(laid, KNOWN)
    batches = [batch(16, 0), batch(8, 0), batch(16, 13)]
    sums = {"loss": 0.0, "double": 0.0, "weight": 0.0}
    for rows in batches:
        report = measure(known, mesh.put_batch(laid, rows))
        np.testing.assert_array_equal(report.weight, rows["weight"])
        np.testing.assert_array_equal(report.index, rows["index"])
        sums = {name: sums[name] + float(report.values[name]) for name in sums}
    every = np.concatenate([errors(PARAMS, real(rows)) for rows in batches])
    assert sums["weight"] == len(every) == 16 + 8 + 3
    assert sums["loss"] == pytest.approx(every.sum(dtype=np.float64), rel=1e-5)
    assert sums["double"] == pytest.approx(2 * every.sum(dtype=np.float64), rel=1e-5)

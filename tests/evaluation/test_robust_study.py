"""The study of robust networks: closed forms of a linear one, and given networks."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import unlir_jax
from unlir_jax import objectives, split
from unlir_jax.data import arrays
from unlir_jax.evaluation.study import (
    comparison,
    measures,
    networks,
    resistance,
    scores,
)
from unlir_jax.objectives import input_gradients
from unlir_jax.objectives.objective import Apply
from unlir_jax.report import study_page
from unlir_jax.runtime import config

CONFIG = "configs/robust_saliency.py"
SIZE, COUNT = 4, 6
RANDOM = np.random.default_rng(0)
# Half of all pixels pull either way, so that images lie on both sides.
SLOPE = RANDOM.normal(size=(SIZE, SIZE, 3)).astype(np.float32)
SLOPE -= SLOPE.mean()


def head(variables, maps):
    score = jnp.sum(maps * variables["slope"][None], axis=(1, 2, 3))
    return jnp.stack([score, -score], axis=1)


# One model, so that its programs are compiled once.
MODEL = split.from_functions(lambda variables, images: images, head)


def linear(scale=1.0):
    """Give a network whose logits are <x, w> and -<x, w>."""
    variables = {"slope": jnp.asarray(scale * SLOPE)}
    return unlir_jax.wrap(MODEL, variables, image_size=SIZE)


def attacked(network, data, linf=(), l2=()):
    settings = config.load(f"{CONFIG}:arms=none,given=a+b").robustness
    settings.linf, settings.l2 = linf, l2
    settings.steps, settings.distance_steps = 5, 40
    source = arrays.npz(str(data[0]), "test")
    return resistance.measure(network, source, PLACES, FRAME, settings, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write grey images with some noise, which no small change takes out of [0, 1]."""
    path = tmp_path_factory.mktemp("linear") / "images.npz"
    images = RANDOM.integers(90, 166, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
    scores = np.sum(images * SLOPE[None], axis=(1, 2, 3))
    np.savez(path, x_test=images, y_test=(scores < 0).astype(np.int64))
    return path, images.astype(np.float64) / 255


FRAME = measures.Frame(4, SIZE, 1.0, "bilinear")
PLACES = np.arange(COUNT)


def expected(images):
    score = np.abs(np.sum(images * SLOPE[None], axis=(1, 2, 3)))
    return score / np.linalg.norm(SLOPE)


def test_alignment_of_a_linear_network_is_the_distance_to_its_boundary(data):
    path, images = data
    source = arrays.npz(str(path), "test")
    for scale in (1.0, 1e-3):
        given = linear(scale), source, PLACES, FRAME
        found = measures.alignment(*given)
        np.testing.assert_allclose(found, expected(images), rtol=1e-4)


@pytest.mark.exhaustive
def test_attacks_find_the_boundary_of_a_linear_network(data):
    images = data[1]
    told = attacked(linear(), data, l2=(0.9 * expected(images).min(), 5.0))
    nearest = told.pop("boundary_projection/least_distance")
    np.testing.assert_allclose(nearest, expected(images), rtol=0.02, atol=1e-3)
    small, large = told.values()
    assert small.all() and not large.any()
    assert all(name.startswith("apgd/robust_accuracy@l2=") for name in told)


def test_a_gradient_of_zeros_has_the_alignment_0():
    images = jnp.ones((2, 2, 2, 3))
    slope = jnp.zeros((2, 2, 2, 3)).at[1].set(-2.0)
    found = input_gradients.alignment(images, slope)
    np.testing.assert_allclose(found, [0, np.sqrt(12)], rtol=1e-6)


@pytest.mark.exhaustive
def test_images_that_a_network_gets_wrong_are_not_attacked(data):
    told = attacked(linear(-1.0), data, linf=(1e-4,))
    assert not told["apgd/robust_accuracy@linf=0.0001"].any()
    assert np.isnan(told["boundary_projection/least_distance"]).all()


def test_arms_have_the_published_budgets():
    found = config.variants(f"{CONFIG}:seeds=1")
    assert list(found) == [
        "standard-0",
        "interpretable_gradients-0",
        "l2-0",
        "linf-0",
        "boundary_projection-0",
    ]
    linf = found["linf-0"]
    assert linf["objective.epsilon"] == pytest.approx(8 / 255)
    assert linf["objective.step_size"] == pytest.approx(2 / 255)
    assert found["l2-0"]["objective.step_size"] == pytest.approx(0.1)
    small = config.variants(f"{CONFIG}:seeds=1,arms=l2,l2=1.5,steps=3")["l2-0"]
    assert (small["objective.epsilon"], small["objective.steps"]) == (1.5, 3)
    with pytest.raises(ValueError, match="nothing to train"):
        config.variants(f"{CONFIG}:arms=none,given=a")


def test_every_arm_makes_its_objective():
    apply = Apply(lambda v, x, key: (x, {}), lambda v, x: x)
    for name, sets in config.variants(f"{CONFIG}:seeds=1").items():
        theirs = config.load(f"{CONFIG}:seeds=1", config.as_overrides(sets))
        made = objectives.build(theirs.objective.to_dict(), apply, 10)
        attacked = "robust_accuracy" in made.metrics
        assert attacked == (name != "interpretable_gradients-0")


def given(arguments, **changes):
    return config.load(f"{CONFIG}:{arguments}", config.as_overrides(changes))


def test_given_networks_need_no_training():
    changes = {"given.a.name": "cifar_resnet8", "given.b.name": "runs/mine"}
    found = networks.find(given("arms=none,given=a+b", **changes))
    assert [(each.name, each.seed) for each in found] == [("a", None), ("b", None)]
    found = networks.find(given("arms=none,given=a+b", baseline="b", **changes))
    assert [each.name for each in found] == ["b", "a"]


def test_a_given_network_of_several_seeds():
    """Each seed is a network; one without {seed} stands next to all of them."""
    path = "configs/attention_pooling.py:given=average+ca_stream+one,root=runs,seeds=2"
    wanted = config.load(path, ["given.one.name=cifar_resnet8", "data.path=birds"])
    found = [(e.name, e.model, e.data["split"]) for e in networks.find(wanted)]
    assert found == [
        ("average-0", "runs/average/seed=0", "test"),
        ("average-1", "runs/average/seed=1", "test"),
        ("ca_stream-0", "runs/ca_stream/seed=0", "test"),
        ("ca_stream-1", "runs/ca_stream/seed=1", "test"),
        ("one", "cifar_resnet8", "test"),
    ]


def test_given_networks_that_make_no_sense():
    with pytest.raises(ValueError, match=r"`given\.b\.name` is empty"):
        networks.find(given("arms=none,given=a+b", **{"given.a.name": "x"}))
    with pytest.raises(ValueError, match="expected two arms"):
        networks.find(given("arms=none,given=a", **{"given.a.name": "x"}))
    with pytest.raises(ValueError, match="`given` has 'l2', which is an arm"):
        networks.find(given("root=runs,given=l2", **{"given.l2.name": "x"}))


def scored(arm, seed, value):
    table = {"logit/alignment": np.full(3, value), "cam/insertion": np.arange(3.0)}
    tables = {"as_trained": table, "calibrated": table}
    every = {"accuracy": np.ones(3)}
    return comparison.Scored(arm, seed, {}, every, np.ones(3, bool), tables)


@pytest.mark.parametrize("baseline", ["standard", "given"])
def test_a_given_network_is_paired_with_each_seed(baseline):
    found = [scored("standard", 0, 1.0), scored("standard", 1, 2.0)]
    found.append(scored("given", None, 5.0))
    document = comparison.compare(found, baseline, ("insertion",), resamples=20)
    cells = {(each["condition"], each["cell"]): each for each in document["cells"]}
    aligned = cells["as_trained", "logit/alignment"]
    assert aligned["n"] == 6
    sign = 1 if baseline == "standard" else -1
    assert aligned["difference"] == pytest.approx(sign * 3.5)
    assert aligned["verdict"] == ("better" if sign > 0 else "worse")


def test_a_study_without_the_fitted_temperature(data):
    found = [scored("standard", 0, 1.0), scored("given", 0, 5.0)]
    found = [
        each._replace(tables={"as_trained": each.tables["as_trained"]})
        for each in found
    ]
    document = comparison.compare(found, "standard", ("insertion",), resamples=20)
    assert {each["condition"] for each in document["cells"]} == {"as_trained"}
    assert {each["condition"] for each in document["signs"]} == {"as_trained"}
    wanted = given("arms=none,given=a+b", calibrated=False)
    source = arrays.npz(str(data[0]), "test")
    trained = networks.Trained("a", None, "cifar_resnet8", None, {}, {})
    assert set(scores.plans(trained, wanted, source, 2.0)) == {"as_trained", "sanity"}


def test_cells_of_attacks_print_as_their_kind():
    assert study_page.number("apgd/robust_accuracy@linf=0.03", 0.25) == "25.0"
    assert study_page.number("logit/alignment", 1.5, signed=True) == "+1.500"
    assert comparison.higher("apgd/robust_accuracy@l2=0.5")


@pytest.mark.exhaustive
def test_a_study_of_given_networks_from_end_to_end(tmp_path):
    from unlir_jax.evaluation.study import compare_trainings

    changes = {
        "given.a.name": "cifar_resnet8",
        "given.a.weights": "random",
        "given.b.name": "cifar_strided",
        "given.b.weights": "random",
        "data.options": {"image_size": 32, "classes": 10, "size": 24},
        "images": 8,
        "batch_size": 8,
        "methods": ("grad_cam",),
        "metrics": ("average_drop",),
        "sanity.images": 2,
        "robustness.steps": 2,
        "robustness.distance_steps": 3,
        "statistics.resamples": 20,
        "gallery": 1,
    }
    settings = given("arms=none,given=a+b,data=synthetic_parts", **changes)
    outcome = compare_trainings.run(settings, tmp_path / "scores")
    assert outcome.message.startswith("Done: ")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    cells = {each["cell"] for each in summary["cells"]}
    assert {"logit/alignment", "grad_cam/average_drop"} <= cells
    assert sum(cell.startswith("apgd/robust_accuracy@") for cell in cells) == 4
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "This network is given: cifar_strided, random." in page
    assert page.count("<img") == 1 + 2 * 2

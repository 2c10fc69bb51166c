"""Attacks without a budget against adv-lib, closed forms and their own promises."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import attacks, split
from unlir_jax.attacks import minimal, norms
from unlir_jax.attacks.boundary_projection import step_rule

GOLDEN = Path(__file__).parents[1] / "golden/minimal_attacks/minimal_attacks.npz"
NORMS = "l2", "linf", "l1", "l0"
CW = {"searches": 5, "steps": 100, "constant": 0.1, "abort_early": False}
CASES = {
    "ddn": (attacks.ddn, {"steps": 60, "quantise": False}),
    "ddn_quantised": (attacks.ddn, {"steps": 60}),
    "fmn_l2": (attacks.fmn, {"norm": "l2", "steps": 60}),
    "fmn_linf": (attacks.fmn, {"norm": "linf", "steps": 60, "alpha": 10.0}),
    "fmn_l1": (attacks.fmn, {"norm": "l1", "steps": 60}),
    "fmn_l0": (attacks.fmn, {"norm": "l0", "steps": 60}),
    "deepfool_l2": (attacks.deepfool, {"norm": "l2"}),
    "deepfool_linf": (attacks.deepfool, {"norm": "linf"}),
    "carlini_wagner": (attacks.carlini_wagner, CW),
}
FAST = "ddn_quantised", "fmn_l2", "deepfool_l2"


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def features(variables, images):
    maps = images
    for name in ("conv0", "conv1"):
        maps = jax.lax.conv_general_dilated(
            *(maps, variables[name + ".weight"], (2, 2), ((1, 1), (1, 1))),
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
        )
        maps = jax.nn.relu(maps + variables[name + ".bias"][None, None, None])
    return maps


def head(variables, maps):
    vectors = maps.reshape((len(maps), -1))
    for name in ("dense0", "dense1"):
        vectors = vectors @ variables[name + ".weight"].T
        vectors = vectors + variables[name + ".bias"][None]
        vectors = jax.nn.relu(vectors) if name == "dense0" else vectors
    return vectors


MODEL = split.from_functions(features, head)


def world(dtype=np.float64):
    facts = golden()
    names = [name for name in facts if name.endswith((".weight", ".bias"))]
    variables = {name: jnp.asarray(facts[name], dtype) for name in names}
    images = jnp.asarray(facts["levels"] / 255, dtype)
    return variables, images, jnp.asarray(facts["labels"])


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_the_network_is_the_one_of_the_reference(double):
    variables, images, _ = world()
    logits = split.whole(MODEL)(variables, images)
    np.testing.assert_allclose(logits, golden()["logits"], atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.exhaustive)
        for name in [*CASES, *(n + "/targeted" for n in CASES)]
        if name in golden()
    ],
)
def test_distortions_are_those_of_adv_lib(double, name):
    factory, settings = CASES[name.split("/")[0]]
    variables, images, labels = world()
    targets = jnp.asarray(golden()["targets"]) if "targeted" in name else None
    attack = factory(MODEL, **settings)
    found = attack(variables, images, labels, targets=targets)
    told = attacks.outcome(MODEL)(variables, images, found, labels, targets=targets)
    success = golden()[name + "/success"]
    # FMN of adv-lib stays at its estimate of the boundary, which is exact where the
    # network is linear: rounding decides there, and ours moves on where it can.
    more = factory is attacks.fmn
    reached = np.asarray(told["success"])
    rows = success if more else slice(None)
    np.testing.assert_array_equal(reached[rows], success[rows])
    norm = settings.get("norm", "l2")
    expected = golden()[name][success, NORMS.index(norm)].mean()
    np.testing.assert_allclose(np.mean(told[norm][success]), expected, rtol=0.02)


def test_an_image_that_is_wrong_is_its_own_adversarial_image():
    variables, images, labels = world(np.float32)
    found = attacks.ddn(MODEL, steps=3).counted(variables, images[:2], labels[:2])
    np.testing.assert_array_equal(found.images[0], images[0])
    assert found.gradients.tolist() == [1, 3]


# Two classes whose logits are means of columns: all boundaries are planes.
def plane_head(variables, maps):
    del variables
    halves = maps.mean((1, 3)).reshape((len(maps), 2, -1)).mean(2)
    return 7 * halves


PLANE = split.from_functions(lambda variables, images: images, plane_head)
QUARTERS = jnp.asarray([0.75, 0.75, 0.25, 0.25])
IMAGE = jnp.broadcast_to(QUARTERS[None, None, :, None], (1, 4, 4, 1))
# All pixels move by 0.25, or of `l0` as few as possible by 0.75: 5 and a third do not.
# FMN moves 8: it keeps all pixels that equal the last it counts, as adv-lib's does.
NEAREST = {"l2": 1.0, "linf": 0.25, "l1": 4.0, "l0": 6}


@pytest.mark.parametrize(
    ("factory", "settings", "within"),
    [
        (attacks.boundary_projection, {}, 1.02),
        (attacks.boundary_projection, {"quantise": False}, 1.02),
        (attacks.deepfool, {}, 1.021),
        pytest.param(attacks.ddn, {}, 1.03, marks=pytest.mark.exhaustive),
        pytest.param(attacks.fmn, {}, 1.01, marks=pytest.mark.exhaustive),
        pytest.param(
            *(attacks.fmn, {"norm": "linf"}, 1.05), marks=pytest.mark.exhaustive
        ),
        pytest.param(
            *(attacks.fmn, {"norm": "l1"}, 1.02), marks=pytest.mark.exhaustive
        ),
        pytest.param(
            *(attacks.fmn, {"norm": "l0"}, 1.34), marks=pytest.mark.exhaustive
        ),
        pytest.param(
            *(attacks.deepfool, {"norm": "linf"}, 1.021), marks=pytest.mark.exhaustive
        ),
        pytest.param(
            *(attacks.carlini_wagner, {"steps": 200, "searches": 6}, 1.03),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_the_nearest_point_of_a_plane_is_known(factory, settings, within):
    labels = jnp.asarray([0])
    found = factory(PLANE, **settings)({}, IMAGE, labels)
    told = attacks.outcome(PLANE)({}, IMAGE, found, labels)
    norm = settings.get("norm", "l2")
    assert told["success"][0]
    assert NEAREST[norm] - 1e-6 <= told[norm][0] <= within * NEAREST[norm]


def test_targets_are_reached():
    variables, images, labels = world(np.float32)
    targets = jnp.asarray(golden()["targets"])
    attack = attacks.boundary_projection(MODEL, steps=60)
    found = attack(variables, images, labels, targets=targets)
    told = attacks.outcome(MODEL)(variables, images, found, labels, targets=targets)
    assert np.all(told["success"])
    # DDN of adv-lib needs 0.795 with as many gradients.
    assert np.mean(told["l2"]) < golden()["ddn/targeted"][:, 0].mean()


def test_boundary_projection_distorts_less_than_ddn():
    variables, images, labels = world(np.float32)
    attack = attacks.boundary_projection(MODEL, steps=60)
    found = attack(variables, images, labels)
    told = attacks.outcome(MODEL)(variables, images, found, labels)
    assert np.all(told["success"])
    assert np.mean(told["l2"]) < golden()["ddn_quantised"][:, 0].mean()
    levels = np.asarray(found) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)


@pytest.mark.parametrize("adversarial", [True, False])
def test_steps_of_boundary_projection_are_the_formulas_of_the_paper(
    double, adversarial
):
    random = np.random.default_rng(3)
    uphill, other = (norms.unit(random.normal(size=(1, 4, 4, 3)), "l2") for _ in "12")
    image = jnp.full((1, 4, 4, 3), 0.5)
    point = image + 0.1 * (0.4 * uphill + other)
    change = point - image
    size = jnp.sqrt(minimal.dot(change, change))
    one = jnp.ones(1)
    view = minimal.View(
        *(image, point, uphill, uphill, one, jnp.asarray([adversarial]), size),
        *(0.2 * one, 25 * one, 99 * one),
    )
    _, found, _ = step_rule(0.6, 2.0, 0.0, 0).move(point, view)

    factor = 0.6 + 0.4 * 25 / 100
    along = minimal.dot(change, uphill)
    if adversarial:
        foot = image + minimal.wide(along) * uphill
        length = jnp.sqrt((factor * size) ** 2 - along**2)
        expected = foot + minimal.wide(length) * norms.unit(point - foot, "l2")
    else:
        root = jnp.sqrt((size / factor) ** 2 - size**2 + along**2)
        expected = point + minimal.wide(root - along) * uphill
    # Twelve halvings leave a 4096th of at most 5 lengths.
    np.testing.assert_allclose(found, expected, atol=5 / 4096 * float(size[0]))
    assert norms.length(expected - image, "l2")[0] == pytest.approx(
        float(size[0]) * (factor if adversarial else 1 / factor), rel=2e-3
    )


NEVER = jnp.asarray([[9.0, 0.0]])


def test_a_failure_of_boundary_projection_is_no_white_image():
    model = split.from_functions(
        lambda variables, images: images,
        lambda variables, maps: jnp.stack(
            [9 + 0 * maps[:, 0, 0, 0], maps[:, 0, 0, 0]], 1
        ),
    )
    image = jnp.full((1, 4, 4, 1), 0.25)
    found = attacks.boundary_projection(model, steps=5)({}, image, jnp.asarray([0]))
    np.testing.assert_allclose(found[0, 0, 0], 1)  # The pixel that raises the loss.
    np.testing.assert_allclose(found[0, 1:], image[0, 1:], atol=0.5 / 255)


ALONE = {
    "boundary_projection": (attacks.boundary_projection, {"steps": 12}, 12),
    "ddn": (attacks.ddn, {"steps": 12}, 12),
    "fmn": (attacks.fmn, {"steps": 12}, 12),
    "deepfool": (attacks.deepfool, {"steps": 6, "rivals": 2}, 12),
    "carlini_wagner": (attacks.carlini_wagner, {"steps": 8, "searches": 2}, 16),
    "smooth_carlini_wagner": (
        *(attacks.smooth_carlini_wagner, {"steps": 8, "searches": 2}, 16),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "ddn" else pytest.mark.exhaustive)
        for name in ALONE
    ],
)
def test_an_image_alone_gives_what_it_gives_in_a_batch(double, name):
    factory, settings, most = ALONE[name]
    variables, images, labels = world()
    attack = factory(MODEL, **settings)
    batch = attack.counted(variables, images[:4], labels[:4])
    assert np.all(np.asarray(batch.gradients) <= most)
    for row in (3, 1):
        one = slice(row, row + 1)
        alone = attack.counted(variables, images[one], labels[one])
        np.testing.assert_allclose(alone.images[0], batch.images[row], atol=1e-5)
        assert alone.gradients[0] == batch.gradients[row]

"""Heads of weak detectors against formulas and slow loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import detection
from unlir_jax.detection import oicr, wsddn

RANDOM = np.random.default_rng(0)
REGIONS, FILTERS, CLASSES = 7, 5, 3
FEATURES = RANDOM.normal(size=(REGIONS, FILTERS)).astype(np.float32)
PRESENT = np.asarray([True, False, True])
START = RANDOM.random((REGIONS, 2)) * 6
BOXES = np.concatenate([START, START + 4 + RANDOM.random((REGIONS, 2)) * 6], axis=1)
OVERLAPS = np.asarray(detection.overlaps(BOXES, BOXES))
SCORES = RANDOM.random((REGIONS, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    drawn = wsddn.initial(jax.random.key(0), FILTERS, CLASSES)
    return jax.tree.map(lambda leaf: 50 * leaf + 0.1, drawn)


def softmax(values, axis):
    powers = np.exp(values)
    return powers / powers.sum(axis, keepdims=True)


@pytest.mark.parametrize("temperature", [1, 2.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_scores_are_two_softmaxes(variables, temperature, scaled):
    factors = RANDOM.random(REGIONS).astype(np.float32)
    seen = FEATURES * factors[:, None] if scaled else FEATURES
    one, two = (
        seen @ np.asarray(variables[name]["kernel"])
        + np.asarray(variables[name]["bias"])
        for name in ("classification", "detection")
    )
    expected = softmax(one, 1) * softmax(two / temperature, 0)
    found = wsddn.region_scores(
        variables,
        FEATURES,
        box_scores=factors if scaled else None,
        temperature=temperature,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = wsddn.image_scores(found)
    np.testing.assert_allclose(whole, expected.sum(0), rtol=1e-5)
    loss = wsddn.image_loss(found, PRESENT)
    chance = np.where(PRESENT, expected.sum(0), 1 - expected.sum(0))
    assert loss == pytest.approx(-np.log(chance).mean(), rel=1e-5)


@pytest.mark.exhaustive
def test_rows_that_are_no_regions_change_nothing(variables):
    exist = np.arange(REGIONS + 3) < REGIONS
    padded = np.concatenate([FEATURES, np.full((3, FILTERS), 9, np.float32)])
    table = np.zeros((REGIONS + 3,) * 2, np.float32)
    table[:REGIONS, :REGIONS] = OVERLAPS
    alone = wsddn.region_scores(variables, FEATURES)
    found = wsddn.region_scores(variables, padded, exist)
    np.testing.assert_allclose(found[:REGIONS], alone, rtol=1e-6)
    assert not found[REGIONS:].any()
    near = wsddn.spatial_regulariser(padded, found, PRESENT, table)
    expected = wsddn.spatial_regulariser(FEATURES, alone, PRESENT, OVERLAPS)
    assert near == pytest.approx(float(expected), rel=1e-5)

    stages = oicr.initial(jax.random.key(1), FILTERS, CLASSES)
    both = [
        oicr.losses(oicr.stage_logits(stages, rows), *rest)
        for rows, *rest in (
            (FEATURES, alone, PRESENT, OVERLAPS),
            (padded, found, PRESENT, table, exist),
        )
    ]
    np.testing.assert_allclose(*both, rtol=1e-5)
    assert both[0].shape == (3,) and (both[0] > 0).all()
    means = oicr.mean_scores(oicr.stage_logits(stages, padded), exist)
    assert (means[REGIONS:] == -np.inf).all() and np.isfinite(means[:REGIONS]).all()


def test_no_regions_and_no_classes_give_numbers(variables):
    nothing = np.zeros(REGIONS, bool)
    scores = wsddn.region_scores(variables, FEATURES, nothing)
    assert not scores.any() and np.isfinite(wsddn.image_loss(scores, PRESENT))
    absent = np.zeros(CLASSES, bool)
    pseudo = oicr.pseudo_labels(SCORES, absent, OVERLAPS)
    assert not pseudo.weights.any()
    pseudo = oicr.pseudo_labels(SCORES, PRESENT, OVERLAPS, nothing)
    assert not pseudo.weights.any()


def test_the_regulariser_is_a_sum_over_close_regions():
    expected = 0.0
    for label in np.flatnonzero(PRESENT):
        best = SCORES[:, label].argmax()
        for region in range(REGIONS):
            if OVERLAPS[region, best] >= 0.3:
                apart = ((FEATURES[region] - FEATURES[best]) ** 2).sum()
                expected += 0.5 * SCORES[best, label] ** 2 * apart / CLASSES
    found = wsddn.spatial_regulariser(FEATURES, SCORES, PRESENT, OVERLAPS, least=0.3)
    assert expected > 0 and found == pytest.approx(expected, rel=1e-5)

    def by_scores(scores):
        return wsddn.spatial_regulariser(FEATURES, scores, PRESENT, OVERLAPS)

    assert not jax.grad(by_scores)(jnp.asarray(SCORES)).any()


def slow_labels(scores, present, foreground, background, exclusive):
    labels, weights, most = [CLASSES] * REGIONS, [0.0] * REGIONS, [-1.0] * REGIONS
    given, scores = scores, scores.copy()
    for label in np.flatnonzero(present):
        best = scores[:, label].argmax()
        for region in range(REGIONS):
            overlap = OVERLAPS[region, best]
            if overlap > most[region]:
                most[region] = overlap
                near = overlap >= foreground
                labels[region] = label if near else CLASSES
                counts = overlap >= background
                weights[region] = given[best, label] if counts else 0
        if exclusive:
            scores[best] = 0
    return labels, weights


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("background", [0, 0.2])
def test_pseudo_labels_are_those_of_a_loop(exclusive, background):
    scores = SCORES.copy()
    scores[2] = 1.0  # The best region of all classes.
    settings = {"foreground": 0.5, "background": background, "exclusive": exclusive}
    expected = slow_labels(scores, PRESENT, **settings)
    found = oicr.pseudo_labels(scores, PRESENT, OVERLAPS, **settings)
    assert found.labels.tolist() == list(expected[0])
    np.testing.assert_allclose(found.weights, expected[1], rtol=1e-6)
    assert len({*found.labels.tolist()}) == (3 if exclusive else 2)


def test_the_loss_of_a_stage_by_hand():
    pseudo = oicr.PseudoLabels(jnp.asarray([0, 3]), jnp.asarray([0.5, 0.25]))
    loss = oicr.refinement_loss(jnp.zeros((2, 4)), pseudo)
    assert loss == pytest.approx(0.75 * np.log(4) / 2)
    sure = 100 * jax.nn.one_hot(pseudo.labels, 4)
    assert oicr.refinement_loss(sure, pseudo) == pytest.approx(0, abs=1e-6)


def test_a_stage_does_not_move_the_one_before():
    logits = [jnp.asarray(RANDOM.normal(size=(REGIONS, CLASSES + 1))) for _ in "ab"]

    def second(first):
        return oicr.losses([first, logits[1]], SCORES, PRESENT, OVERLAPS)[1]

    assert not jax.grad(second)(logits[0]).any()
    by_scores = jax.grad(lambda s: oicr.losses(logits, s, PRESENT, OVERLAPS).sum())
    assert not by_scores(jnp.asarray(SCORES)).any()


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda: wsddn.region_scores({}, FEATURES, temperature=0),
            "`temperature`=0",
        ),
        (lambda: oicr.initial(jax.random.key(0), 4, 3, stages=0), "`stages`=0"),
        (
            lambda: oicr.pseudo_labels(SCORES, PRESENT, OVERLAPS, background=0.6),
            "`background`=0.6 and `foreground`=0.5",
        ),
    ],
)
def test_wrong_settings_of_heads_are_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

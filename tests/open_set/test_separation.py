"""Rates and areas against scikit-learn's, slow loops, and counts by hand."""

from pathlib import Path

import numpy as np
import pytest

from unlir_jax.statistics import separation

STORED = np.load(
    Path(__file__).parents[1] / "golden" / "separation" / "scikit_learn.npz"
)
RANDOM = np.random.default_rng(0)
KNOWN, UNKNOWN = RANDOM.normal(1, 1, 40).round(1), RANDOM.normal(0, 1, 30).round(1)
RIGHT = RANDOM.random(40) < 0.8


@pytest.mark.parametrize("case", ["apart", "tied", "tenths"])
@pytest.mark.parametrize(
    "name", ["auroc", "average_precision", "precision_area", "false_positive_rate"]
)
def test_areas_and_rates_are_those_of_scikit_learn(case, name):
    sides = STORED[f"{case}/positive"], STORED[f"{case}/negative"]
    found = getattr(separation, name)(*sides)
    np.testing.assert_allclose(found, STORED[f"{case}/{name}"], rtol=0, atol=1e-12)


def test_auroc_counts_pairs_and_halves_ties():
    pairs = np.sign(KNOWN[:, None] - UNKNOWN) / 2 + 0.5
    assert (pairs == 0.5).any()
    assert separation.auroc(KNOWN, UNKNOWN) == pytest.approx(pairs.mean(), abs=1e-12)
    turned = separation.auroc(-UNKNOWN, -KNOWN)
    assert turned == pytest.approx(pairs.mean(), abs=1e-12)


def test_equal_scores_have_the_values_that_each_convention_gives_them():
    one, other = np.ones(3), np.ones(7)
    assert separation.auroc(one, other) == 0.5
    assert separation.average_precision(one, other) == pytest.approx(0.3)
    assert separation.precision_area(one, other) == pytest.approx(0.65)
    assert separation.false_positive_rate(one, other) == 1
    assert separation.oscr(one, np.asarray([True, True, False]), other) == (
        pytest.approx(1 / 3)
    )
    assert separation.correct_at(one, np.ones(3, bool), other, rate=0.1) == 0


def test_both_conventions_of_fpr95_by_hand():
    known, unknown = np.arange(1.0, 21.0), np.asarray([1.5, 2.0, 30.0, 0.0])
    # 19 of 20 known images reach 2; so do 2 and 30 of the unknown.
    assert separation.false_positive_rate(known, unknown) == 0.5
    # All four unknown images are needed for 95 %, and 30 lets all known images through.
    assert separation.false_positive_rate(-unknown, -known) == 1
    # For three of four 2 is enough, which lets 1 and 2 through.
    rate = separation.false_positive_rate(-unknown, -known, rate=0.75)
    assert rate == pytest.approx(2 / 20)


def test_oscr_is_the_share_of_pairs_that_are_in_order_and_right():
    pairs = (np.sign(KNOWN[:, None] - UNKNOWN) / 2 + 0.5) * RIGHT[:, None]
    found = separation.oscr(KNOWN, RIGHT, UNKNOWN)
    assert found == pytest.approx(pairs.mean(), abs=1e-12)
    sure = separation.oscr(KNOWN, np.ones(40, bool), UNKNOWN)
    assert sure == pytest.approx(separation.auroc(KNOWN, UNKNOWN), abs=1e-12)


def test_the_curve_of_oscr_is_that_of_a_loop_over_thresholds():
    false, correct = separation.correct_classification(KNOWN, RIGHT, UNKNOWN)
    marks = np.unique(np.concatenate([KNOWN, UNKNOWN]))[::-1]
    slow = [(0.0, 0.0)] + [
        (np.mean(UNKNOWN >= mark), np.mean((KNOWN >= mark) & RIGHT)) for mark in marks
    ]
    np.testing.assert_allclose(np.stack([false, correct], 1), slow, atol=1e-12)
    assert correct[-1] == RIGHT.mean() and false[-1] == 1


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 1.0])
def test_correct_at_a_rate_is_above_the_unknown_image_of_that_rank(rate):
    rank = {0.01: 1, 0.1: 3, 0.5: 15, 1.0: 30}[rate]
    threshold = sorted(UNKNOWN)[-rank]
    expected = np.mean((KNOWN > threshold) & RIGHT)
    found = separation.correct_at(KNOWN, RIGHT, UNKNOWN, rate=rate)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: separation.auroc([], [1.0]), "`positive` has shape"),
        (lambda: separation.auroc([1.0], []), "`negative` has shape"),
        (lambda: separation.auroc([np.nan], [1.0]), "`positive` holds 1 values"),
        (lambda: separation.average_precision([1.0], [np.inf]), "`negative` holds 1"),
        (lambda: separation.false_positive_rate([1.0], [1.0], rate=0.0), "`rate`=0"),
        (lambda: separation.oscr([1.0], np.ones(1), [0.0]), "`right` is float"),
        (lambda: separation.oscr([1.0], [True, False], [0.0]), "`right` is bool of"),
        (lambda: separation.correct_at([1.0], [True], [], rate=0.1), "`unknown` has"),
    ],
)
def test_bad_scores_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

"""What a number of images can show at all."""

import numpy as np
import pytest

from unlir_jax.evaluation import comparison
from unlir_jax.report import cautions
from unlir_jax.statistics import power, significance


@pytest.mark.parametrize("n", [1, 3, 10, 14])
def test_the_smallest_p_value_is_reached_and_never_passed(n):
    assert power.smallest_p_value(n) == 2 / 2**n
    differences = 1 + np.random.default_rng(n).random(n)
    found = significance.paired_permutation(differences, np.zeros(n))
    assert found == power.smallest_p_value(n)


def test_drawn_flips_have_a_floor():
    assert power.smallest_p_value(15, resamples=99) == 1 / 100
    found = significance.paired_permutation(np.ones(40), np.zeros(40), resamples=99)
    assert found == power.smallest_p_value(40, resamples=99)


def test_images_that_would_do_in_closed_form():
    # 4 * 2 / 2^n < 0.05 from n = 8 on: 8 / 256 = 0.03.
    found = power.of_comparisons(3, 4)
    assert found == power.Power(3, 4, 1.0, False, 8, 80)
    assert power.of_comparisons(7, 4).smallest == 8 / 128
    assert power.of_comparisons(8, 4).enough and not power.of_comparisons(7, 4).enough
    # 100 * 2 / 2^n < 0.05 from n = 12 on, and 250 * 2 / 2^n from n = 14 on.
    assert power.of_comparisons(5, 100).needed == 12
    assert power.of_comparisons(5, 250).needed == 14


def test_too_few_draws_are_told_from_too_few_images():
    found = power.of_comparisons(1000, 700)
    assert not found.enough and found.needed is None and found.resamples == 14_000
    assert power.of_comparisons(1000, 700, resamples=found.resamples).enough
    assert not power.of_comparisons(1000, 700, resamples=found.resamples - 1).enough


def test_impossible_numbers_are_refused():
    for call, sentence in (
        (lambda: power.smallest_p_value(0), "`n`=0 pairs"),
        (lambda: power.of_comparisons(3, 0), "`comparisons`=0"),
        (lambda: power.of_comparisons(3, 1, level=1.0), "`level`=1.0"),
        (lambda: power.smallest_p_value(3, resamples=0), "`resamples`=0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


def compared(images, methods=2):
    """Compare methods that are far better than a control, and alike themselves."""
    random = np.random.default_rng(0)
    good = 1 + random.random((images, methods))
    values = np.concatenate([good, random.random((images, 1))], axis=1)[..., None]
    names = [f"method{place}" for place in range(methods)]
    return comparison.compare(values, [*names, "center"], ("center",), ("insertion",))


def test_methods_against_controls_are_a_family_of_their_own():
    # Four methods make 4 pairs with the control, and 6 among themselves.
    found = compared(9, methods=4)
    pairs = [pair for pair in found.pairs if pair["family"] == "controls"]
    assert len(pairs) == 4 and len(found.pairs) == 10
    # All differences have one sign. Together with the others it would be 10 * 2 / 512.
    assert [pair["holm"] for pair in pairs] == [4 * 2 / 512] * 4
    assert not found.unbeaten
    others = [pair["p_value"] for pair in found.pairs if pair["family"] == "methods"]
    expected = significance.holm(others)
    own = [pair["holm"] for pair in found.pairs if pair["family"] == "methods"]
    np.testing.assert_array_equal(own, expected)


def test_too_few_images_are_said_and_how_many_would_do():
    found = compared(3)
    (weak,) = found.power
    assert weak["smallest"] == 2 * 2 / 8 and weak["needed"] == 7 and not weak["enough"]
    assert len(found.unbeaten) == 2
    assert cautions.sentences(found.unbeaten, ("center",), found.power) == [
        "Insertion: 3 images cannot tell any method from a control, whatever the "
        "scores; after Holm's correction for 2 comparisons the smallest possible "
        "p-value is 0.5, and 7 images would do."
    ]
    enough = compared(7)
    assert enough.power[0]["enough"] and not enough.unbeaten
    assert cautions.sentences([], ("center",), enough.power) == []

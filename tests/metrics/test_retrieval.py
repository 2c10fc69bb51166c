"""Retrieval against a slow reference, by hand, and bad input."""

import numpy as np
import pytest

from unlir_jax.metrics import retrieval


def slow_average_precision(scores, relevant, junk, trapezoid):
    """Walk down one ranking as the revisited Oxford and Paris protocol does."""
    ranking = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
    ranking = [i for i in ranking if not junk[i]]
    wanted = sum(relevant[i] and not junk[i] for i in range(len(scores)))
    found, total = 0, 0.0
    for place, index in enumerate(ranking):
        if relevant[index]:
            found += 1
            now = found / (place + 1)
            before = (found - 1) / place if place else 1.0
            total += (before + now) / 2 if trapezoid else now
    return total / wanted if wanted else float("nan")


@pytest.mark.parametrize("trapezoid", [False, True])
def test_it_is_the_slow_reference(trapezoid):
    random = np.random.default_rng(0)
    scores = random.normal(size=(30, 200))
    relevant = random.random((30, 200)) < 0.1
    junk = random.random((30, 200)) < 0.1
    relevant[3] = False
    found = retrieval.evaluate(scores, relevant, junk, trapezoid=trapezoid)
    wanted = [
        slow_average_precision(*rows, trapezoid)
        for rows in zip(scores, relevant, junk, strict=True)
    ]
    np.testing.assert_allclose(found.average_precision, wanted, rtol=0, atol=1e-12)
    assert found.left_out == 1
    assert abs(found.mean_average_precision - np.nanmean(wanted)) < 1e-12


def test_the_setups_of_revisited_oxford_and_paris():
    # By lists of names and positions, as ground truth is given and walked there.
    random = np.random.default_rng(1)
    kinds = random.choice(4, (20, 90), p=(0.85, 0.06, 0.06, 0.03))
    scores = random.normal(size=(20, 90))
    setups = retrieval.revisited(*(kinds == kind for kind in (1, 2, 3)))
    wanted = {"easy": ({1}, {2, 3}), "medium": ({1, 2}, {3}), "hard": ({2}, {1, 3})}
    assert set(setups) == set(wanted)
    for name, (good, bad) in wanted.items():
        found = retrieval.evaluate(scores, *setups[name], trapezoid=True)
        averages = []
        for row, own in zip(scores, kinds, strict=True):
            ranking = sorted(range(90), key=lambda place, row=row: -row[place])
            kept = [place for place in ranking if own[place] not in bad]
            ranks = [rank for rank, place in enumerate(kept) if own[place] in good]
            total = 0.0
            for number, rank in enumerate(ranks):
                before = number / rank if rank else 1.0
                total += (before + (number + 1) / (rank + 1)) / 2 / len(ranks)
            averages.append(total if ranks else np.nan)
        np.testing.assert_allclose(found.average_precision, averages, atol=1e-9)
        assert abs(found.mean_average_precision - np.nanmean(averages)) < 1e-9


def test_by_hand():
    scores = np.asarray([[0.9, 0.8, 0.7, 0.6]])
    relevant = np.asarray([[True, False, True, False]])
    found = retrieval.evaluate(scores, relevant, k=2)
    assert found.mean_average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.recall(1) == 1.0
    junk = np.asarray([[True, True, False, False]])
    assert retrieval.evaluate(scores, relevant, junk).mean_average_precision == 1.0


def test_classes_retrieve_their_own_and_not_themselves():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 200)
    rows = np.eye(4)[labels] + 0.01 * random.normal(size=(800, 4))
    assert retrieval.by_class(rows, labels).mean_average_precision > 0.999
    mixed = random.normal(size=(800, 4))
    chance = retrieval.by_class(mixed, labels)
    assert abs(chance.mean_average_precision - 199 / 799) < 0.02
    # Blocks of queries give what all at once give.
    rows = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    same = labels[:, None] == labels[None]
    whole = retrieval.evaluate((rows @ rows.T), same, np.eye(800, dtype=bool))
    np.testing.assert_allclose(
        chance.average_precision, whole.average_precision, rtol=0, atol=1e-9
    )


def test_a_class_of_one_is_left_out_and_counted():
    rows = np.asarray([[1.0, 0], [1, 0.1], [0, 1]])
    found = retrieval.by_class(rows, np.asarray([0, 0, 1]))
    assert found.left_out == 1
    assert found.mean_average_precision == 1.0


def test_bad_input_gets_one_sentence(unchecked):
    with pytest.raises(ValueError, match="expected \\[queries, index\\] for all"):
        retrieval.evaluate(np.ones((2, 3)), np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="not finite"):
        retrieval.evaluate(np.full((1, 2), np.nan), np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="something to find"):
        retrieval.evaluate(np.ones((1, 2)), np.zeros((1, 2), bool))
    one = np.ones((1, 2), bool)
    with pytest.raises(ValueError, match="or share images"):
        retrieval.revisited(one, ~one, one)
    with pytest.raises(ValueError, match="no class with two"):
        retrieval.by_class(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="expected \\[images, channels\\]"):
        retrieval.by_class(np.eye(3), np.arange(2))

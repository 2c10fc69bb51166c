"""Classes that are known, classifiers of them, and the choice of a combination."""

import numpy as np
import pytest
from open_set_worlds import world

from unlir_jax.few_shot import discriminant
from unlir_jax.open_set import classes, classifier, combination, measures, recogniser
from unlir_jax.statistics import separation

NAMES = ("gadwall", "mallard", "wigeon", "teal")


def test_splits_are_halves_that_differ_and_stay():
    first, second = (classes.draw(50, 0.5, 0, number) for number in (0, 1))
    assert len(first.known) == 25 and set(first.known) != set(second.known)
    every = np.sort(np.concatenate([first.known, first.unknown]))
    np.testing.assert_array_equal(every, np.arange(50))
    again = classes.draw(50, 0.5, 0, 0)
    np.testing.assert_array_equal(first.known, again.known)
    assert set(classes.draw(50, 0.5, 1, 0).known) != set(first.known)


def test_unknown_classes_can_be_named(tmp_path):
    file = tmp_path / "unknown.txt"
    file.write_text("# seen last year\nteal\n\n mallard \n")
    found = classes.named(file, NAMES)
    assert found.unknown.tolist() == [1, 3] and found.known.tolist() == [0, 2]
    known = tmp_path / "known.txt"
    known.write_text("gadwall\nteal\n")
    file.write_text("mallard\n")
    assert classes.named(file, NAMES, known).known.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("malard\n", "'malard', which is no class of the data; did you mean 'mallard'"),
        ("teal\nteal\n", "names 'teal' more than once"),
        ("\n", "are known and 0 unknown"),
        ("gadwall\nmallard\nwigeon\n", "1 of 4 classes are known and 3 unknown"),
        ("\udcff", "is no UTF-8 text"),
    ],
)
def test_bad_names_get_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "unknown.txt"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=sentence):
        classes.named(file, NAMES)


def test_what_is_known_and_unknown_is_refused(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("teal\n")
    other.write_text("teal\ngadwall\nmallard\n")
    with pytest.raises(ValueError, match="'teal' and 0 others are known and unknown"):
        classes.named(one, NAMES, other)
    with pytest.raises(ValueError, match="cannot be read"):
        classes.named(tmp_path / "none.txt", NAMES)


@pytest.mark.parametrize(("share", "known"), [(0.5, 1), (1.0, 2), (0.0, 0)])
def test_too_few_classes_are_refused(share, known):
    with pytest.raises(ValueError, match=f"leaves {known} known"):
        classes.draw(2, share, 0, 0)


def test_hard_classes_are_the_ones_like_a_known_class():
    means = np.asarray([[1, 0, 0], [0, 1, 0], [0.9, 0, 0.1], [-1, -1, 0.3]])
    rows = np.repeat(means, 3, axis=0)
    labels = np.repeat(np.arange(4), 3)
    division = classes.Division(np.asarray([0, 1]), np.asarray([2, 3]))
    assert classes.hard(rows, labels, division).tolist() == [2]


def test_the_linear_classifier_is_that_of_standardised_discriminants():
    given = world()
    found = classifier.fit(given.train, given.labels, 4, "lda")
    spread = given.train.std(0)
    kernel, bias = discriminant.classifier(given.train / spread, given.labels, 4)
    expected = given.test / spread @ kernel + bias
    np.testing.assert_allclose(found.logits(given.test), expected, atol=1e-3)


def test_prototypes_classify_by_cosines_of_whitened_features():
    given = world()
    found = classifier.fit(given.train, given.labels, 4)
    logits = found.logits(given.test)
    assert np.abs(logits).max() <= 15 + 1e-9
    moved = given.train * 7 - 3
    same = classifier.fit(moved, given.labels, 4).logits(given.test * 7 - 3)
    np.testing.assert_allclose(logits, same, atol=1e-9)
    assert np.mean(found.logits(given.train).argmax(1) == given.labels) > 0.9


def test_left_out_logits_come_from_classifiers_that_have_not_seen_the_image():
    given = world()
    found = classifier.left_out_logits(given.train, given.labels, 4, seed=3)
    fold = classifier.logistic.folds(given.labels, classifier.FOLDS, 3)
    out = fold == 2
    own = classifier.fit(given.train[~out], given.labels[~out], 4)
    np.testing.assert_allclose(found[out], own.logits(given.train[out]), rtol=1e-12)
    changed = given.train.copy()
    changed[out] += np.random.default_rng(0).normal(size=changed[out].shape)
    others = classifier.fit(changed[~out], given.labels[~out], 4)
    np.testing.assert_array_equal(others.directions, own.directions)
    with pytest.raises(ValueError, match="has 1 training images; expected 2"):
        classifier.left_out_logits(given.train[:5], np.asarray([0, 1, 2, 3, 0]), 4)


def turn(seed, good, bad, both):
    """Make scores of which two see different unknown images and one sees none."""
    random = np.random.default_rng(seed)
    known = {name: random.normal(size=80) for name in ("one", "other", "none")}
    unknown = {name: random.normal(size=60) for name in known}
    unknown["one"][:30] -= good
    unknown["other"][30:] -= bad
    unknown["none"] += both
    return known, unknown


def test_a_combination_is_found_where_scores_complete_each_other():
    found = [turn(seed, 6.0, 5.0, 0.5) for seed in range(4)]
    best = combination.choose(found, ("none", "one", "other"))
    assert set(best.names) == {"one", "other"} and best.auroc > 0.95
    assert best.auroc > max(best.alone.values()) + 0.1
    known, unknown = found[0]
    expected = np.mean(
        [
            (unknown[name] - np.concatenate([k[name] for k, _ in found]).mean())
            / np.concatenate([k[name] for k, _ in found]).std()
            for name in best.names
        ],
        axis=0,
    )
    np.testing.assert_allclose(best.combine(unknown), expected, rtol=1e-12)


def test_a_score_stays_alone_where_no_other_helps():
    found = [turn(seed, 6.0, 0.0, 2.0) for seed in range(4)]
    best = combination.choose(found, ("none", "one", "other"))
    assert best.names == ("one",)


def test_pseudo_unknown_images_are_of_classes_that_were_held_out():
    random = np.random.default_rng(0)
    labels = np.arange(160) % 8
    centres = random.normal(0, 3, (8, 6))
    rows = centres[labels] + random.normal(size=(160, 6))
    plan = recogniser.Plan(("mahalanobis", "msp"))
    found = combination.turns(plan, recogniser.Described(rows), labels, 8)
    assert len(found) == 10
    # Each class is unknown once a round, and a fifth of the others is left out.
    assert sum(len(unknown["msp"]) for _, unknown in found) == 5 * 160
    assert [len(known["msp"]) for known, _ in found] == [16] * 10
    areas = [separation.auroc(k["mahalanobis"], u["mahalanobis"]) for k, u in found]
    assert min(areas) > 0.8
    with pytest.raises(ValueError, match="there are 3; expected 4 or more"):
        combination.turns(plan, recogniser.Described(rows), labels % 3, 3)


def test_every_measure_has_the_value_of_its_function():
    random = np.random.default_rng(0)
    is_known, right = random.random(50) < 0.5, random.random(50) < 0.8
    scores = random.normal(size=50) + is_known
    found = measures.measure(scores, is_known, right & is_known)
    known, unknown = scores[is_known], scores[~is_known]
    assert found["auroc"] == separation.auroc(known, unknown)
    assert found["fpr95"] == separation.false_positive_rate(known, unknown)
    assert found["fpr95_openood"] == separation.false_positive_rate(-unknown, -known)
    assert found["aupr_out"] == separation.average_precision(-unknown, -known)
    assert found["aupr_in_trapezoid"] == separation.precision_area(known, unknown)
    assert found["oscr"] == separation.oscr(known, right[is_known], unknown)
    some = measures.measure(scores, is_known, right, np.arange(50) < 25)
    expected = separation.auroc(known, scores[:25][~is_known[:25]])
    assert some["auroc"] == expected
    assert all(0 <= value <= 1 for value in found.values())

"""Learning from few pictures with labels and others without."""

import few_colours
import numpy as np
import pytest
import tiers

from unlir_jax.few_shot import (
    adapt,
    episodes,
    fitting,
    frozen_features,
    probes,
    pseudo_labels,
    setup,
)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


def mislabelled(given, others):
    """Give a task whose other pictures have each another label than before."""
    train = given.data.train
    labels = train.labels.copy()
    labels[others] = (labels[others] + 1) % len(train.classes)

    def read(index):
        return train.read(index) | {"label": int(labels[index])}

    wrong = train._replace(labels=labels, read=read)
    return given._replace(data=given.data._replace(train=wrong))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "method",
    tiers.by_tier(["probe_gem", "prototypes", "filters_single"], {"probe_gem"}),
)
def test_labels_of_unlabelled_pictures_are_not_used(colours, method):
    settings = few_colours.settings(colours, f"k=2,method={method}", unlabelled=8)
    (given,) = setup.prepare(settings)
    train = given.data.train
    chosen, classes = episodes.draw(train.labels, 2, 0)
    labels = np.searchsorted(classes, train.labels[chosen])
    others = episodes.others(train.size, chosen, 8, 0)

    def scores(given, others):
        seen = frozen_features.FrozenFeatures(given)
        seen.prepare(np.concatenate([chosen, others]))
        fitted = fitting.fit(given, seen, chosen, labels, 3, 0, others)
        return fitted.classify(seen.tested(np.arange(12))), fitted.notes

    found, notes = scores(given, others)
    same, _ = scores(mislabelled(given, others), others)
    np.testing.assert_array_equal(found, same)
    assert notes["unlabelled"] == 8 and 3 <= notes["pseudo_labelled"] <= 8
    without, _ = scores(given, others[:0])
    assert np.abs(found - without).max() > 1e-4


@pytest.mark.exhaustive
def test_the_job_takes_unlabelled_pictures(colours, tmp_path):
    settings = few_colours.settings(
        colours, "k=1,method=filters", unlabelled="all", crops=1, draws=1, steps=1
    )
    summary = adapt.run(settings, tmp_path / "run").summary
    assert summary["unlabelled"] == 12
    assert summary["test/accuracy"] > 0.8


def test_the_surest_of_each_class_are_taken():
    random = np.random.default_rng(0)
    scores = probes.log_probabilities(3 * random.normal(size=(40, 4)))
    found = pseudo_labels.confident(scores, 0.5)
    kept = []
    for label in range(4):
        own = [i for i in range(40) if scores[i].argmax() == label]
        own.sort(key=lambda i: -scores[i, label])
        kept += own[:5]
    assert found.places.tolist() == sorted(kept)
    np.testing.assert_allclose(found.targets.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.targets, np.exp(scores[sorted(kept)]), rtol=1e-5)
    # One class takes them all: no more than its part joins.
    alone = probes.log_probabilities(np.eye(4)[np.zeros(40, int)])
    assert len(pseudo_labels.confident(alone, 0.5).places) == 5


def test_others_are_not_those_that_were_drawn_and_are_nested():
    chosen = np.asarray([3, 5, 8])
    every = episodes.others(20, chosen, None, 0)
    assert sorted(every) == sorted(set(range(20)) - {3, 5, 8})
    few = episodes.others(20, chosen, 6, 0)
    assert few.tolist() == every[:6].tolist()
    assert set(few) != set(episodes.others(20, chosen, 6, 1))
    assert not len(episodes.others(20, chosen, 0, 0))
    with pytest.raises(ValueError, match="`unlabelled`=18, but 17 images"):
        episodes.others(20, chosen, 18, 0)


@pytest.mark.exhaustive
def test_the_penalty_is_tuned_on_labels_that_are_known(monkeypatch):
    random = np.random.default_rng(0)
    labels = np.arange(24) % 3
    views = random.normal(size=(2, 24, 5)) + 2 * np.eye(5)[labels]
    views = views.astype(np.float32)
    sure = probes.logistic.tune(
        views[:, :12].reshape(24, 5),
        np.tile(labels[:12], 2),
        3,
        examples=np.tile(np.arange(12), 2),
    )
    tuned = []
    tune = probes.logistic.tune

    def watched(*given, **more):
        tuned.append(tune(*given, **more))
        return tuned[-1]

    monkeypatch.setattr(probes.logistic, "tune", watched)
    probes.by_logistic(views, labels, 3, num_labelled=12)
    assert [fitted.penalty for fitted in tuned] == [sure.penalty] * 2
    assert np.abs(tuned[0].kernel - tuned[1].kernel).max() > 1e-3

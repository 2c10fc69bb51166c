"""Scores of known and unknown images against peers, slow loops and identities."""

import numpy as np
import pytest
from open_set_worlds import stored, world
from scipy import special, stats

from unlir_jax.few_shot import discriminant
from unlir_jax.open_set import scatter, scores, softmax_regression, weibull

PEERS = {
    "max_logit": ("max_logit", {}),
    "energy": ("energy", {}),
    "energy 2": ("energy", {"temperature": 2.0}),
    "entropy": ("entropy", {}),
    "gen": ("gen", {}),
    "gen 2": ("gen", {"largest": 2}),
    "kl_matching": ("kl_matching", {}),
    "knn": ("knn", {}),
    "vim": ("vim", {"dimensions": 8}),
    "nnguide": ("nnguide", {}),
    "fdbd": ("fdbd", {}),
    "react": ("react", {}),
    "scale": ("scale", {"percentile": 75.0}),
    "ash s": ("ash", {"percentile": 75.0}),
    "ash p": ("ash", {"percentile": 75.0, "variant": "p"}),
    "ash b": ("ash", {"percentile": 75.0, "variant": "b"}),
}
QUICK = {"vim": {"dimensions": 8}}


def made(name, **settings):
    return scores.SCORES[name](world().head, **QUICK.get(name, {}) | settings)


@pytest.mark.parametrize("peer", PEERS)
def test_scores_are_those_of_peers(peer):
    name, settings = PEERS[peer]
    found = world().scored(scores.SCORES[name](world().head, **settings))
    # The clipped probabilities of a peer miss the largest by 1e-7 ** 0.1.
    near = 1e-3 if peer.startswith("gen") else 1e-4
    np.testing.assert_allclose(found, stored()[peer], rtol=near, atol=near)


def test_the_softmax_score_is_the_logarithm_of_the_largest_probability():
    np.testing.assert_allclose(
        np.exp(world().scored(made("msp"))), stored()["msp"], rtol=1e-5
    )
    logits = np.asarray([[40.0, 0.0], [60.0, 0.0]])
    own = scores.msp(None)
    found = own.score((), np.zeros((2, 1)), logits)
    # In float64 both probabilities are 1.
    np.testing.assert_allclose(found, -np.exp([-40.0, -60.0]), rtol=1e-9)


@pytest.mark.parametrize("name", list(scores.SCORES))
def test_a_score_does_not_depend_on_its_neighbours(name):
    own, given = made(name), world()
    state = own.fit(given.train, given.head.logits(given.train), given.labels)
    logits = given.head.logits(given.test)
    whole = own.score(state, given.test, logits)
    assert whole.shape == (len(given.test),) and np.ptp(whole) > 0
    alone = [
        own.score(state, given.test[i : i + 1], logits[i : i + 1])[0] for i in range(9)
    ]
    np.testing.assert_allclose(whole[:9], alone, rtol=1e-9, atol=1e-12)
    turned = own.score(state, given.test[::-1], logits[::-1])[::-1]
    np.testing.assert_allclose(whole, turned, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(scores.SCORES))
def test_known_images_score_higher_than_noise(name):
    own, given = made(name), world()
    state = own.fit(given.train, given.head.logits(given.train), given.labels)
    random = np.random.default_rng(1)
    middle = random.permuted(given.train, axis=0)
    known, noise = (
        own.score(state, rows, given.head.logits(rows))
        for rows in (given.train, middle)
    )
    assert np.median(known) > np.median(noise)


def residuals():
    given = world()
    rows = (given.train - given.train.mean(0)) / given.train.std(0)
    means = np.stack([rows[given.labels == c].mean(0) for c in range(4)])
    test = (given.test - given.train.mean(0)) / given.train.std(0)
    return rows - means[given.labels], means, test


def test_the_shrunken_covariance_is_that_of_scikit_learn():
    rows, _, _ = residuals()
    found = scatter.shrunken(rows, "rows")
    dense = found.base * np.eye(24) + (
        found.directions * (found.variances - found.base)
    ) @ (found.directions.T)
    np.testing.assert_allclose(dense, stored()["ledoit_wolf"], atol=1e-9)
    white = found.whiten(rows)
    np.testing.assert_allclose(
        np.square(white).sum(1),
        np.sum(rows * np.linalg.solve(dense, rows.T).T, axis=1),
        rtol=1e-9,
    )


def test_fewer_rows_than_channels_give_the_covariance_of_the_dense_formula():
    rows = np.random.default_rng(0).normal(size=(9, 14))
    rows -= rows.mean(0)
    found = scatter.shrunken(rows, "rows")
    expected, share = discriminant.shrunken(rows)
    assert found.share == pytest.approx(share, abs=1e-12) and 0 < share < 1
    precision = np.linalg.inv(expected)
    np.testing.assert_allclose(
        found.whiten(np.eye(14)) @ found.whiten(np.eye(14)).T, precision, atol=1e-9
    )


def test_mahalanobis_distances_are_those_of_the_dense_formula():
    rows, means, test = residuals()
    within = stored()["ledoit_wolf"]
    counts = np.bincount(world().labels) / len(rows)
    middle = counts @ means
    between = (means - middle).T * counts @ (means - middle)

    def square(away, covariance):
        return np.sum(away * np.linalg.solve(covariance, away.T).T, axis=1)

    nearest = np.min([square(test - mean, within) for mean in means], axis=0)
    found = world().scored(made("mahalanobis"))
    np.testing.assert_allclose(found, -nearest, rtol=1e-9)
    overall = square(test - middle, within + between)
    found = world().scored(made("relative_mahalanobis"))
    np.testing.assert_allclose(found, overall - nearest, rtol=1e-7, atol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_units_of_channels_and_more_of_the_same_images_do_not_matter(name):
    given, units = world(), np.geomspace(0.01, 100, 24)
    expected = given.scored(made(name))
    scaled = given._replace(train=given.train * units, test=given.test * units)
    own = made(name)
    logits = given.head.logits(given.train)
    state = own.fit(scaled.train, logits, given.labels)
    found = own.score(state, scaled.test, given.head.logits(given.test))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    many, more = (
        given._replace(
            train=np.tile(given.train, (count, 1)), labels=np.tile(given.labels, count)
        ).scored(made(name))
        for count in (400, 800)
    )
    # Hardly anything is shrunk; a sum instead of a mean would halve the scores.
    np.testing.assert_allclose(many, more, rtol=0.02, atol=0.02)


def test_weibull_tails_are_those_of_scipy():
    random = np.random.default_rng(0)
    for spread in (0.01, 1.0, 30.0):
        distances = spread * random.gamma(4, size=80)
        found = weibull.fit_tail(distances, 20)
        largest = np.sort(distances)[-20:]
        shape, start, scale = stats.weibull_min.fit(largest, floc=largest[0] - 1)
        np.testing.assert_allclose(found, (shape, scale, start), rtol=2e-3)
        inside = np.linspace(largest[0] - 0.5, largest[-1] + 1, 7)
        expected = stats.weibull_min.cdf(inside, found.shape, found.start, found.scale)
        np.testing.assert_allclose(found.below(inside), expected, atol=1e-12)
        loss = stats.weibull_min.nnlf((found.shape, start, found.scale), largest)
        assert loss <= stats.weibull_min.nnlf((shape, start, scale), largest) + 1e-6
    assert weibull.Weibull(2.0, 1.0, 3.0).below(np.asarray([2.0, 3.0])).tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize("distance", ["euclidean", "eucos"])
@pytest.mark.parametrize("negative", ["shift", "positive"])
def test_openmax_is_the_loop_of_its_algorithms(distance, negative):
    given = world()
    logits, test = given.head.logits(given.train), given.head.logits(given.test)

    def apart(one, mean):
        euclidean = np.linalg.norm(one - mean)
        if distance == "euclidean":
            return euclidean
        cosine = one @ mean / np.linalg.norm(one) / np.linalg.norm(mean)
        return euclidean / 200 + 1 - cosine

    means, tails = [], []
    for label in range(4):
        own = logits[(given.labels == label) & (logits.argmax(1) == label)]
        means.append(own.mean(0))
        far = np.sort([apart(one, means[-1]) for one in own])[-20:]
        shape, start, scale = stats.weibull_min.fit(far, floc=far[0] - 1)
        tails.append(stats.weibull_min(shape, start, scale))
    expected = []
    for row in test:
        own = row - row.min() if negative == "shift" else row
        revised, unknown = own.copy(), 0.0
        for rank, label in enumerate(np.argsort(-row)[:3]):
            if own[label] > 0:
                extreme = tails[label].cdf(apart(row, means[label]))
                revised[label] = own[label] * (1 - (3 - rank) / 3 * extreme)
                unknown += own[label] - revised[label]
        every = np.exp(np.append(revised, unknown))
        expected.append(-every[-1] / every.sum())
    found = given.scored(made("openmax", distance=distance, negative=negative))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("negative", ["shift", "positive"])
def test_openmax_never_enlarges_a_negative_logit(negative):
    given = world()
    own = made("openmax", negative=negative, largest=4)
    state = own.fit(given.train, given.head.logits(given.train), given.labels)
    logits = -np.abs(given.head.logits(given.test)) - 1
    found = own.score(state, given.test, logits)
    assert (found <= 0).all() and (found >= -1).all()
    if negative == "positive":
        # Nothing is positive, so nothing is taken: the unknown class has a logit of 0.
        expected = -1 / (1 + np.exp(logits).sum(1))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    else:
        moved = own.score(
            own.fit(given.train, given.head.logits(given.train), given.labels),
            given.test,
            logits,
        )
        np.testing.assert_allclose(found, moved, rtol=1e-12)


def test_parts_score_by_their_evidence_for_the_best_class():
    given = world()
    away = given.test - given.train.mean(0)
    expected = [max(row @ column for column in given.head.kernel.T) for row in away]
    np.testing.assert_allclose(given.scored(made("parts")), expected, rtol=1e-9)


def test_zeros_and_equal_classes_have_finite_scores():
    given = world()
    blank = given._replace(test=np.zeros((2, 24)))
    for name in ("knn", "scale", "ash", "react", "nnguide", "fdbd"):
        assert np.isfinite(blank.scored(made(name))).all()
    same = scores.Linear(np.ones((24, 4)), np.zeros(4))
    found = given._replace(head=same).scored(scores.fdbd(same))
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: made("msp", temperature=0.0), "`temperature`=0.0; expected a number"),
        (lambda: made("gen", power=1.0), "`power`=1.0"),
        (lambda: made("gen", largest=0), "`largest`=0"),
        (lambda: made("openmax", tail=1), "`tail`=1 and `largest`=3"),
        (lambda: made("openmax", distance="cosin"), "`distance`='cosin' is unknown"),
        (lambda: made("knn", neighbours=0), "`neighbours`=0"),
        (lambda: made("vim", dimensions=-1), "`dimensions`=-1"),
        (lambda: world().scored(made("vim", dimensions=24)), "features span 24"),
        (lambda: made("react", percentile=100.0), "`percentile`=100.0"),
        (lambda: made("ash", variant="x"), "`variant`='x' is unknown"),
        (
            lambda: world()._replace(test=-world().test - 1).scored(made("scale")),
            "expected activations from 0",
        ),
        (
            lambda: world()._replace(train=world().train * np.nan).scored(made("knn")),
            "`features` of 'knn' has 120 rows that are not finite",
        ),
        (
            lambda: world()._replace(labels=world().labels // 2).scored(made("msp")),
            "`labels` of 'msp' holds 0 to 1; expected each of the 4",
        ),
        (
            lambda: world()._replace(test=world().test[:0]).scored(made("msp")),
            "has 0 rows",
        ),
        (
            lambda: world()._replace(train=np.ones((120, 24))).scored(made("openmax")),
            "largest distances of class 0 are equal",
        ),
        (
            lambda: (
                world()._replace(train=np.ones((120, 24))).scored(made("mahalanobis"))
            ),
            "are all equal; expected images",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_score_of_a_classifier_needs_it():
    for name, spec in scores.SPECS.items():
        if spec.head:
            with pytest.raises(TypeError, match="expected the Linear classifier"):
                scores.SCORES[name](None)
        else:
            scores.SCORES[name](None)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_softmax_regression_has_no_slope_where_it_ends(smoothing):
    random = np.random.default_rng(0)
    labels = np.arange(40) % 4
    rows = random.normal(size=(40, 6)) + 2 * np.eye(4, 6)[labels]
    found = softmax_regression.fit(rows, labels, 4, smoothing=smoothing)
    shares = special.softmax(found.logits(rows), axis=1)
    away = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4 - shares
    scale = np.std(rows - rows.mean(0))
    # The slope of the cross-entropy is that of the penalty, 0.01 times the kernel.
    known = (rows - rows.mean(0)) / scale
    expected = 0.01 * found.kernel * scale
    np.testing.assert_allclose(known.T @ away / 40, expected, atol=1e-4)
    np.testing.assert_allclose(away.sum(0), 0, atol=1e-2)
    larger = softmax_regression.fit(7 * rows, labels, 4, smoothing=smoothing)
    same = special.softmax(larger.logits(7 * rows), axis=1)
    np.testing.assert_allclose(same, shares, atol=1e-6)
    with pytest.raises(ValueError, match="40 equal rows"):
        softmax_regression.fit(np.ones((40, 6)), labels, 4)

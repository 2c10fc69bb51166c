"""Scores: what they refuse, and what they say of all classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import score_worlds as world

from unlir_jax import metrics, saliency
from unlir_jax.split import scores

LOGITS = jnp.asarray([[2.0, 1.0, -1.0], [0.0, 3.0, 2.0]])
LABELS = jnp.asarray([0, 2])
DENSE = jnp.asarray([[[[2.0, 1.0], [0.0, 1.0]], [[3.0, -1.0], [5.0, 0.0]]]])


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        ("sofmax", ValueError, "did you mean 'softmax'"),
        ((), ValueError, "one class or more"),
        (1.5, TypeError, "a float; expected a name, a class"),
    ],
)
def test_what_is_no_score_is_refused(unchecked, score, error, message):
    with pytest.raises(error, match=message):
        scores.resolve(score)
    with pytest.raises(error, match=message):
        saliency.opti_cam(world.NETWORKS["two"], score=score)
    with pytest.raises(error, match=message):
        metrics.insertion(world.NETWORKS["two"], score=score)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda logits, labels: logits, r"shape \(2, 3\) for logits \(2, 3\)"),
        (lambda logits, labels: logits.sum(), r"shape \(\)"),
        (lambda logits, labels: labels, "int32; expected floating point"),
        (lambda logits, labels: None, "a NoneType"),
        (lambda logits, labels: (logits[:, 0],), "a tuple"),
        (7, "classes 0 to 2"),
        ("region", "logits of every place"),
        (scores.contrast(others=3), "others`=3 of 3 classes"),
        (scores.similarity(np.ones(4)), "as many dimensions"),
    ],
)
def test_a_score_that_gives_no_number_an_image_is_refused(unchecked, score, message):
    with pytest.raises(ValueError, match=message):
        scores.resolve(score)(LOGITS, LABELS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n, s: saliency.grad_cam(n, score=s), "one number an image"),
        (lambda n, s: saliency.occlusion(n, score=s), "one number an image"),
    ],
)
def test_explainers_refuse_it_before_any_work(unchecked, make, message):
    explain = make(world.NETWORKS["two"], lambda logits, labels: logits)
    with pytest.raises(ValueError, match=message):
        explain({}, world.image(), jnp.asarray([0]))


@pytest.mark.parametrize(
    ("network", "score", "labels", "message"),
    [
        ("dense", "softmax", [0], "expected `score`='region'"),
        ("dense", "logit", [0], "'region_sigmoid' or 'region_logit'"),
        ("two", "region", [0], "for others give 'softmax'"),
        ("dense", "region_sigmoid", [1], "finds its class nowhere"),
        ("dense", "region", [[[0, 2], [0, 0]]], "classes 0 to 1"),
        ("dense", "region", [[[-1, -1], [-1, -1]]], "has no region"),
        ("dense", "region", [[[0, 0]]], "places; the network gives"),
        ("dense", scores.region(np.ones((3, 3))), [0], "`mask` has regions of"),
        ("two", "softmax", [[[0, 0]]], "only scores of a region"),
        ("embedding", scores.similarity(np.ones((5, 2))), [5], "classes 0 to 4"),
        ("two", "sigmoid", [2], "classes 0 to 1"),
    ],
)
def test_what_does_not_fit_the_network_is_one_sentence(
    unchecked, network, score, labels, message
):
    given = ({}, world.image(), jnp.asarray(labels))
    explain = saliency.input_x_gradient(world.NETWORKS[network], score=score)
    metric = metrics.insertion(world.NETWORKS[network], steps=2, score=score)
    with pytest.raises(ValueError, match=message) as told:
        explain(*given)
    assert str(told.value).count(". ") == 0
    with pytest.raises(ValueError, match=message):
        metric(*given, jnp.asarray(world.RELEVANT)[None])


def test_a_region_of_one_output_under_softmax_is_refused(unchecked):
    with pytest.raises(ValueError, match="'region_sigmoid' or 'region_logit'"):
        scores.NAMED["region"](DENSE[..., :1], jnp.asarray([0]))


def test_what_the_network_gives_every_class():
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    for name, logits, expected in (
        ("softmax", LOGITS, softmax),
        ("margin", LOGITS, softmax),
        ("sigmoid", LOGITS, 1 / (1 + np.exp(-LOGITS))),
        ("logit", LOGITS, LOGITS),
        # Class 0 is found in three places of four, by its sigmoid in three as well.
        ("region", DENSE, [[0.75, 0.25]]),
        ("region_sigmoid", DENSE, [[0.75, 0.5]]),
    ):
        found = scores.NAMED[name].each(logits)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "region", "region_sigmoid"])
def test_odds_are_logarithms_of_the_probability_and_of_the_rest(name):
    score, dense = scores.NAMED[name], name.startswith("region")
    logits, labels = (DENSE, jnp.asarray([0])) if dense else (LOGITS, LABELS)
    p = np.asarray(score(logits, labels), np.float64)
    inside, outside = score.log_odds(logits, labels)
    np.testing.assert_allclose(np.exp(inside), p, rtol=1e-5)
    np.testing.assert_allclose(np.exp(outside), 1 - p, rtol=1e-5)
    # Near 1 the rest is known by its logarithm only.
    _, rest = score.log_odds(40 * logits + 40 * dense, labels)
    assert np.isfinite(rest).all()


def test_meaningless_logits_score_nan_and_so_do_their_gradients():
    for logits in (LOGITS.at[0, 1].set(jnp.nan), LOGITS.at[0, 1].set(jnp.inf)):
        for name in ("softmax", "sigmoid", "logit"):
            score = scores.NAMED[name]
            found = np.isnan(score(logits, LABELS))
            assert found.tolist() == [True, False]
            slope = jax.grad(lambda x, s=score: s(x, LABELS).sum())(logits)
            assert np.isnan(slope).any(1).tolist() == [True, False]


def test_a_zero_embedding_is_like_nothing():
    score = scores.similarity(world.REFERENCE)
    zero = jnp.zeros((1, 2))
    assert float(score(zero, jnp.asarray([0]))[0]) == 0
    slope = jax.grad(lambda x: score(x, jnp.asarray([0])).sum())(zero)
    assert np.isfinite(slope).all()
    with pytest.raises(ValueError, match="dimensions"):
        scores.similarity(np.ones((1, 2, 3)))

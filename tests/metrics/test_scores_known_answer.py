"""Every score in every metric of faithfulness: the closed form on a linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import score_worlds as world
import tiers

from unlir_jax import metrics, split
from unlir_jax.metrics import spec
from unlir_jax.split import scores

FAST = {"sigmoid", "regression", "region", "embedding", "function", "bounded_function"}
KEY = jax.random.key(0)
SCORED = [name for name in metrics.FACTORIES if "score" in spec.defaults(name)]
MASKED = ("average_drop", "average_increase", "average_gain")


def evidence(shown):
    return float((world.WEIGHTS * shown).sum())


def shares(values, clean, base, bounded):
    """Bring scores to the scale that metrics take, by hand."""
    values = np.asarray(values)
    return values if bounded else (values - base) / (clean - base)


def slow_curve(known, saliency, inserted):
    """Show one pixel more at each point, the most salient first."""
    order = np.argsort(-saliency.ravel(), kind="stable")
    shown = np.full(world.SIDE**2, 0.0 if inserted else 1.0)
    values = [known.of(evidence(shown.reshape(saliency.shape)))]
    for pixel in order:
        shown[pixel] = 1.0 if inserted else 0.0
        values.append(known.of(evidence(shown.reshape(saliency.shape))))
    clean, base = known.of(evidence(1.0)), known.of(0.0)
    found = shares(values, clean, base, known.bounded)
    return found if known.bounded else np.clip(found, 0, 1)


def inputs(known):
    return {}, world.image(), jnp.asarray([known.label])


def test_the_closed_form_is_that_of_the_issue():
    """By hand: y is 0.8 in the image, 2 where the relevant pixels alone are shown."""
    known = world.KNOWN["regression"]
    assert evidence(1.0) == pytest.approx(world.GAIN - world.LOSS)
    curve = slow_curve(known, world.RELEVANT, True)
    # One relevant pixel gives 1 / 0.8 of the image's share: it is clipped.
    np.testing.assert_allclose(curve, [0] + [1] * 16)
    curve = slow_curve(known, world.RELEVANT, False)
    np.testing.assert_allclose(curve, [1] + [0] * 16, atol=1e-6)


@pytest.mark.parametrize("name", tiers.by_tier(world.KNOWN, FAST))
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], 1))
def test_insertion_and_deletion_of_every_score(name, loop):
    known = world.KNOWN[name]
    metric = metrics.insertion_minus_deletion(
        world.NETWORKS[known.network],
        insertion_baseline="black",
        steps=world.SIDE**2,
        score=known.score,
        loop=loop,
    )
    for saliency in (world.RELEVANT, world.ANOTHER):
        found = metric(*inputs(known), jnp.asarray(saliency)[None])
        areas = {}
        for each in ("insertion", "deletion"):
            curve = slow_curve(known, saliency, each == "insertion")
            areas[each] = (curve[1:] + curve[:-1]).mean() / 2
            np.testing.assert_allclose(found[f"{each}_curve"][0], curve, atol=2e-5)
            np.testing.assert_allclose(found[each], areas[each], atol=2e-5)
        difference = areas["insertion"] - areas["deletion"]
        np.testing.assert_allclose(
            found["insertion_minus_deletion"], difference, atol=2e-5
        )


@pytest.mark.parametrize("name", tiers.by_tier(world.KNOWN, FAST))
def test_drop_increase_and_gain_of_every_score(name):
    known = world.KNOWN[name]
    clean, base = known.of(evidence(1.0)), known.of(0.0)
    metric = metrics.average_scores(world.NETWORKS[known.network], score=known.score)
    for saliency in (world.RELEVANT, world.ANOTHER):
        seen = known.of(evidence(saliency))
        p, o = shares([clean, seen], clean, base, known.bounded)
        found = metric(*inputs(known), jnp.asarray(saliency)[None])
        lacking = 1 - p if known.bounded else 1.0
        for one, expected in (
            ("average_drop", np.clip((p - o) / p, 0, 1)),
            ("average_increase", o > p),
            ("average_gain", np.clip((o - p) / lacking, 0, 1)),
        ):
            np.testing.assert_allclose(found[one][0], expected, atol=2e-5, err_msg=one)


@pytest.mark.parametrize("name", tiers.by_tier(world.KNOWN, {"region", "regression"}))
def test_falls_of_every_score_are_in_its_unit(name):
    known = world.KNOWN[name]
    network = world.NETWORKS[known.network]
    metric = metrics.aopc_morf(network, patch=1, regions=3, score=known.score)
    found = metric(*inputs(known), jnp.asarray(world.RELEVANT)[None])
    left = [1.0, 1.0 - world.RELEVANT * 0, 0, 0]
    shown, curve = np.ones((world.SIDE, world.SIDE)), []
    for pixel in ((1, 1), (1, 2), (0, 0), None):
        curve.append(known.of(evidence(shown)))
        if pixel:
            shown[pixel] = 0
    del left
    curve = np.asarray(curve)
    np.testing.assert_allclose(found["aopc_morf_curve"][0], curve, atol=1e-5)
    np.testing.assert_allclose(
        found["aopc_morf"][0], (curve[0] - curve).mean(), atol=1e-5
    )


def make(name, network, **settings):
    """Make a metric with few passes; the map of one that explains is always alike."""

    def explain(variables, images, labels, *, key=None):
        return jnp.asarray(world.RELEVANT)[None] * images[..., 0]

    known = metrics.SPECS[name]
    quick = dict(known.quick)
    if "patch" in spec.defaults(name):
        quick |= {"patch": 1, "regions": 2}
    arguments = (network, explain) if known.needs == "explainer" else (network,)
    return metrics.FACTORIES[name](*arguments, **quick, **settings)


@pytest.mark.parametrize("name", SCORED)
def test_a_single_output_under_softmax_is_refused(unchecked, name):
    given = ({}, world.image(), jnp.asarray([0]), jnp.asarray(world.RELEVANT)[None])
    with pytest.raises(ValueError, match="'sigmoid'.*or 'logit'"):
        make(name, world.NETWORKS["single"])(*given, key=KEY)
    found = make(name, world.NETWORKS["single"], score="sigmoid")(*given, key=KEY)
    assert np.isfinite(found[name]).all()


def test_every_metric_of_faithfulness_takes_a_score():
    families = {"masking", "removal"}
    assert {n for n, s in metrics.SPECS.items() if s.family in families} < set(SCORED)


@pytest.mark.parametrize("score", ["logit", scores.similarity(world.REFERENCE)])
def test_an_image_that_scores_as_its_baseline_gives_zeros(score):
    """A network that does not look: nothing is lost, and nothing is NaN."""
    blind = split.from_functions(
        lambda v, images: images,
        lambda v, maps: 0 * maps[:, 0, 0] + jnp.asarray([[0.3, 0.7]]),
    )
    given = ({}, world.image(), jnp.asarray([0]), jnp.asarray(world.RELEVANT)[None])
    found = metrics.average_scores(blind, score=score)(*given)
    found |= metrics.insertion_minus_deletion(blind, steps=2, score=score)(*given)
    for name, values in found.items():
        assert (np.asarray(values) == 0).all(), name


def test_below_a_baseline_that_scores_more_the_lower_score_counts():
    """An image that lowers the output: what lowers it most is put in first."""
    network = world.NETWORKS["labels"]
    given = ({}, world.image(), jnp.asarray([0]), jnp.asarray(world.RELEVANT)[None])
    metric = metrics.insertion_minus_deletion(
        network, insertion_baseline="black", steps=16, score="logit"
    )
    mirrored = metric(*given)
    usual = metric({}, world.image(), jnp.asarray([1]), given[3])
    for name in ("insertion", "deletion"):
        np.testing.assert_allclose(mirrored[name], usual[name], atol=1e-6)


def test_nan_stays_nan():
    """A score of a network that gives no number is none, nor is its share."""
    wrong = split.from_functions(
        lambda v, images: images, lambda v, maps: jnp.nan * maps[:, 0, 0]
    )
    given = ({}, world.image(), jnp.asarray([0]), jnp.asarray(world.RELEVANT)[None])
    found = metrics.average_scores(wrong, score="logit")(*given)
    found |= metrics.insertion(wrong, steps=2, score="logit")(*given)
    assert all(np.isnan(values).all() for values in found.values())


def test_an_impossible_class_loses_nothing():
    """Of a probability of 0 nothing can be lost: 0, and not NaN."""
    never = split.from_functions(
        lambda v, images: images,
        lambda v, maps: jnp.concatenate(
            [maps[:, 0, 0], 0 * maps[:, 0, 0] - jnp.inf], axis=1
        ),
    )
    given = ({}, world.image(), jnp.asarray([1]), jnp.asarray(world.RELEVANT)[None])
    found = metrics.average_scores(never)(*given)
    assert {name: float(v[0]) for name, v in found.items()} == dict.fromkeys(MASKED, 0)


def test_contracts_say_what_is_measured_and_what_becomes_of_other_scores():
    for name in SCORED:
        found = metrics.contract(name)
        assert found["settings"]["score"] == "softmax"
        assert "softmax probability of the label" in found["score"]
        assert found["unbounded"] != "none"
        assert "sigmoid" in metrics.contract(name, {"score": "sigmoid"})["score"]
    for score, recorded in (
        ("probability", "softmax"),
        ((1, 2), [1, 2]),
        (3, 3),
        (world.doubled, "doubled"),
        (scores.region(of="logit"), "region_logit"),
    ):
        found = metrics.contract("insertion", {"score": score})
        assert found["settings"]["score"] == recorded
    assert (
        "doubled of the logits"
        in metrics.contract("average_gain", {"score": world.doubled})["score"]
    )

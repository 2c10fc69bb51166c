"""Certificates of randomised smoothing, on classifiers whose radius is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from unlir_jax import split
from unlir_jax.attacks import randomised_smoothing
from unlir_jax.statistics import proportions

KEY = jax.random.key(2)
SIGMA, ALPHA = 0.5, 0.01
RANDOM = np.random.default_rng(4)
DIRECTION = RANDOM.normal(size=(4, 4, 3)).astype("f")
DIRECTION /= np.linalg.norm(DIRECTION)


def linear(variables, images):
    """Give two logits; their difference is the distance to the boundary."""
    side = jnp.einsum("bijc,ijc->b", images - 0.5, variables["direction"])
    return jnp.stack([side, jnp.zeros_like(side)], axis=1)


MODEL = split.from_functions(lambda variables, images: images, linear)
VARIABLES = {"direction": jnp.asarray(DIRECTION)}


@functools.cache
def images():
    """Put images at known distances from the boundary, on both sides."""
    distances = np.linspace(-0.6, 0.6, 16)
    return (0.5 + distances[:, None, None, None] * DIRECTION).astype("f"), distances


@functools.cache
def certified(**settings):
    given = {"sigma": SIGMA, "samples": 2000, "selection": 50, "alpha": ALPHA}
    run = randomised_smoothing.certify(MODEL, **given | settings)
    return run(VARIABLES, images()[0], key=KEY)


def test_a_radius_is_at_most_the_distance_to_the_boundary():
    """With fewer draws by more, as the bound's own quantile says."""
    found, (_, distances) = certified(), images()
    true = np.abs(distances)
    sure = ~found.abstained
    assert (found.radius <= true).all() and sure.sum() >= 12
    np.testing.assert_array_equal(found.label[sure], (distances < 0)[sure])
    assert (found.label[~sure] == -1).all() and (found.radius[~sure] == 0).all()
    # Three standard errors below the bound's expectation.
    share = scipy.stats.norm.cdf(true / SIGMA)
    error = np.sqrt(share * (1 - share) / 2000)
    low = scipy.stats.norm.ppf(share - 6 * error) * SIGMA
    assert (found.radius >= low)[sure].all()


def test_counts_are_those_of_a_binomial():
    found, (_, distances) = certified(), images()
    assert (found.counts.sum(axis=1) == 2000).all()
    share = scipy.stats.norm.cdf(distances / SIGMA)
    tails = scipy.stats.binom.cdf(found.counts[:, 0], 2000, share)
    assert (tails > 1e-4).all() and (tails < 1 - 1e-4).all()
    assert tails.std() > 0.1


def test_counts_are_those_of_a_slow_loop():
    picture = images()[0][5]
    own = randomised_smoothing.random_keys.per_image(KEY, picture[None])[0]
    classes = []
    for number in range(50, 90):
        noise = jax.random.normal(jax.random.fold_in(own, number), picture.shape)
        shown = picture + SIGMA * np.asarray(noise)
        classes.append(int(((shown - 0.5) * DIRECTION).sum() < 0))
    run = randomised_smoothing.certify(
        MODEL, sigma=SIGMA, samples=40, selection=50, alpha=0.2, batch_size=7
    )
    found = run(VARIABLES, picture[None], key=KEY)
    np.testing.assert_array_equal(found.counts[0], np.bincount(classes, minlength=2))


@pytest.mark.parametrize("loop", ["host", "device"])
def test_a_certificate_does_not_depend_on_the_batch(loop):
    given = {"sigma": SIGMA, "samples": 2000, "selection": 50, "alpha": ALPHA}
    whole = certified()
    few = randomised_smoothing.certify(MODEL, **given, batch_size=777, loop=loop)
    order = np.asarray([9, 2])
    found = few(VARIABLES, images()[0][order], key=KEY)
    for part, known in zip(found, whole, strict=True):
        np.testing.assert_array_equal(part, known[order])


def test_no_more_images_than_asked_for_go_through_at_once():
    sizes = []

    def watched(variables, shown):
        sizes.append(len(shown))
        return linear(variables, shown)

    model = split.from_functions(lambda variables, images: images, watched)
    run = randomised_smoothing.certify(model, samples=90, selection=10, batch_size=16)
    run(VARIABLES, images()[0], key=KEY)
    assert max(sizes) <= 16


def test_draws_that_choose_the_class_are_not_counted_again():
    """Else a fair coin would be certified more often than `alpha` allows."""
    flat = np.full((400, 4, 4, 3), 0.5, "f")
    flat += RANDOM.uniform(-1e-6, 1e-6, flat.shape).astype("f")
    flat -= (((flat - 0.5) * DIRECTION).sum((1, 2, 3))[:, None, None, None]) * DIRECTION
    run = randomised_smoothing.certify(
        MODEL, sigma=1.0, samples=15, selection=15, alpha=0.25
    )
    found = run(VARIABLES, flat, key=KEY)
    wrong = scipy.stats.beta.ppf(0.25, np.arange(1, 16), 15 - np.arange(1, 16) + 1)
    least = 1 + int(np.argmax(wrong > 0.5))
    share = scipy.stats.binom.sf(least - 1, 15, 0.5)
    count = int((~found.abstained).sum())
    assert scipy.stats.binom.cdf(count, 400, share) < 0.999
    assert scipy.stats.binom.sf(count - 1, 400, share) < 0.999


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_the_bound_is_that_of_scipy(alpha):
    counts = np.asarray([0, 1, 7, 63, 99, 100])
    found = proportions.clopper_pearson_lower(counts, 100, alpha=alpha)
    expected = [
        scipy.stats.binomtest(int(k), 100, alternative="greater")
        .proportion_ci(1 - alpha, method="exact")
        .low
        for k in counts
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found[-1], alpha ** (1 / 100), rtol=1e-12)


def test_the_bound_fails_as_seldom_as_it_says():
    """The sum of the probabilities of all counts whose bound is too high."""
    counts = np.arange(51)
    bounds = proportions.clopper_pearson_lower(counts, 50, alpha=0.05)
    for true in (0.1, 0.5, 0.9):
        missed = scipy.stats.binom.pmf(counts, 50, true)[bounds > true].sum()
        assert 0 < missed <= 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "`sigma`=0.0; expected a positive number"),
        ({"alpha": 1.0}, "`alpha`=1.0; expected a probability"),
        ({"samples": 0}, "`samples`=0; expected at least 1"),
        ({"batch_size": 0}, "`batch_size`=0"),
    ],
)
def test_wrong_settings_of_a_certificate_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        randomised_smoothing.certify(MODEL, **settings)


def test_what_cannot_be_certified_is_refused():
    run = randomised_smoothing.certify(MODEL, samples=4, selection=2)
    with pytest.raises(ValueError, match="`key`=None"):
        run(VARIABLES, images()[0], key=None)
    with pytest.raises(ValueError, match="under a transformation"):
        jax.jit(run)(VARIABLES, images()[0], key=KEY)
    with pytest.raises(ValueError, match=r"`images`\[0\] no numbers"):
        run({"direction": jnp.full((4, 4, 3), jnp.nan)}, images()[0], key=KEY)
    with pytest.raises(ValueError, match="outside|expected values in"):
        run(VARIABLES, images()[0] + 3, key=KEY)
    with pytest.raises(ValueError, match="`successes` holds 5; expected 0 to 4"):
        proportions.clopper_pearson_lower(5, 4)
    with pytest.raises(ValueError, match="`trials`=0"):
        proportions.clopper_pearson_lower(0, 0)

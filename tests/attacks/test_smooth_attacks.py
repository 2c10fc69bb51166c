"""Smooth attacks: the smoothing against dense algebra, and changes that hide better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_worlds import SMALL, small

from unlir_jax import attacks, split
from unlir_jax.attacks import norms, smoothing
from unlir_jax.attacks.smoothing import Smoothing

WAY = Smoothing()


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def dense(image, edges, strength):
    """Invert the matrix of one channel, `[rows, columns]`, entry by entry."""
    rows, columns = image.shape
    count = rows * columns
    weights = np.zeros((count, count))
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0)):
                r, c = row + down, column + right
                if r < rows and c < columns:
                    one, other = row * columns + column, r * columns + c
                    step = image[row, column] - image[r, c]
                    weights[one, other] = weights[other, one] = np.exp(-edges * step**2)
    scale = np.sqrt(weights.sum(1))
    links = weights / scale[:, None] / scale[None]
    return (1 - strength) * np.linalg.inv(np.eye(count) - strength * links)


@pytest.mark.parametrize("way", [WAY, Smoothing(50.0, 0.8)])
def test_smoothing_is_that_of_the_dense_inverse(double, way):
    random = np.random.default_rng(0)
    # Half of it is flat, and the border between both is sharp.
    image = random.random((28, 28)) * (np.arange(28) < 14)
    change = random.normal(size=(1, 28, 28, 1))
    images = jnp.asarray(image[None, :, :, None])
    graph = smoothing.graph(images, way)
    matrix = dense(image, *way)
    ones = matrix @ np.ones(28 * 28)
    expected = (matrix @ change.ravel()) / ones
    found = smoothing.smooth(jnp.asarray(change), graph, way)
    np.testing.assert_allclose(np.ravel(found), expected, atol=1e-5)
    pulled = smoothing.spread(jnp.asarray(change), graph, way)
    expected = matrix.T @ (change.ravel() / ones)
    np.testing.assert_allclose(np.ravel(pulled), expected, atol=1e-5)


def test_a_constant_is_smooth_already():
    images = small()[1][:2]
    graph = smoothing.graph(images, WAY)
    for value in (1.0, -1e-15):
        found = smoothing.smooth(jnp.full_like(images, value), graph, WAY)
        np.testing.assert_allclose(found / value, 1, atol=1e-4)
    zeros = smoothing.smooth(jnp.zeros_like(images), graph, WAY)
    np.testing.assert_array_equal(zeros, 0)


@pytest.mark.exhaustive
def test_smoothing_is_one_of_each_image():
    images = small()[1][:3]
    change = jnp.asarray(np.random.default_rng(0).normal(size=images.shape), "float32")
    graph = smoothing.graph(images, WAY)
    found = smoothing.smooth(change, graph, WAY)
    alone = smoothing.smooth(change[2:], smoothing.graph(images[2:], WAY), WAY)
    np.testing.assert_allclose(alone[0], found[2], atol=1e-6)


def test_spread_is_the_derivative_of_smooth(double):
    random = np.random.default_rng(1)
    images, change, slope = (jnp.asarray(random.random((1, 6, 5, 3))) for _ in range(3))
    graph = smoothing.graph(images, WAY)
    one = jnp.vdot(smoothing.smooth(change, graph, WAY), slope)
    other = jnp.vdot(change, smoothing.spread(slope, graph, WAY))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_edge_stops_the_smoothing():
    # Left black, right white: what is done left stays left where edges count.
    image = jnp.zeros((1, 6, 6, 1)).at[:, :, 3:].set(1)
    change = jnp.zeros((1, 6, 6, 1)).at[0, 3, 2].set(1)
    shares = []
    for edges in (0.0, 50.0):
        way = Smoothing(edges, 0.95)
        found = smoothing.smooth(change, smoothing.graph(image, way), way)
        shares.append(float(found[:, :, 3:].sum() / found.sum()))
    assert shares[0] > 0.2 and shares[1] < 1e-6


def variation(changes):
    """Sum differences of neighbours, over the norm."""
    total = sum(np.abs(np.diff(changes, axis=axis)).sum((1, 2, 3)) for axis in (1, 2))
    return total / np.sqrt((changes**2).sum((1, 2, 3)))


@pytest.mark.exhaustive
def test_the_steps_and_the_start_are_smooth_and_in_the_ball():
    weights, images, labels, _ = small()
    given = weights, images[:4], labels[:4]
    changes = {}
    for name in ("pgd", "smooth_pgd", "bim", "smooth_bim"):
        settings = {"norm": "l2"} if name in ("pgd", "bim") else {}
        attack = attacks.ATTACKS[name](SMALL, epsilon=0.5, steps=5, **settings)
        found = attack(*given, key=jax.random.key(0))
        change = np.asarray(found - images[:4])
        assert (np.asarray(norms.length(change, "l2")) <= 0.5 * (1 + 1e-5)).all()
        changes[name] = change
    for name in ("pgd", "bim"):
        smooth = variation(changes[f"smooth_{name}"])
        assert (smooth < 0.7 * variation(changes[name])).all()


@pytest.mark.exhaustive
def test_smooth_changes_succeed_as_often_and_vary_less():
    weights, images, labels, _ = small()
    given = weights, images[:8], labels[:8]
    found = {}
    for factory in (attacks.carlini_wagner, attacks.smooth_carlini_wagner):
        attack = factory(SMALL, steps=60, searches=4, constant=1.0)
        changed = attack(*given)
        told = attacks.outcome(SMALL)(weights, images[:8], changed, labels[:8])
        assert np.all(told["success"])
        found[factory.__name__] = variation(np.asarray(changed - images[:8])).mean()
    assert found["smooth_carlini_wagner"] < 0.85 * found["carlini_wagner"]


@pytest.mark.exhaustive
def test_the_nearest_smooth_change_of_a_plane_is_known(double):
    random = np.random.default_rng(2)
    image = 0.4 + 0.2 * random.random((1, 6, 6, 1))
    slope = random.normal(size=(6, 6))
    model = split.from_functions(
        lambda _, images: images - jnp.asarray(image),
        lambda _, maps: jnp.stack(
            [jnp.full(len(maps), 0.05), (maps[..., 0] * slope[None]).sum((1, 2))], 1
        ),
    )
    attack = attacks.smooth_carlini_wagner(model, steps=300, searches=7, constant=1.0)
    found = np.asarray(attack({}, jnp.asarray(image), jnp.asarray([0]))) - image
    # All changes are smooth that an offset gives, and every change has an offset: the
    # least of all is along `w`, with the length that reaches the plane.
    least = 0.05 / np.linalg.norm(slope)
    assert least <= np.linalg.norm(found) < 1.05 * least


@pytest.mark.parametrize(
    "settings", [{"edges": -1.0}, {"strength": 1.0}, {"strength": 0.0}]
)
@pytest.mark.parametrize("name", ["smooth_bim", "smooth_pgd", "smooth_carlini_wagner"])
def test_smoothing_without_sense_is_refused(name, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        attacks.ATTACKS[name](SMALL, **settings)

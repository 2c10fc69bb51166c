"""What metrics have in common is computed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, split
from unlir_jax.evaluation import scorers

LABELS = jnp.asarray([0, 2])


@pytest.fixture
def watched():
    """Count the pictures that a network of mean colours is shown."""
    seen = []

    def features(variables, images):
        jax.debug.callback(lambda shown: seen.append(len(shown)), images)
        return images

    return split.from_functions(features, lambda v, maps: 5 * maps.mean((1, 2))), seen


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    images = random.random((2, 8, 8, 3)).astype(np.float32)
    return {}, images, LABELS, random.random((2, 8, 8)).astype(np.float32)


def made(model, names, options=None):
    found, _ = scorers.make(model, scorers.check(names), options or {})
    return found


@pytest.mark.exhaustive
def test_a_difference_gives_its_curves(watched, inputs):
    model, seen = watched
    names = ("insertion", "deletion", "insertion_minus_deletion", "deletion@mean")
    options = {name: {"steps": 3} for name in names[:3]}
    own, both = made(model, names, options)[::-1]
    assert list(both.columns) == ["insertion_minus_deletion", "insertion", "deletion"]
    assert list(both.curves) == ["insertion_curve", "deletion_curve"]
    assert list(own.columns) == ["deletion@mean"]
    found = both.score(*inputs)
    jax.effects_barrier()
    assert sum(seen) == 2 * 7  # The image is shared.
    for name in ("insertion", "deletion"):
        alone = metrics.METRICS[name](model, steps=3)(*inputs)
        np.testing.assert_allclose(found[name], alone[name], atol=1e-6)
    # Not where they differ.
    options["insertion"] = {"steps": 4}
    apart = made(model, names[:3], options)
    assert [len(each.columns) for each in apart] == [1, 2]


def test_adcc_gives_its_coherency(watched):
    (one,) = made(watched[0], ("coherency", "adcc"))
    assert one.columns == {"adcc": "adcc", "coherency": "coherency"}
    assert [len(each.columns) for each in made(watched[0], ("coherency",))] == [1]


def test_averages_share_the_masked_pass_and_take_the_clean_one(watched, inputs):
    model, seen = watched
    names = ("average_drop", "average_increase", "average_gain")
    (one,) = made(model, names)
    assert one.needs == "logits" and tuple(one.columns) == names
    expected = one.score(*inputs)
    clean = split.whole(model)({}, jnp.asarray(inputs[1]))
    jax.effects_barrier()
    seen.clear()
    found = one.score(*inputs, clean=clean)
    jax.effects_barrier()
    assert sum(seen) == 2
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])

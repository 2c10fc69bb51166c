"""Networks whose logits are divided by a temperature."""

import jax
import numpy as np
import pytest
import small_network

from unlir_jax import tree
from unlir_jax.metrics.sanity.redrawn import redraw
from unlir_jax.models import pretrained, temperature


@pytest.fixture(scope="module")
def network():
    plain = pretrained.load(small_network.NAME, "random")
    return plain._replace(variables=tree.unflatten(small_network.draw()))


def logits(network, images):
    found = network.model.features(network.variables, images)
    return np.asarray(network.model.head(network.variables, found))


def test_logits_are_divided_and_nothing_else(network):
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    plain, hot = logits(network, images), temperature.divided(network, 2.5)
    np.testing.assert_allclose(logits(hot, images), plain / 2.5, rtol=1e-6)
    assert temperature.divided(network, 1.0) is network
    # One program serves all temperatures.
    assert temperature.divided(network, 4.0).model is hot.model


def test_a_redrawn_network_keeps_the_temperature(network):
    hot = temperature.divided(network, 2.5)
    drawn = redraw(hot.variables, jax.random.key(0))
    assert drawn[temperature.NAME]["logits"] == 0
    kept = temperature.restored(drawn, hot.variables)
    assert kept[temperature.NAME]["logits"] == 2.5
    assert temperature.restored(drawn, network.variables) is drawn


@pytest.mark.parametrize("degree", [0.0, -1.0, float("inf"), float("nan")])
def test_no_temperature(network, degree):
    with pytest.raises(ValueError, match="`temperature`=.*above 0"):
        temperature.divided(network, degree)


def test_variables_of_another_kind(network):
    with pytest.raises(ValueError, match="are a dictionary"):
        temperature.divided(network._replace(variables=[1]), 2.0)

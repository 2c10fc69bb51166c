"""Efficient Probing in closed form, against ridge regressions of what it pools."""

import jax
import numpy as np
import pytest

from unlir_jax.models.attention_pooling.efficient_probing import EfficientProbing
from unlir_jax.parts import queries, ridge

CHANNELS, CLASSES, COUNT = 24, 3, 4
RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % CLASSES


def draw(size):
    """Draw maps with two kinds of locations, one of which differs between classes."""
    maps = RANDOM.normal(size=(size, 3, 4, CHANNELS)).astype(np.float32)
    maps[:, 0, 0, 0] += 6
    maps[np.arange(size), 0, 0, 1 + np.arange(size) % CLASSES] += 3
    return maps


MAPS, OTHERS = draw(len(LABELS)), draw(9)
KEY = jax.random.key(0)


def logits(found, maps, count=COUNT):
    module = EfficientProbing(channels=(CHANNELS,), queries=count)
    variables = {"params": {"query": found.query, "values": found.values}}
    return np.asarray(module.apply(variables, maps)) @ found.kernel + found.bias


def attended(query, maps):
    """Pool all channels by each query, in float64."""
    scores = np.einsum("bijc,qc->bijq", maps.astype(float), query)
    powers = np.exp(scores / np.sqrt(CHANNELS))
    weights = powers / powers.sum((1, 2), keepdims=True)
    return np.einsum("bijc,bijq->bqc", maps, weights).reshape(len(maps), -1)


def test_uniform_attention_is_a_ridge_regression_on_averages():
    found = queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY, sharpness=(0.0,))
    kernel, bias = ridge.classifier(MAPS.mean((1, 2)), LABELS, CLASSES)
    expected = OTHERS.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(logits(found, OTHERS), expected, rtol=1e-3, atol=1e-3)
    assert not found.query.any()


def test_queries_classify_as_a_ridge_regression_on_all_that_they_pool():
    found = queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY, sharpness=(0.3,))
    kernel, bias = ridge.classifier(attended(found.query, MAPS), LABELS, CLASSES)
    expected = attended(found.query, OTHERS) @ kernel + bias
    np.testing.assert_allclose(logits(found, OTHERS), expected, rtol=1e-3, atol=1e-3)


def test_fewer_channels_than_classes_keep_most_of_the_logits():
    """One channel a query cannot hold two directions, and keeps the larger one."""
    found = queries.fit(MAPS, LABELS, CLASSES, CHANNELS, key=KEY, sharpness=(0.3,))
    kernel, bias = ridge.classifier(attended(found.query, MAPS), LABELS, CLASSES)
    expected = attended(found.query, MAPS) @ kernel + bias
    given = logits(found, MAPS, CHANNELS)
    lost = np.square(given - expected).sum() / np.square(expected - bias).sum()
    assert 1e-6 < lost < 0.5


def test_the_sharpness_is_the_best_on_images_left_out():
    found = queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY)
    scores = [
        queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY, sharpness=(each,)).notes
        for each in queries.SHARPNESS
    ]
    accuracies = [each["start/left_out_accuracy"] for each in scores]
    best = queries.SHARPNESS[int(np.argmax(accuracies))]
    assert found.notes["start/sharpness"] == best


def test_it_refuses_nothing_to_choose_from_and_too_many_images(monkeypatch):
    with pytest.raises(ValueError, match=r"`sharpness`=\(\) is empty"):
        queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY, sharpness=())
    monkeypatch.setattr(queries, "MOST_PICTURES", 50)
    with pytest.raises(ValueError, match="compares all pairs of 60 images"):
        queries.fit(MAPS, LABELS, CLASSES, COUNT, key=KEY)

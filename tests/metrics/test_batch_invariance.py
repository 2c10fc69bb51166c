"""Every metric: an image's value does not depend on its neighbours; how many passes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, split
from unlir_jax.metrics.spec import EXPLAINING
from unlir_jax.runtime import mesh

KEY = jax.random.key(0)
SIZE = (24, 20)
COUNT = 7
VARIABLES, OTHER = ({"bias": jnp.asarray(value)} for value in (0.0, 0.5))
SETTINGS = {
    "insertion": {"baseline": "noise"},
    "insertion_minus_deletion": {"deletion_baseline": "mean"},
    "aopc_morf": {"baseline": "noise"},
}


@pytest.fixture(scope="module")
def network():
    """Give a small convolutional network, cut at its only layer."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 3, 6)).astype(np.float32)
    dense = random.normal(size=(6, 4)).astype(np.float32)

    def features(variables, images):
        images = images + variables["bias"]
        convolved = jax.lax.conv_general_dilated(
            images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(convolved)

    return split.from_functions(features, lambda v, m: m.mean((1, 2)) @ dense)


@pytest.fixture(scope="module")
def inputs(network):
    random = np.random.default_rng(1)
    images = random.uniform(size=(COUNT, *SIZE, 3)).astype(np.float32)
    labels = random.integers(0, 4, size=COUNT)
    saliency = random.normal(size=(COUNT, 6, 5)).astype(np.float32)
    saliency[2] = 1  # A flat map is among them.
    regions = random.uniform(size=(COUNT, *SIZE)) < 0.3
    low = random.integers(0, 10, size=(COUNT, 2, 2))
    boxes = np.concatenate([low, low + random.integers(2, 10, (COUNT, 2, 2))], axis=2)
    regions[3], boxes[3] = False, (0, 0, -1, -1)  # And one without an object.
    return images, labels, saliency, regions, boxes


def explainer(network):
    """Explain by the sum of the features, without a gradient."""

    def explain(variables, images, labels, *, key=None):
        return network.features(variables, images).maps.sum(-1)

    return explain


def make(name, network, **settings):
    known = metrics.SPECS[name]
    settings = {**known.quick, **SETTINGS.get(name, {}), **settings}
    explaining = [explainer(network)] if known.needs in EXPLAINING else []
    return metrics.FACTORIES[name](network, *explaining, **settings)


def call(name, metric, inputs, rows):
    images, labels, saliency, regions, boxes = (array[rows] for array in inputs)
    given = {"masks": regions, "boxes": boxes, "redrawn": OTHER, "random_labels": OTHER}
    needs = metrics.SPECS[name].needs
    further = [given[needs]] if needs in given else []
    return metric(VARIABLES, images, labels, saliency, *further, key=KEY)


# Of the representatives ROAD takes longest, and its own tests are in the fast tier.
@pytest.mark.parametrize(
    "name", tiers.by_tier(metrics.FACTORIES, tiers.REPRESENTATIVE - {"road"})
)
def test_a_value_depends_on_its_image_only(network, inputs, name):
    metric = make(name, network)
    together = call(name, metric, inputs, np.arange(COUNT))
    order = np.random.default_rng(2).permutation(COUNT)
    moved = call(name, metric, inputs, order)
    for key, values in together.items():
        assert len(values) == COUNT
        np.testing.assert_allclose(moved[key], values[order], atol=1e-5, err_msg=key)
    for row in (0, 2, 3):
        alone = call(name, metric, inputs, np.asarray([row]))
        for key, values in alone.items():
            np.testing.assert_allclose(values[0], together[key][row], atol=1e-5)
    known = metrics.SPECS[name]
    objects = known.needs in ("masks", "boxes")
    # A picture's curve is its own; all pictures choose the threshold.
    main = np.asarray(together[f"{name}_curve" if known.at_threshold else name])
    missing = np.isnan(main.reshape(COUNT, -1)).any(1)
    assert missing.tolist() == [objects and row == 3 for row in range(COUNT)]


# One of each way to loop over images and steps.
SPREAD = ("average_drop", "insertion", "road", "infidelity", "max_sensitivity", "iou")


@pytest.mark.parametrize("name", tiers.by_tier(SPREAD, {"average_drop"}))
def test_a_value_does_not_depend_on_devices(network, inputs, name):
    metric = make(name, network)
    together = call(name, metric, inputs, np.arange(COUNT))
    laid = mesh.layout()
    assert laid.mesh.size == 4
    eight = np.arange(8) % COUNT
    dealt = mesh.put_batch(laid, {str(i): a[eight] for i, a in enumerate(inputs)})
    spread = call(name, metric, tuple(dealt.values()), slice(None))
    for key, values in spread.items():
        expected = np.asarray(together[key])[eight]
        np.testing.assert_allclose(values, expected, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    tiers.by_tier(
        [
            ("insertion", {"steps": 10}, 11),
            ("deletion", {"steps": 10}, 11),
            ("insertion_minus_deletion", {"steps": 10}, 21),
            ("road", {"percentiles": (20, 50, 80)}, 6),
            ("aopc_morf", {"regions": 9}, 10),
            ("aopc_lerf", {"regions": 9}, 10),
            ("symmetric_relevance_gain", {"regions": 8}, 17),
            ("saco", {"regions": 9}, 10),
            ("infidelity", {"samples": 9}, 10),
            ("max_sensitivity", {"samples": 5}, 5),
            ("average_drop", {}, 2),
            ("saliency_metric", {}, 1),
            ("official_metric", {}, 1),
            ("localization_error", {}, 0),
            ("complexity", {}, 0),
        ],
        {"insertion", "max_sensitivity", "average_drop"},
    ),
)
def test_no_more_passes_than_there_must_be(network, inputs, name, settings, least):
    """At most 1.2 times the least, each with no more images than the batch."""
    seen = []

    def count(images):
        seen.append(len(images))

    def features(variables, images):
        jax.debug.callback(count, images)
        return network.features(variables, images)

    counted = network._replace(features=features)
    call(name, make(name, counted, **settings), inputs, np.arange(COUNT))
    jax.effects_barrier()
    assert len(seen) <= math.ceil(1.2 * least) and sum(seen) <= 1.2 * least * COUNT
    assert len(seen) >= least and max(seen, default=0) <= COUNT


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name",
    ["insertion_minus_deletion", "adcc"],
)
def test_runs_inside_jit(network, inputs, name):
    metric = make(name, network)
    inside = jax.jit(functools.partial(call, name, metric, rows=slice(3)))
    images = tuple(jnp.asarray(array) for array in inputs)
    outside = call(name, metric, inputs, slice(3))
    for key, values in inside(images).items():
        np.testing.assert_allclose(values, outside[key], atol=1e-5, err_msg=key)

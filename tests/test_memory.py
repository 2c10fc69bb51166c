"""Memory grows with the batch, not with filters, masks, samples or steps."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from flax import linen as nn

from unlir_jax import metrics, saliency, split

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
LABELS = jnp.asarray([0, 2])


class Wide(nn.Module):
    """A network of as many filters as one likes."""

    filters: int = 4

    @nn.compact
    def __call__(self, images):
        found = nn.relu(nn.Conv(self.filters, (3, 3), (4, 4), name="conv")(images))
        return nn.Dense(4)(jnp.mean(found, (1, 2)))


def network(filters=4):
    module = Wide(filters)
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGES)
    return split.from_linen(module, "conv"), variables


def temporary(function, variables):
    """Give the bytes that a compiled program needs beside what goes in and out."""

    def run(variables, images):
        return function(variables, images, LABELS, key=jax.random.key(0))

    program = jax.jit(run).lower(variables, IMAGES).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("name", "settings", "most"),
    # Ablation-CAM's head sees eight pairs at once, which are the maps of four batches;
    # maps that are compiled apart from what reads them are there once or twice more.
    tiers.by_tier(
        [("score_cam", {}, 5), ("is_cam", {"steps": 2}, 5), ("ablation_cam", {}, 7)],
        {"score_cam"},
    ),
)
def test_of_filters_there_are_the_maps_and_no_masked_pictures(name, settings, most):
    """A mask for each of 152 filters more would take 9 times the allowance of 5."""
    sizes = []
    for filters in (8, 160):
        cut, variables = network(filters)
        explain = saliency.METHODS[name](cut, batch_size=8, **settings)
        sizes.append(temporary(explain, variables))
    maps = 152 * len(IMAGES) * 8 * 8 * 4
    assert sizes[1] - sizes[0] < most * maps


EXPLAINERS = {
    "is_cam": "steps",
    "opti_cam": "steps",
    "integrated_gradients": "steps",
    "smooth_grad": "samples",
    "rise": "masks",
    "lime": "samples",
    "meaningful_perturbation": "steps",
}
METRICS = {
    "insertion": "steps",
    "road": "percentiles",
    "aopc_morf": "regions",
    "infidelity": "samples",
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier([*EXPLAINERS, *METRICS], {"rise"}))
def test_steps_and_samples_take_turns(name):
    """Thirty-six more of them take less than one picture more."""
    cut, variables = network()
    sizes = []
    for count in (4, 40):
        setting = (EXPLAINERS | METRICS)[name]
        settings = {setting: count}
        if setting == "percentiles":
            settings = {setting: tuple(np.linspace(10, 90, count).tolist())}
        if setting == "regions":
            settings["patch"] = 4
        if name in METRICS:
            score = metrics.METRICS[name](cut, **settings)

            def function(variables, images, labels, *, key, score=score):
                return score(variables, images, labels, images.mean(-1), key=key)

        else:
            small = {"cells": 4} if name in ("rise", "meaningful_perturbation") else {}
            small |= {"batch_size": 4} if name in ("rise", "lime") else {}
            function = saliency.METHODS[name](cut, **settings, **small)
        sizes.append(temporary(function, variables))
    assert sizes[1] < sizes[0] + IMAGES[0].nbytes


@pytest.mark.exhaustive
def test_calls_with_changing_batches_keep_nothing():
    """After 300 calls as many arrays and programs are there as after 30."""
    module = Wide()
    cut, variables = (
        split.from_linen(module, "conv"),
        module.init(jax.random.key(0), IMAGES),
    )
    explain = saliency.opti_cam(cut, steps=2)
    score = metrics.insertion_minus_deletion(cut, steps=2)
    kept = []
    for call in range(301):
        images, labels = IMAGES[: 1 + call % 2], LABELS[: 1 + call % 2]
        found = explain(variables, images, labels)
        score(variables, images, labels, found)
        if call in (30, 300):
            del found
            gc.collect()
            arrays = sum(each.nbytes for each in jax.live_arrays())
            kept.append((arrays, len(jax.devices()[0].client.live_executables())))
    assert kept[0] == kept[1]

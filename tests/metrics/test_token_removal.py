"""Tokens that are removed: the curve is that of passes on the tokens that remain."""

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
import small_transformer
import tiers
from helpers import refused

from unlir_jax import metrics, split
from unlir_jax.metrics.faithfulness import token_removal

SIDE, GRID = 16, (4, 4)
LABELS = jnp.asarray([1, 3])


def world(**attributes):
    module, model = small_transformer.network(**attributes)
    images = np.random.default_rng(0).uniform(size=(2, SIDE, SIDE, 3))
    return module, model, small_transformer.variables(module), images.astype("float32")


def remaining(module, variables, image, kept):
    """Compute logits of an image's kept cells alone, at their own positions."""

    def run(network, images):
        tokens, _ = network._begin(images)
        lead = network.leading
        tokens = jnp.concatenate([tokens[:, :lead], tokens[:, lead:][:, kept]], axis=1)
        for block in network.blocks:
            tokens = block(tokens)
        return network._classify(network.norm(tokens))

    return module.apply(variables, image[None], method=run)[0]


@pytest.mark.parametrize(
    ("name", "attributes"),
    tiers.by_tier(
        [
            ("registers", {"registers": 2}),
            ("class token", {}),
            ("query norm", {"normalized": True, "gated": True, "scale": 1.0}),
        ],
        1,
    ),
)
def test_removal_equals_a_pass_on_the_tokens_that_remain(name, attributes):
    module, model, variables, images = world(**attributes)
    cells = np.random.default_rng(1).uniform(size=(2, *GRID)) < 0.4
    network = token_removal.network(model)
    found = network(variables, token_removal.Kept(jnp.asarray(images), cells))
    for image, each, logits in zip(images, cells, found, strict=True):
        kept = np.flatnonzero(each.ravel())
        expected = remaining(module, variables, image, kept)
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    everything = token_removal.Kept(jnp.asarray(images), np.ones((2, *GRID), bool))
    whole = split.whole(model)(variables, images)
    np.testing.assert_allclose(
        network(variables, everything), whole, atol=1e-4 * np.abs(whole).max()
    )


@pytest.mark.exhaustive
def test_attention_of_nnx_sees_no_removed_token():
    network = own_networks.nnx_vit()
    side = own_networks.SIZE
    cells = np.random.default_rng(4).uniform(size=(2, side // 4, side // 4)) < 0.5
    images = np.random.default_rng(5).uniform(size=(2, side, side, 3))
    shown = np.repeat(np.repeat(cells, 4, axis=1), 4, axis=2)[..., None]
    run = token_removal.network(network.model)
    pair = images, np.where(shown, images, 1 - images)
    kept = [token_removal.Kept(jnp.float32(each), cells) for each in pair]
    both = [run(network.variables, each) for each in kept]
    scale = np.abs(both[0]).max()
    np.testing.assert_allclose(*both, atol=1e-5 * scale)
    whole = split.whole(network.model)(network.variables, jnp.float32(images))
    assert np.abs(whole - both[0]).max() > 1e-2 * scale


@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], 1))
def test_curves_are_those_of_a_slow_loop(loop):
    module, model, variables, images = world()
    saliency = np.random.default_rng(2).integers(0, 4, (2, *GRID)).astype(np.float32)
    options = {"insertion_baseline": "drop", "deletion_baseline": "drop"}
    measure = metrics.insertion_minus_deletion(model, **options, steps=4, loop=loop)
    found = measure(variables, images, LABELS, saliency)
    for place, (image, values) in enumerate(zip(images, saliency, strict=True)):
        order = np.argsort(-values.ravel(), kind="stable")
        for name, chosen in (
            ("insertion", [order[: 4 * step] for step in range(5)]),
            ("deletion", [order[4 * step :] for step in range(5)]),
        ):
            rows = [
                remaining(module, variables, image, np.sort(kept)) for kept in chosen
            ]
            curve = jax.nn.softmax(jnp.stack(rows))[:, LABELS[place]]
            np.testing.assert_allclose(
                found[f"{name}_curve"][place], curve, atol=1e-4, err_msg=name
            )


def test_larger_maps_are_averaged_over_cells():
    random = np.random.default_rng(3)
    cells = random.normal(size=(2, *GRID)).astype(np.float32)
    wide = np.repeat(np.repeat(cells, 4, axis=1), 4, axis=2)
    noise = random.normal(size=wide.shape).astype(np.float32)
    means = noise.reshape(2, 4, 4, 4, 4).mean((2, 4), keepdims=True)
    noise = (noise.reshape(2, 4, 4, 4, 4) - means).reshape(wide.shape)
    found = token_removal.cell_means(jnp.asarray(wide + noise), (SIDE, SIDE), GRID)
    np.testing.assert_allclose(found, cells, atol=1e-5)


@pytest.mark.exhaustive
def test_networks_whose_tokens_cannot_be_removed_are_refused():
    saliency = np.zeros((2, *GRID), np.float32)
    _, model, variables, images = world(class_token=False, pooled="mean")
    dropped = metrics.deletion(model, baseline="drop", steps=2)
    refused("no token before its grid", dropped, variables, images, LABELS, saliency)
    _, model, variables, images = world(pooled="mean")
    dropped = metrics.deletion(model, baseline="drop", steps=2)
    given = variables, images, LABELS, saliency
    refused("mean of all tokens", dropped, *given)
    assert np.isnan(jax.jit(dropped)(*given)["deletion"]).all()
    plain = split.from_functions(lambda v, x: x, lambda v, m: m.mean((1, 2)))
    dropped = metrics.deletion(plain, baseline="drop", steps=2)
    refused("without attention", dropped, {}, images, jnp.zeros(2, int), saliency)


def test_a_baseline_of_pixels_does_not_go_with_tokens():
    _, model, *_ = world()
    refused(
        "for both, or for neither",
        metrics.insertion_minus_deletion,
        model,
        insertion_baseline="drop",
    )

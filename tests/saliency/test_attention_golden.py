"""Explainers of attention against PyTorch's, in float64 on weights made by rule."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import saliency, split
from unlir_jax.models import placing, vit
from unlir_jax.models.cutting import cut
from unlir_jax.weights import contents, token_names

FOLDER = Path(__file__).parents[1] / "golden" / "attention"
sys.path.insert(0, str(FOLDER))

import attention_weights  # noqa: E402

OPTIONS = {
    "class_token": {},
    "registers": {"registers": 4},
    "mean_pool": {"class_token": False, "pooled": "mean", "norm_after": True},
}
METHODS = {
    "raw": saliency.raw_attention,
    "rollout": saliency.attention_rollout,
    "rollout_plain": lambda model: saliency.attention_rollout(model, normalise=False),
    "rollout_1": lambda model: saliency.attention_rollout(model, start=1),
    "generic": saliency.generic_attention,
    "grad_cam": saliency.attention_grad_cam,
    "legrad": saliency.legrad,
    "attribution": saliency.transformer_attribution,
    "attribution_1": lambda model: saliency.transformer_attribution(model, start=1),
}


def built(name):
    """Build a network of a file in float64: its cut, variables, images and file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        known = {key: file[key] for key in file.files}
    arrays = attention_weights.state_dict(known["names"], known["shapes"])
    shapes = {each: array.shape for each, array in arrays.items()}
    found = contents.Contents(shapes, lambda names: {n: arrays[n] for n in names})
    spelt = token_names.spelt(found)
    network = vit.network(
        *("tiny", 8, 32),
        **{"width": 64, "depth": 3, "heads": 2, "inner": 256},
        **{"mean": vit.HALF, "deviation": vit.HALF},
        **OPTIONS[name],
    )
    module = network.build(num_classes=5)
    variables = placing.fill(module, network, spelt.read(spelt.shapes), name, name)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    if "cls_token" in arrays and name == "class_token":
        # The sum that is loaded was rounded to float32.
        first = arrays["cls_token"].astype(np.float64) + arrays["pos_embed"][:, :1]
        variables["params"]["tokens"]["class_token"] = jnp.asarray(first)
    # As torch saw them: what was standardised in float32.
    standardised = (attention_weights.images(32, 32) - 0.5) / 0.5
    images = jnp.asarray(standardised.astype(np.float64) * 0.5 + 0.5)
    return cut(module, network, network.layer), variables, images, known


@pytest.mark.parametrize("name", tiers.by_tier(OPTIONS, 1))
def test_maps_equal_the_official_ones(x64, name):
    model, variables, images, known = built(name)
    labels = jnp.asarray(known["labels"])
    logits = split.whole(model)(variables, images)
    np.testing.assert_allclose(logits, known["logits"], atol=1e-12)
    for key, factory in METHODS.items():
        if key not in known:
            continue  # The official code of the attribution has a class token.
        found = np.asarray(factory(model)(variables, images, labels))
        difference = np.abs(found - known[key]).max((1, 2))
        share = difference / np.abs(known[key]).max((1, 2))
        # The official relevance adds 1e-9 to each divisor, which is ill-conditioned.
        assert (share < (1e-5 if "attribution" in key else 1e-12)).all(), (key, share)

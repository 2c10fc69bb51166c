"""Class activation maps of tokens against pytorch-grad-cam's, in float64."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import saliency, split
from unlir_jax.models import cutting, placing, swin, vit
from unlir_jax.weights import contents, token_names

FOLDER = Path(__file__).parents[1] / "golden" / "token_cams"
sys.path[:0] = [str(FOLDER.parent / name) for name in ("attention", "transformers")]

import attention_weights  # noqa: E402
import named_weights  # noqa: E402

NETWORKS = {
    "vit": (
        vit.network(
            *("tiny", 8, 32),
            **{"width": 64, "depth": 3, "heads": 2, "inner": 256},
            **{"mean": vit.HALF, "deviation": vit.HALF},
        ),
        attention_weights.state_dict,
        "block1/norm1",
    ),
    "swin": (
        swin.network(32, (2, 2), (2, 4), 4, 40, ratio=2),
        named_weights.state,
        "stage1/block1/norm1",
    ),
}
METHODS = {
    "grad_cam": lambda model: saliency.grad_cam(model, rectify=False),
    "hires_cam": saliency.hires_cam,
    "grad_cam_plus_plus": lambda model: saliency.grad_cam_plus_plus(
        model, epsilon=1e-6
    ),
    "layer_cam": saliency.layer_cam,
    # The sign of a singular vector is arbitrary.
    "eigen_cam": saliency.eigen_cam,
    "score_cam": lambda model: saliency.score_cam(model, alignment="corners"),
}
CASES = [(name, place) for name in NETWORKS for place in ("default", "inner")]


def filled(name, network, arrays, classes):
    """Put arrays under their names in files into a network, in float64."""
    shapes = {each: array.shape for each, array in arrays.items()}
    found = contents.Contents(shapes, lambda names: {n: arrays[n] for n in names})
    spelt = token_names.spelt(found)
    module = network.build(num_classes=classes)
    variables = placing.fill(module, network, spelt.read(spelt.shapes), name, name)
    return module, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)


@pytest.mark.parametrize(("name", "place"), tiers.by_tier(CASES, 1))
def test_maps_equal_those_of_pytorch_grad_cam(x64, name, place):
    with np.load(FOLDER / f"{name}.npz") as file:
        known = {key: file[key] for key in file.files}
    network, draw, inner = NETWORKS[name]
    arrays = draw(known["names"], known["shapes"])
    classes = known["logits"].shape[1]
    module, variables = filled(name, network, arrays, classes)
    layer = network.layer if place == "default" else inner
    model = cutting.cut(module, network, layer)
    side = network.image_size
    images = jnp.asarray(attention_weights.images(side, side), jnp.float64)
    labels = jnp.asarray(known["labels"])
    logits = split.whole(model)(variables, images)
    np.testing.assert_allclose(logits, known["logits"], atol=1e-6)
    for key, factory in METHODS.items():
        expected = known[f"{key}/{place}"]
        expected = np.abs(expected) if key == "eigen_cam" else expected
        found = np.asarray(factory(model)(variables, images, labels))
        share = np.abs(found - expected).max() / np.abs(expected).max()
        assert share < 1e-5, (key, share)

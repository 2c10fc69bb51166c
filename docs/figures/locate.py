"""Draw how a map becomes a segment and a box.

    python docs/figures/locate.py cat.png docs/figures/locate.png

Layer-CAM of EfficientNet-Lite0 for the predicted class, plain and refined; the box is
drawn around the largest part above the threshold.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from draw import grid, over
from PIL import Image

import unlir_jax
from unlir_jax import metrics, saliency, split
from unlir_jax.report import overlay, words

THRESHOLD = 0.5
NAMES = ("layer_cam", "layer_cam@walk", "layer_cam@crf")


def panels(picture: Path) -> list[tuple[str, Image.Image]]:
    """Give the image, and the map with its box of each method."""
    network = unlir_jax.load("efficientnet_lite0")
    pixels = np.asarray(network.preprocess(str(picture)))
    images = jnp.asarray(pixels)[None]
    logits = split.whole(network.model)(network.variables, images)
    labels = logits.argmax(1).astype(jnp.int32)
    shown = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
    found = [(network.class_names[int(labels[0])], shown)]
    for name in NAMES:
        plain, refinement = saliency.parted(name)
        explain = saliency.METHODS[plain](network.model)
        if refinement:
            explain = saliency.REFINEMENTS[refinement](explain)
        located = metrics.locator(explain, threshold=THRESHOLD)(
            network.variables, images, labels
        )
        drawn = over(jnp.asarray(located.saliency), shown)
        nothing = np.zeros((0, 4), int)
        drawn = overlay.framed(drawn, shown.size, nothing, located.boxes[0])
        found.append((words.method_title(name), drawn))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    grid(panels(given.picture), 4).save(given.output, optimize=True)

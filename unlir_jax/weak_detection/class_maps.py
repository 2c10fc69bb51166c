"""Boxes around class maps: what a detector has to be better than.

One linear classifier of images, on the mean of their cells, gives a map of each class
(Zhou et al., *Learning deep features for discriminative localization*, CVPR 2016). The
map is cut at shares of its range, and each piece is a box.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import detection
from unlir_jax.detection import wsddn
from unlir_jax.types import Array, PyTree, RandomKey

MOST = 16


def initial(key: RandomKey, dimensions: int, classes: int) -> PyTree:
    """Draw a linear layer."""
    return {"classifier": wsddn.linear(key, dimensions, classes)}


def losses(
    variables: PyTree, maps: Array, present: Array, done: Array
) -> dict[str, jax.Array]:
    """Compute the binary cross-entropy of the classes of images."""
    del done
    logits = wsddn.apply(variables["classifier"], jnp.mean(maps, axis=(1, 2)))
    signs = jnp.where(present, 1, -1)
    return {"classifier": jnp.mean(jax.nn.softplus(-signs * logits))}


def detect(
    variables: PyTree, cells: np.ndarray, sizes: np.ndarray
) -> list[detection.Detections]:
    """Draw boxes around the map of each class, scored by class and by height.

    The score is the probability of the class times the mean of the map in the box, as
    a share of its range.
    """
    layer = variables["classifier"]
    found = []
    for maps, size in zip(cells, sizes, strict=True):
        logits = maps.mean((0, 1)) @ np.asarray(layer["kernel"]) + layer["bias"]
        class_maps = np.moveaxis(maps @ np.asarray(layer["kernel"]), -1, 0)
        frame = (int(size[1]), int(size[0]))
        given = detection.boxes_of_maps(class_maps, frame, most=MOST)
        low = class_maps.min((1, 2), keepdims=True)
        span = np.maximum(class_maps.max((1, 2), keepdims=True) - low, 1e-12)
        shares = ((class_maps - low) / span)[..., None]
        boxes, scores, labels = [], [], []
        for label, (own, exist) in enumerate(zip(*given, strict=True)):
            own = own[exist]
            if len(own):
                inside = detection.region_features(shares[label], own, frame)
                boxes.append(own)
                probability = 1 / (1 + np.exp(-logits[label]))
                scores.append(probability * np.asarray(inside).reshape(-1))
                labels.append(np.full(len(own), label))
        if boxes:
            joined = (np.concatenate(each) for each in (boxes, scores, labels))
            found.append(detection.Detections(*joined))
        else:
            nothing = np.zeros(0)
            found.append(
                detection.Detections(
                    np.zeros((0, 4), np.float32), nothing, nothing.astype(int)
                )
            )
    return found

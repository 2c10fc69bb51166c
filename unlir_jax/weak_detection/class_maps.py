"""Boxes around class maps: what a detector has to be better than.

One linear classifier of images, on the mean of their cells, gives a map of each class
(Zhou et al., *Learning deep features for discriminative localization*, CVPR 2016). The
map is cut at half of its height, and each piece is a box.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import detection
from unlir_jax.detection import wsddn
from unlir_jax.types import Array, PyTree, RandomKey

MOST, CUT = 16, 0.5
"""Number of boxes of a class, and the share of the height. Zhou et al. cut at 0.2."""


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

    The score is the probability of the class times the highest value of the map in the
    box, as a share of its highest value anywhere. So the best box holds the peak.
    """
    layer = variables["classifier"]
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    found = []
    for maps, size in zip(cells, sizes, strict=True):
        logits = maps.mean((0, 1)) @ kernel + bias
        # What speaks against a class is no place of it.
        class_maps = np.maximum(np.moveaxis(maps @ kernel, -1, 0), 0)
        frame = (int(size[1]), int(size[0]))
        given = detection.boxes_of_maps(class_maps, frame, thresholds=(CUT,), most=MOST)
        boxes, scores, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0)], []
        for label, (own, exist) in enumerate(zip(*given, strict=True)):
            own = own[exist]
            probability = 1 / (1 + np.exp(-logits[label]))
            boxes.append(own)
            scores.append(probability * _peaks(class_maps[label], own, frame))
            labels += [label] * len(own)
        found.append(
            detection.Detections(
                np.concatenate(boxes),
                np.concatenate(scores),
                np.asarray(labels, np.int64),
            )
        )
    return found


def _peaks(
    class_map: np.ndarray, boxes: np.ndarray, frame: tuple[int, int]
) -> np.ndarray:
    """Give the highest cell that each box touches, as a share of the highest of all."""
    cells = np.asarray(class_map.shape) / np.asarray(frame)
    low = np.floor(boxes[:, [1, 0]] * cells).astype(int)
    high = np.ceil(boxes[:, [3, 2]] * cells).astype(int)
    top = max(float(class_map.max()), 1e-12)
    edges = zip(low.tolist(), high.tolist(), strict=True)
    peaks = [class_map[y0:y1, x0:x1].max() / top for (y0, x0), (y1, x1) in edges]
    return np.asarray(peaks, np.float64)

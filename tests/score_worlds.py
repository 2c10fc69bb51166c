"""Linear networks of one relevant region, whose scores NumPy knows by hand.

The evidence `y` of an image is `GAIN` times the share of the region that it shows, less
`LOSS` times the share of another region. Every network gives some function of it.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.split import scores

SIDE, GAIN, LOSS = 4, 2.0, 1.2
WEIGHTS = np.zeros((SIDE, SIDE), np.float32)
WEIGHTS[1, 1:3] = GAIN / 2
WEIGHTS[3, :2] = -LOSS / 2
RELEVANT = (WEIGHTS > 0).astype(np.float32)
ANOTHER = np.zeros((SIDE, SIDE), np.float32)
ANOTHER[0, :3] = 1
"""Three pixels of no weight."""
PLACES = np.asarray([[1.0, 2.0], [-1.0, 0.5]], np.float32)
"""What `y` is multiplied with at the places of the dense network."""
REFERENCE = np.asarray([3.0, 4.0], np.float32)


ALIKE = scores.similarity(REFERENCE)


def image(count=1):
    """Give images of ones: every weight counts fully."""
    return jnp.ones((count, SIDE, SIDE, 1), jnp.float32)


def _network(head):
    def features(variables, images):
        return images

    def evidence(variables, maps):
        return head(jnp.einsum("bhwc,hw->b", maps, WEIGHTS))

    return split.from_functions(features, evidence)


NETWORKS = {
    "two": _network(lambda y: jnp.stack([y, 0 * y], 1)),
    "single": _network(lambda y: y[:, None]),
    "labels": _network(lambda y: jnp.stack([-y, y, 0.5 + 0 * y], 1)),
    "dense": _network(
        lambda y: (
            y[:, None, None, None]
            * PLACES[None, :, :, None]
            * np.asarray([1.0, 0.0], np.float32)[None, None, None]
        )
    ),
    "embedding": _network(lambda y: jnp.stack([y, 1 + 0 * y], 1)),
}


def sigmoid(y):
    return 1 / (1 + np.exp(-np.asarray(y, np.float64)))


def inside(kind):
    """Average over the places in which class 0 is found in the image itself."""
    chosen = PLACES[PLACES > 0].astype(float)
    return lambda y: np.mean([kind(place * y) for place in chosen], axis=0)


def cosine(y):
    one, other = REFERENCE.astype(float)
    return (one * y + other) / 5 / np.sqrt(y**2 + 1)


def all_of_them(logits, labels):
    return logits


def doubled(logits, labels):
    return 2 * logits[:, 0]


def chance(logits, labels):
    return jnp.exp(-jnp.square(logits[:, 0] - 3))


class Known(NamedTuple):
    """Hold a score, the network and label it is for, and what it is of `y`."""

    network: str
    score: scores.ScoreLike
    label: int
    of: object
    bounded: bool = False


KNOWN = {
    "softmax": Known("two", "softmax", 0, sigmoid, True),
    "probability": Known("two", "probability", 0, sigmoid, True),
    "sigmoid": Known("single", "sigmoid", 0, sigmoid, True),
    "multi_label": Known("labels", "sigmoid", 1, sigmoid, True),
    "regression": Known("single", "logit", 0, lambda y: y),
    "logit": Known("two", "logit", 0, lambda y: y),
    "log_softmax": Known("two", "log_softmax", 0, lambda y: np.log(sigmoid(y))),
    "residual_softmax": Known(
        "two", "residual_softmax", 0, lambda y: y + np.log(sigmoid(y))
    ),
    "margin": Known("two", "margin", 0, lambda y: y),
    "contrast": Known(
        "two", scores.contrast(others=1, strength=0.5), 0, lambda y: y + 0 * y
    ),
    "class": Known("labels", 1, 0, lambda y: y),
    "classes": Known("labels", (1, 2), 0, lambda y: y + 0.5),
    "function": Known("two", doubled, 1, lambda y: 2 * y),
    "bounded_function": Known(
        "two",
        scores.Score("chance", chance, "a chance", bounded=True),
        0,
        lambda y: np.exp(-((y - 3) ** 2)),
        True,
    ),
    "region": Known("dense", "region", 0, inside(sigmoid), True),
    "region_sigmoid": Known("dense", "region_sigmoid", 0, inside(sigmoid), True),
    "region_logit": Known("dense", "region_logit", 0, inside(lambda y: y)),
    "mask": Known(
        "dense",
        scores.region(np.asarray([[True, False], [True, False]])),
        0,
        lambda y: (sigmoid(y) + sigmoid(-y)) / 2,
        True,
    ),
    "embedding": Known("embedding", ALIKE, 0, cosine),
    "references": Known(
        "embedding",
        scores.similarity(np.stack([-REFERENCE] * 2 + [REFERENCE])),
        2,
        cosine,
    ),
}

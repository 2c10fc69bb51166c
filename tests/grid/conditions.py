"""What every explainer and metric is called with, and what must come of it.

The network is a few functions of a tree of arrays, so that it can have any number of
classes and channels, any type, and NaN wherever that is wanted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from unlir_jax import metrics, saliency, split
from unlir_jax.metrics import spec
from unlir_jax.types import Attended, Attention

KEY = jax.random.key(0)
LABELS = np.asarray([0, 2])
SIDE = 8

BLIND = {*saliency.CONTROLS, *("complexity", "sparseness")}
BLIND |= {"entropy", "effective_complexity"}
"""What looks at no network: it knows nothing of one that is broken."""


class Case(NamedTuple):
    """Hold one call: the cut network, its variables, images and labels."""

    model: split.SplitModel
    variables: dict
    images: jax.Array | np.ndarray
    labels: np.ndarray


def network(channels=3):
    """Cut a network of two convolutions with ReLUs, whose head pools and classifies."""

    def features(variables, images):
        maps = images.astype(variables["first"].dtype)
        for name in ("first", "second"):
            maps = lax.conv_general_dilated(
                maps,
                variables[name],
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            maps = jax.nn.relu(maps)
        return maps

    def head(variables, maps):
        pooled = jnp.mean(maps, axis=(1, 2))
        return pooled @ variables["dense"] + variables["bias"][None]

    return split.from_functions(features, head, mean=(0.5,) * channels)


def attending(channels=3):
    """Cut a network of the same variables, whose class token attends to all pixels."""

    def run(variables, images, added=(), apart=False):
        del apart
        tokens = maps_of(variables, images).reshape(len(images), -1, 6)
        tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
        query, key, value = (tokens @ variables["second"][0, i] for i in range(3))
        scores = jnp.einsum("bqc,bkc->bqk", query, key)[:, None]
        weights = jax.nn.softmax(scores, axis=-1)
        weights = weights + added[0] if added else weights
        mixed = jnp.einsum("bhqk,bkc->bqc", weights, value)
        logits = mixed[:, 0] @ variables["dense"] + variables["bias"][None]
        return Attended(logits, (weights,), (mixed,))

    def maps_of(variables, images):
        return lax.conv_general_dilated(
            images.astype(variables["first"].dtype),
            variables["first"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def classify(variables, tokens):
        return tokens.mean(1) @ variables["dense"] + variables["bias"][None]

    model = split.from_functions(
        lambda variables, images: split.Features(maps_of(variables, images), images),
        lambda variables, features: run(variables, features.context).logits,
        mean=(0.5,) * channels,
    )
    return model._replace(attention=Attention(run, 1, classify))


def layered(channels=3):
    """Cut a network of the same variables, whose layers are Linen modules."""

    def features(variables, images):
        maps = images.astype(variables["first"].dtype)
        for name, width in (("first", 6), ("second", 5)):
            convolution = nn.Conv(width, (3, 3), use_bias=False)
            maps = convolution.apply({"params": {"kernel": variables[name]}}, maps)
            maps = jax.nn.relu(maps)
        return maps

    def head(variables, maps):
        params = {"kernel": variables["dense"], "bias": variables["bias"]}
        dense = nn.Dense(len(variables["bias"]))
        return dense.apply({"params": params}, jnp.mean(maps, axis=(1, 2)))

    return split.from_functions(features, head, mean=(0.5,) * channels)


MODELS = {channels: network(channels) for channels in (1, 3)}
LAYERED = {channels: layered(channels) for channels in (1, 3)}
ATTENDING = {channels: attending(channels) for channels in (1, 3)}


def variables(classes=4, channels=3, dtype=np.float32):
    """Draw the variables of `network`."""
    random = np.random.default_rng(0)
    shapes = {
        "first": (3, 3, channels, 6),
        "second": (3, 3, 6, 5),
        "dense": (5, classes),
        "bias": (classes,),
    }
    drawn = {name: random.normal(size=shape) for name, shape in shapes.items()}
    return {name: jnp.asarray(value / 2, dtype) for name, value in drawn.items()}


def images(channels=3, side=SIDE, dtype=np.float32):
    """Draw two images."""
    random = np.random.default_rng(1)
    return jnp.asarray(random.random((2, side, side, channels)), dtype)


def case(classes=4, channels=3, side=SIDE, dtype=np.float32):
    """Put together a call in which nothing is wrong."""
    labels = np.minimum(LABELS, classes - 1)
    return Case(
        MODELS[channels],
        variables(classes, channels, dtype),
        images(channels, side, dtype),
        labels,
    )


def maps_for(given, side=4):
    """Draw a map for each image of a case."""
    random = np.random.default_rng(2)
    dtype = given.images.dtype
    side = min(side, given.images.shape[1])
    return jnp.asarray(random.random((len(given.images), side, side)), dtype)


def _broken(name, value, place=...):
    def change(given):
        changed = dict(given.variables)
        changed[name] = changed[name].at[place].set(value)
        return given._replace(variables=changed)

    return change


def _pixels(function):
    return lambda given: given._replace(images=function(given.images))


FINE = {
    "as it is": case(),
    "constant": _pixels(lambda images: jnp.full_like(images, 0.5))(case()),
    "black": _pixels(jnp.zeros_like)(case()),
    "one class, one channel, 1 x 1, float16": case(1, 1, 1, np.float16),
}
"""Every value is finite, or there is a sentence on what is missing."""

ONE_CLASS = case(1, 1, dtype=jnp.bfloat16)
"""One class and one channel, in bfloat16."""

BROKEN = {
    "NaN in the first layer": _broken("first", np.nan)(case()),
    "NaN in one weight": _broken("second", np.nan, (0, 0, 0, 0))(case()),
    "NaN in the head": _broken("dense", np.nan)(case()),
    "NaN in one logit": _broken("bias", np.nan, 1)(case()),
    "beyond float32": _broken("dense", 3e38)(_broken("second", 1e30)(case())),
}
"""A network that gives no number: every value is NaN, or there is an error."""

REFUSED = {
    "NaN": (_pixels(lambda x: x.at[1, 2, 3].set(np.nan)), r"`images`\[1\] holds nan"),
    "infinite": (_pixels(lambda x: x.at[1].set(np.inf)), r"`images`\[1\] holds inf"),
    "8 bits": (_pixels(lambda x: x * 255), "divide 8-bit images by 255"),
    "negative": (_pixels(lambda x: x - 1), r"\[0, 1\]: undo the standardisation"),
    "a little outside": (_pixels(lambda x: x * 1.01 + 0.01), r"\[0, 1\]: clip"),
    "integer": (_pixels(lambda x: jnp.asarray(x, jnp.uint8)), "divide 8-bit"),
    "a list": (_pixels(lambda x: x.tolist()), "`images` is a list"),
    "objects": (_pixels(lambda x: np.asarray(x, object)), "array of objects"),
    "channels first": (_pixels(lambda x: x.transpose(0, 3, 1, 2)), "channels last"),
    "grey": (_pixels(lambda x: x[..., :1]), "has 3 channels"),
    "4 channels": (_pixels(lambda x: x[..., [0, 1, 2, 0]]), "has 3 channels"),
    "no image": (lambda c: c._replace(images=c.images[:0], labels=LABELS[:0]), "least"),
    "no row": (_pixels(lambda x: x[:, :0]), "each at least 1"),
    "rank 3": (_pixels(lambda x: x[0]), "has shape"),
    "a list of labels": (lambda c: c._replace(labels=[0, 2]), "`labels` is a list"),
    "label too high": (lambda c: c._replace(labels=np.asarray([0, 4])), "classes 0 to"),
    "label too low": (lambda c: c._replace(labels=np.asarray([0, -1])), "classes 0 to"),
}
"""A change of a call, and what is said of it."""

MAPS = {
    "a list": (lambda maps: maps.tolist(), "`saliency` is a list"),
    "integer": (lambda maps: jnp.asarray(maps * 255, jnp.uint8), "floating point"),
    "boolean": (lambda maps: maps > 0.5, "floating point"),
    "objects": (lambda maps: np.asarray(maps, object), "floating point"),
    "0 x 0": (lambda maps: maps[:, :0, :0], "at least 1"),
    "rank 4": (lambda maps: maps[..., None], "has shape"),
    "one map": (lambda maps: maps[:1], "one map for each of the 2 images"),
}
"""A change of the maps, and what every metric says of it."""

TRACED = {
    "NaN": _pixels(lambda x: x.at[1, 2, 3].set(np.nan)),
    "8 bits": _pixels(lambda x: x.at[1].mul(255)),
    "label": lambda c: c._replace(labels=np.asarray([0, 4])),
}
"""A change that cannot be seen inside `jax.jit`, where the second image gets NaN."""


def explainer(name, given):
    """Make an explainer by name, with few steps."""
    known = saliency.SPECS[name]
    models = {"attention": ATTENDING, "linen": LAYERED}.get(known.head, MODELS)
    return saliency.METHODS[name](models[len(given.model.mean)], **known.quick)


NEEDS = {name: spec.needs for name, spec in metrics.SPECS.items()}
PLAIN = [name for name, needs in NEEDS.items() if needs in ("map", "logits")]
EXPLAINING = [name for name, needs in NEEDS.items() if needs in spec.EXPLAINING]
REGIONS = [name for name, needs in NEEDS.items() if needs == "masks"]


def measure(name, given, saliency_maps, key=KEY):
    """Call a metric by name with all that it takes; give its values by name."""
    factory, settings = metrics.FACTORIES[name], metrics.SPECS[name].quick
    inputs = given.variables, given.images, given.labels, saliency_maps
    if name in PLAIN:
        return factory(given.model, **settings)(*inputs, key=key)
    if name in EXPLAINING:
        explain = saliency.grad_cam(given.model)
        own = () if NEEDS[name] == "explainer" else (given.variables,)
        return factory(given.model, explain, **settings)(*inputs, *own, key=key)
    side = np.shape(given.images)[1]
    if name in REGIONS:
        told = np.zeros((2, side, side), bool)
        told[:, : max(1, side // 2)] = True
    else:
        told = np.asarray([[[0, 0, side - 1, max(0, side // 2 - 1)]]] * 2)
    return factory(given.model, **settings)(*inputs, told, key=key)

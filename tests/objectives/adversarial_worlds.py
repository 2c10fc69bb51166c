"""Networks of which adversarial training is known, or whose modes differ."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from attacks import attack_worlds
from flax import linen as nn

from unlir_jax import split
from unlir_jax.objectives import network
from unlir_jax.objectives.objective import Apply

ROWS, EPSILON, CLASSES = 8, 0.05, 3
KEY = jax.random.key(3)
KEYS = jax.random.split(KEY, 12)
RANDOM = np.random.default_rng(11)
KERNEL = RANDOM.normal(size=(48, 2)).astype("f") / 8
SLOPE = (KERNEL[:, 1] - KERNEL[:, 0]).astype(np.float64)
DUAL = {"linf": np.abs(SLOPE).sum(), "l2": np.linalg.norm(SLOPE)}
VARIABLES = {"params": {"kernel": KERNEL}}


def linear(variables, images):
    return (images - 0.5).reshape((len(images), -1)) @ variables["params"]["kernel"]


LINEAR = Apply(lambda variables, images, key: (linear(variables, images), {}), linear)


def batch(classes=2, side=4, low=0.2, high=0.8):
    generator = np.random.default_rng(5)
    return {
        "image": generator.uniform(low, high, (ROWS, side, side, 3)).astype("f"),
        "label": (np.arange(ROWS) % classes).astype(np.int32),
        "weight": np.ones(ROWS, np.float32),
        "position": np.arange(ROWS, dtype=np.int32),
        "index": np.arange(ROWS, dtype=np.int32),
    }


def margins(rows):
    """Give each row's logit of the label minus the other one."""
    apart = (rows["image"].reshape(ROWS, -1).astype(np.float64) - 0.5) @ SLOPE
    return np.where(rows["label"] == 1, apart, -apart)


@functools.cache
def world():
    weights, images, labels, _ = attack_worlds.small()
    logits = split.whole(attack_worlds.SMALL)
    apply = Apply(lambda v, images, key: (logits(v, images), {}), logits)
    return apply, weights, images, labels


class Small(nn.Module):
    """Has a norm that sees the batch, and a share of units that are dropped."""

    dtype: str = "float32"

    def setup(self):
        self.conv = nn.Conv(6, (3, 3), dtype=self.dtype)
        self.norm = nn.BatchNorm(momentum=0.5, dtype=self.dtype)
        self.drop = nn.Dropout(0.3)
        self.dense = nn.Dense(CLASSES, dtype=self.dtype)

    def features(self, images, train=False):
        return nn.relu(self.norm(self.conv(images), use_running_average=not train))

    def head(self, maps, train=False):
        return self.dense(self.drop(maps.mean((1, 2)), deterministic=not train))

    def __call__(self, images, train=False):
        return self.head(self.features(images, train))


@functools.cache
def made(dtype="float32"):
    module = Small(dtype)
    variables = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    # Far from what the batch would give, so that the two modes differ.
    variables["batch_stats"]["norm"]["mean"] += 0.3
    return network.whole(module), variables


def slopes(objective, rows, variables):
    def total(params):
        outcome = objective.train(variables | {"params": params}, rows, KEY)
        return jnp.mean(outcome.loss), outcome

    return jax.jit(jax.value_and_grad(total, has_aux=True))(variables["params"])

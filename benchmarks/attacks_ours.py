"""Our side of the benchmark of attacks."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import protocol
from attacks_torch import DEVIATION, MEAN

from unlir_jax import attacks, split
from unlir_jax.attacks import losses, search
from unlir_jax.weights import readers

EPSILON = 8 / 255


def read(path: str) -> dict[str, jax.Array]:
    """Read the arrays of a state dict, perhaps with a prefix."""
    found = readers.read(Path(path))
    return {name.removeprefix("module."): jnp.asarray(found[name]) for name in found}


def features(variables: Any, images: Any) -> jax.Array:
    """Run a ResNet-20 whose shortcuts have no weights."""

    def joined(maps: jax.Array, name: str, number: int, stride: int = 1) -> jax.Array:
        kernel = variables[f"{name}conv{number}.weight"]
        maps = jax.lax.conv_general_dilated(
            *(maps, kernel, (stride, stride), ((1, 1), (1, 1))),
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
        )
        norm = f"{name}bn{number}."
        scale = variables[norm + "weight"]
        scale = scale / jnp.sqrt(variables[norm + "running_var"] + 1e-5)
        shift = variables[norm + "bias"] - scale * variables[norm + "running_mean"]
        return maps * scale[None, None, None] + shift[None, None, None]

    maps = (images - jnp.asarray(MEAN)) / jnp.asarray(DEVIATION)
    maps = jax.nn.relu(joined(maps, "", 1))
    for stage in (1, 2, 3):
        for number in range(3):
            name, stride = f"layer{stage}.{number}.", 1 + (stage > 1 and number == 0)
            own = jax.nn.relu(joined(maps, name, 1, stride))
            own = joined(own, name, 2)
            if stride == 2:
                more = (own.shape[3] - maps.shape[3]) // 2
                wide = (0, 0), (0, 0), (0, 0), (more, more)
                maps = jnp.pad(maps[:, ::2, ::2], wide)
            maps = jax.nn.relu(own + maps)
    return maps


def head(variables: Any, maps: jax.Array) -> jax.Array:
    """Average the maps, and give logits."""
    return maps.mean((1, 2)) @ variables["linear.weight"].T + variables["linear.bias"]


MODEL = split.from_functions(features, head)


class Session:
    """Hold a network, images, and one attack for each row."""

    def __init__(self, settings: dict[str, Any]):
        model, self.variables = MODEL, read(settings["weights"])
        self.images = jnp.asarray(drawn(settings["batch"]))
        logits = split.whole(model)(self.variables, self.images)
        self.labels = jnp.argmax(logits, axis=1)
        self.gradients: dict[str, float] = {}
        slope = search.slope(model, losses.NAMED["cross_entropy"])

        def gradient() -> None:
            aim = losses.Aim(self.labels)
            jax.block_until_ready(slope(self.variables, self.images, aim))

        made = every(model, settings["steps"])
        self.calls = {"value_and_gradient": gradient}
        self.calls |= {name: self._call(name, made[name]) for name in made}

    def _call(self, name: str, attack: attacks.Attack) -> Callable[[], None]:
        def call() -> None:
            key = jax.random.key(0)
            found = attack.counted(self.variables, self.images, self.labels, key=key)
            self.gradients[name] = float(np.sum(found.gradients))

        return call

    def describe(self) -> dict[str, Any]:
        """Say what runs here, and how many gradients all images took."""
        names = ("jax", "jaxlib", "flax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        versions = {"python": platform.python_version()} | found
        return {"versions": versions, "gradients": self.gradients}

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        return protocol.both_seconds(self.calls[method], calls)


def drawn(count: int) -> np.ndarray:
    """Draw images, the same on all sides."""
    random = np.random.default_rng(0)
    return random.random((count, 32, 32, 3)).astype(np.float32)


def every(model: Any, steps: int) -> dict[str, attacks.Attack]:
    """Make the attacks that peers have as well."""
    budget = {"epsilon": EPSILON, "steps": steps}
    cw = {"searches": 2, "constant": 1.0, "abort_early": False}
    return {
        "fgsm": attacks.fgsm(model, epsilon=EPSILON),
        "bim": attacks.bim(model, **budget),
        "mi_fgsm": attacks.mi_fgsm(model, **budget),
        "pgd": attacks.pgd(model, **budget),
        "pgd_l2": attacks.pgd(model, norm="l2", epsilon=0.5, steps=steps),
        "apgd": attacks.apgd(model, stop_early=False, **budget),
        "ddn": attacks.ddn(model, steps=steps),
        "fmn": attacks.fmn(model, steps=steps),
        "carlini_wagner": attacks.carlini_wagner(model, steps=steps, **cw),
        "deepfool": attacks.deepfool(model, steps=steps),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    protocol.serve_session(Session, "describe methods time".split())


if __name__ == "__main__":
    main()

"""Our side of the benchmark of explainers: one process that runs unlir_jax."""

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

from unlir_jax import maps, metrics, saliency, split
from unlir_jax.models import pretrained
from unlir_jax.runtime import allocator
from unlir_jax.saliency.gradients import gradient as gradients
from unlir_jax.types import Features

CAMS = (
    *("grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam"),
    *("elementwise_grad_cam", "eigen_cam", "eigen_grad_cam"),
)
GRADIENTS = (
    *("gradient", "input_x_gradient", "guided_backpropagation", "deconvolution"),
    *("guided_grad_cam", "full_grad"),
)
SAMPLED = ("smooth_grad", "gradient_shap")
MASKED = ("rise", "lime", "kernel_shap")


class Session:
    """Hold one network, and what is timed on it."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        self.kept = allocator.keep_freed_memory()
        name, weights = settings["model"], settings["weights"]
        self.network = pretrained.load(name, weights, fold=True)
        self.inner = pretrained.load(name, weights, settings["inner"], fold=True)

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("jax", "jaxlib", "flax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        return {
            "versions": {"python": platform.python_version()} | found,
            "device": jax.devices()[0].device_kind,
            "allocator_keeps_memory": self.kept,
            "folded_norms": True,
            "weights_sha256": self.network.sha256,
        }

    def make_batch(self, path: str) -> dict[str, int]:
        """Write what both sides use, and say how many filters the inner layer has."""
        random = np.random.default_rng(0)
        size = self.network.image_size
        cells = random.uniform(size=(self.settings["batch"], 8, 8, 3))
        images = np.asarray(
            jax.image.resize(jnp.asarray(cells), (len(cells), size, size, 3), "cubic")
        )
        images = images + 0.05 * random.normal(size=images.shape)
        images = np.clip(images, 0, 1).astype(np.float32)
        logits = split.whole(self.network.model)(self.network.variables, images)
        scored = random.uniform(size=(len(images), 7, 7)).astype(np.float32)
        labels = np.asarray(logits, np.float32).argmax(1)
        np.savez(path, images=images, labels=labels, maps=scored)
        inner = self.inner.model.features(self.inner.variables, images[:1])
        return {"filters": inner.maps.shape[-1], "size": size}

    def take_batch(self, path: str) -> None:
        """Read the batch, and build everything that is timed."""
        with np.load(path) as batch:
            self.images, self.labels, self.maps = (
                jnp.asarray(batch[name]) for name in ("images", "labels", "maps")
            )
        self.calls = self._units() | self._cams() | self._gradients() | self._masked()

    def _units(self) -> dict[str, Callable[[], Any]]:
        """Build the passes of which everything else is made, on the small batch."""
        few = self.settings["few"]
        images, labels = self.images[:few], self.labels[:few]
        variables, forward = self.network.variables, split.whole(self.network.model)
        slope = gradients.image_gradient(self.network.model, saliency.targets.logit)
        inner = self.inner
        features = inner.model.features(inner.variables, images)
        # As large as the chunks of pairs that Ablation-CAM passes through the head.
        repeated = jnp.repeat(features.maps, 32 // few, axis=0)
        context = features.context
        return {
            "forward": lambda: forward(variables, images),
            "value_and_gradient": lambda: slope(variables, images, labels),
            "head": lambda: inner.model.head(
                inner.variables, Features(repeated, context)
            ),
        }

    def _cams(self) -> dict[str, Callable[[], Any]]:
        few = self.settings["few"]
        batch = (self.network.variables, self.images[:few], self.labels[:few])
        calls = {}
        for name in CAMS:
            explain = saliency.METHODS[name](self.network.model)
            calls[name] = lambda explain=explain: mask(explain(*batch), batch[1])
        one = (self.inner.variables, self.images[:1], self.labels[:1])
        for name in ("score_cam", "ablation_cam"):
            explain = saliency.METHODS[name](self.inner.model)
            calls[name] = lambda explain=explain: mask(explain(*one), one[1])
        return calls

    def _gradients(self) -> dict[str, Callable[[], Any]]:
        few, count = self.settings["few"], self.settings["samples"]
        batch = (self.network.variables, self.images[:few], self.labels[:few])
        key, model = jax.random.key(0), self.network.model
        made = {name: saliency.METHODS[name](model) for name in GRADIENTS}
        for name in SAMPLED:
            made[name] = saliency.METHODS[name](model, samples=count)
        made["integrated_gradients"] = saliency.integrated_gradients(model, steps=count)
        return {
            name: lambda explain=explain: explain(*batch, key=key)
            for name, explain in made.items()
        }

    def _masked(self) -> dict[str, Callable[[], Any]]:
        few, count = self.settings["few"], self.settings["masks"]
        batch = (self.network.variables, self.images[:few], self.labels[:few])
        key, model = jax.random.key(0), self.network.model
        side = self.network.image_size // 8
        made: dict[str, Any] = {
            "occlusion": saliency.occlusion(model, window=side, stride=side),
            "rise": saliency.rise(model, masks=count),
            "lime": saliency.lime(model, samples=count, kind="grid", count=49),
            "kernel_shap": saliency.kernel_shap(
                model, samples=count, kind="grid", count=49
            ),
        }
        steps = self.settings["curve_steps"]
        both = metrics.insertion_minus_deletion(model, steps=steps)
        everything = (self.network.variables, self.images, self.labels, self.maps)
        return {
            name: lambda explain=explain: explain(*batch, key=key)
            for name, explain in made.items()
        } | {"insertion_deletion": lambda: both(*everything)}

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        run = self.calls[method]
        return protocol.both_seconds(lambda: jax.block_until_ready(run()), calls)

    def peak(self) -> float:
        return protocol.peak_mebibytes()


@jax.jit
def mask(raw: jax.Array, images: jax.Array) -> jax.Array:
    """Enlarge a map and bring it into [0, 1], as the peer always does."""
    return maps.normalize(maps.resize(raw, images.shape[1:3]), "range")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    names = "describe make_batch take_batch methods time peak"
    protocol.serve_session(Session, names.split())


if __name__ == "__main__":
    main()

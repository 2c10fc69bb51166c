"""Our side of the benchmark of explainers for transformers."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import explainers_ours
import jax
import jax.numpy as jnp
import numpy as np
import protocol

from unlir_jax import saliency, split
from unlir_jax.models import pretrained
from unlir_jax.saliency.gradients import gradient as gradients


class Session:
    """Hold two networks, and what is timed on them."""

    def __init__(self, settings: dict[str, Any]):
        self.vit, self.swin = (
            pretrained.load(settings[name], "random") for name in ("vit", "swin")
        )
        side = self.vit.image_size
        random = np.random.default_rng(0)
        images = random.uniform(size=(settings["images"], side, side, 3))
        self.images = jnp.asarray(images, jnp.float32)
        self.labels = jnp.arange(len(images))
        self.calls = self._units() | self._explainers()

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("jax", "jaxlib", "flax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        return {"versions": {"python": platform.python_version()} | found}

    def _units(self) -> dict[str, Callable[[], Any]]:
        """Build the passes of which everything else is made."""
        calls = {}
        for name, network in (("vit", self.vit), ("swin", self.swin)):
            batch = network.variables, self.images, self.labels
            forward = split.whole(network.model)
            slope = gradients.image_gradient(network.model, saliency.targets.logit)
            calls[f"{name}/forward"] = lambda run=forward, of=batch: run(*of[:2])
            calls[f"{name}/gradient"] = lambda run=slope, of=batch: run(*of)
        return calls

    def _explainers(self) -> dict[str, Callable[[], Any]]:
        made = {
            "vit/grad_cam": saliency.grad_cam(self.vit.model),
            "swin/grad_cam": saliency.grad_cam(self.swin.model),
            "vit/attention_rollout": saliency.attention_rollout(self.vit.model),
            "vit/generic_attention": saliency.generic_attention(self.vit.model),
            "vit/attn_lrp, gamma 0": saliency.attn_lrp(
                self.vit.model, gamma=0.0, patch_gamma=0.0
            ),
            "vit/attn_lrp": saliency.attn_lrp(self.vit.model),
        }
        calls: dict[str, Callable[[], Any]] = {}
        for name, explain in made.items():
            network = getattr(self, name.partition("/")[0])
            batch = network.variables, self.images, self.labels
            if name.endswith("grad_cam"):
                calls[name] = lambda run=explain, of=batch: explainers_ours.mask(
                    run(*of), of[1]
                )
            else:
                calls[name] = lambda run=explain, of=batch: run(*of)
        return calls

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        run = self.calls[method]
        return protocol.both_seconds(lambda: jax.block_until_ready(run()), calls)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    protocol.serve_session(Session, "describe methods time".split())


if __name__ == "__main__":
    main()

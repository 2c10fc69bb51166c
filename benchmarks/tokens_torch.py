"""The other side of the benchmark for transformers: pytorch-grad-cam, lxt, and hooks.

Runs in an environment of its own; see README.md. Attention is watched by hooks, and
multiplied as the official code does: one image at a time, whole matrices.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import importlib.util
import platform
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import protocol


class Session:
    """Hold networks of timm, or one of torchvision that lxt has changed."""

    def __init__(self, settings: dict[str, Any]):
        import torch

        self.torch, self.settings = torch, settings
        side = settings["side"]
        images = np.random.default_rng(0).uniform(
            -1, 1, (settings["images"], 3, side, side)
        )
        self.images = torch.from_numpy(images.astype(np.float32))
        self.labels = list(range(len(images)))
        self.calls = self._lxt() if settings["lxt"] else self._timm()

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        from importlib import metadata

        names = ("torch", "torchvision", "timm", "grad-cam", "lxt", "zennit", "numpy")
        found = {name: metadata.version(name) for name in names}
        threads = self.torch.get_num_threads()
        return {
            "versions": {"python": platform.python_version()} | found,
            "threads": threads,
            "parameters frozen": self.settings["frozen"],
        }

    def _timm(self) -> dict[str, Callable[[], Any]]:
        import timm

        torch = self.torch
        names = (self.settings["vit"], self.settings["swin"])
        vit, swin = (timm.create_model(name).eval() for name in names)
        watched = timm.create_model(names[0]).eval()
        for network in (vit, swin, watched):
            network.requires_grad_(not self.settings["frozen"])
        attention = Watched(torch, watched)

        def each(run: Callable[..., Any]) -> Callable[[], Any]:
            pairs = [*zip(self.images.split(1), self.labels, strict=True)]
            return lambda: [run(image.clone(), label) for image, label in pairs]

        return {
            "vit/forward": lambda: self._forward(vit),
            "vit/gradient": lambda: self._gradient(vit),
            "swin/forward": lambda: self._forward(swin),
            "swin/gradient": lambda: self._gradient(swin),
            "vit/grad_cam": self._grad_cam(vit, vit.blocks[-1].norm1, _square),
            "swin/grad_cam": self._grad_cam(swin, swin.norm, _channels_first),
            "vit/attention_rollout": each(attention.rollout),
            "vit/generic_attention": each(attention.generic),
        }

    def _forward(self, network: Any) -> Any:
        with self.torch.inference_mode():
            return network(self.images)

    def _gradient(self, network: Any) -> Any:
        images = self.images.clone().requires_grad_(True)
        rows = range(len(self.labels))
        chosen = network(images)[rows, self.labels].sum()
        return self.torch.autograd.grad(chosen, images)

    def _grad_cam(self, network: Any, layer: Any, reshape: Any) -> Callable[[], Any]:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        layer.requires_grad_(True)  # The least that it needs where all is frozen.
        targets = [ClassifierOutputTarget(label) for label in self.labels]
        explain = GradCAM(network, [layer], reshape_transform=reshape)
        return lambda: explain(input_tensor=self.images.clone(), targets=targets)

    def _lxt(self) -> dict[str, Callable[[], Any]]:
        # lxt imports the models of transformers 4, which are not needed.
        skipped = types.ModuleType("lxt.efficient.models")
        found = importlib.util.find_spec("lxt")
        if found is None or not found.submodule_search_locations:
            raise ImportError("lxt is not installed.")
        skipped.__path__ = [f"{found.submodule_search_locations[0]}/efficient/models"]
        vars(skipped)["get_default_map"] = lambda module: None
        sys.modules[skipped.__name__] = skipped
        from lxt.efficient.core import monkey_patch
        from lxt.efficient.models.vit_torch import cp_LRP
        from lxt.efficient.zennit_patches import monkey_patch_zennit
        from torchvision.models import vision_transformer
        from zennit import composites, rules

        torch = self.torch
        monkey_patch(vision_transformer, cp_LRP)
        monkey_patch_zennit()
        network = vision_transformer.VisionTransformer(
            image_size=self.settings["side"],
            patch_size=16,
            num_layers=12,
            num_heads=6,
            hidden_dim=384,
            mlp_dim=1536,
        )
        network.eval().requires_grad_(False)
        composite = composites.LayerMapComposite(
            [(torch.nn.Conv2d, rules.Gamma(0.25)), (torch.nn.Linear, rules.Gamma(0.05))]
        )

        def plain() -> Any:
            images = self.images.clone().requires_grad_(True)
            rows = range(len(self.labels))
            network(images)[rows, self.labels].sum().backward()
            return (images * images.grad).sum(1)

        def with_gamma() -> Any:
            composite.register(network)
            found = plain()
            composite.remove()
            return found

        return {"vit/attn_lrp, gamma 0": plain, "vit/attn_lrp": with_gamma}

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        return protocol.both_seconds(self.calls[method], calls)


class Watched:
    """Explain one image by the attention of a ViT, from the formulas."""

    def __init__(self, torch: Any, network: Any):
        self.torch, self.network = torch, network
        self.weights: list[Any] = []
        self.slopes: list[Any] = []
        for block in network.blocks:
            block.attn.fused_attn = False
            # What drops attention weights, and drops none here, sees them.
            block.attn.attn_drop.register_forward_hook(self._note)

    def _note(self, module: Any, given: Any, output: Any) -> None:
        self.weights.append(output)
        if output.requires_grad:
            output.register_hook(self.slopes.append)

    def rollout(self, image: Any, label: int) -> Any:
        """Abnar and Zuidema, ACL 2020, Eq. 1."""
        del label
        self.weights.clear()
        self.network(image)
        joint = self._identity()
        for each in self.weights:
            mixed = each[0].mean(0) + self._identity()
            joint = (mixed / mixed.sum(-1, keepdim=True)) @ joint
        return joint[0, 1:]

    def generic(self, image: Any, label: int) -> Any:
        """Chefer et al., ICCV 2021, Eq. 5 and 6."""
        self.weights.clear()
        self.slopes.clear()
        # Without trainable parameters nothing else asks for derivatives.
        image = image.requires_grad_(not next(self.network.parameters()).requires_grad)
        score = self.network(image)[0, label]
        self.network.zero_grad()
        score.backward()
        relevance = self._identity()
        for each, slope in zip(self.weights, self.slopes[::-1], strict=True):
            mixed = (each * slope)[0].detach().clamp(min=0).mean(0)
            relevance = relevance + mixed @ relevance
        return relevance[0, 1:]

    def _identity(self) -> Any:
        return self.torch.eye(self.weights[0].shape[-1])


def _square(tokens: Any) -> Any:
    """Leave the class token out, and put channels first."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    grid = tokens[:, 1:].reshape(len(tokens), side, side, -1)
    return grid.permute(0, 3, 1, 2)


def _channels_first(maps: Any) -> Any:
    return maps.permute(0, 3, 1, 2)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    protocol.serve_session(Session, "describe methods time".split())


if __name__ == "__main__":
    main()

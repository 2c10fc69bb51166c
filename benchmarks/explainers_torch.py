"""The other side of the benchmark of explainers: pytorch-grad-cam, captum, RISE.

Runs in an environment of its own; see README.md. Peers are called as their
documentation says. Where they offer to pass several perturbations at once, they do.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import copy
import functools
import platform
from collections.abc import Callable
from typing import Any

import explainers_rise
import numpy as np
import protocol
import torch_peer

AT_ONCE = 8
CAMS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "xgrad_cam": "XGradCAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "elementwise_grad_cam": "GradCAMElementWise",
    "eigen_cam": "EigenCAM",
    "eigen_grad_cam": "EigenGradCAM",
    "full_grad": "FullGrad",
}


class Session:
    """Hold one network, and what is timed on it."""

    def __init__(self, settings: dict[str, Any]):
        import torch

        self.torch, self.settings = torch, settings
        peer = torch_peer.Session(settings | {"steps": 1})
        self.layout, self.trainable = peer.layout, peer.trainable
        mean, deviation = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (torch_peer.MEAN, torch_peer.DEVIATION)
        )
        self.normalize = lambda images: (images - mean) / deviation

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        from importlib import metadata

        names = ("torch", "torchvision", "grad-cam", "captum", "numpy")
        found = {name: metadata.version(name) for name in names}
        return {
            "versions": {"python": platform.python_version()} | found,
            "threads": self.torch.get_num_threads(),
            "channels_last": self.settings["channels_last"],
        }

    def take_batch(self, path: str) -> None:
        """Read the batch, and build everything that is timed."""
        torch = self.torch
        with np.load(path) as batch:
            images = torch.from_numpy(batch["images"].transpose(0, 3, 1, 2).copy())
            self.labels = torch.from_numpy(batch["labels"].astype(np.int64))
            self.maps = batch["maps"]
        images = self.normalize(images).contiguous(memory_format=self.layout)
        self.images, few = images, self.settings["few"]
        self.few = (images[:few], self.labels[:few])
        self.calls = self._units() | self._cams() | self._captum() | self._masked()

    def _units(self) -> dict[str, Callable[[], Any]]:
        torch, (images, labels) = self.torch, self.few
        frozen = self._copy().requires_grad_(False)

        def forward() -> Any:
            with torch.inference_mode():
                return frozen(images)

        def gradient() -> Any:
            own = images.clone().requires_grad_(True)
            chosen = frozen(own).gather(1, labels[:, None]).sum()
            return torch.autograd.grad(chosen, own)

        return {"forward": forward, "value_and_gradient": gradient}

    def _copy(self) -> Any:
        return copy.deepcopy(self.trainable)

    def _cams(self) -> dict[str, Callable[[], Any]]:
        import pytorch_grad_cam

        few = self.settings["few"]
        calls = {}
        for name, peer in CAMS.items():
            network = self._copy()
            layers = [] if name == "full_grad" else [torch_peer.last_maps(network)]
            explain = getattr(pytorch_grad_cam, peer)(network, layers)
            calls[name] = self._cam_call(explain, few)
        for name, peer in (("score_cam", "ScoreCAM"), ("ablation_cam", "AblationCAM")):
            network = self._copy()
            layer = network.get_submodule(self.settings["inner_theirs"])
            explain = getattr(pytorch_grad_cam, peer)(network, [layer])
            calls[name] = self._cam_call(explain, 1)
        return calls

    def _cam_call(self, explain: Any, count: int) -> Callable[[], Any]:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        targets = [ClassifierOutputTarget(int(y)) for y in self.labels[:count]]
        return lambda: explain(
            input_tensor=self.images[:count].clone(), targets=targets
        )

    def _captum(self) -> dict[str, Callable[[], Any]]:
        from captum import attr

        (images, labels), count = self.few, self.settings["samples"]
        network = self._copy().requires_grad_(False)
        guided = self._copy().requires_grad_(False)
        last = torch_peer.last_maps(guided)
        tunnel = attr.NoiseTunnel(attr.Saliency(network))
        backgrounds = self.torch.rand_like(images)
        given = {"target": labels}
        made = {
            "gradient": attr.Saliency(network).attribute,
            "input_x_gradient": attr.InputXGradient(network).attribute,
            "guided_backpropagation": attr.GuidedBackprop(guided).attribute,
            "deconvolution": attr.Deconvolution(guided).attribute,
            "guided_grad_cam": attr.GuidedGradCam(guided, last).attribute,
            "smooth_grad": functools.partial(
                tunnel.attribute, nt_samples=count, nt_samples_batch_size=1, stdevs=0.15
            ),
            "gradient_shap": functools.partial(
                attr.GradientShap(network).attribute,
                baselines=backgrounds,
                n_samples=count,
            ),
            "integrated_gradients": functools.partial(
                attr.IntegratedGradients(network).attribute,
                n_steps=count,
                internal_batch_size=AT_ONCE,
            ),
        }
        return {
            name: lambda run=run: run(images.clone(), **given)
            for name, run in made.items()
        }

    def _masked(self) -> dict[str, Callable[[], Any]]:
        from captum import attr

        torch, (images, labels) = self.torch, self.few
        network = self._copy().requires_grad_(False)
        count, side = self.settings["masks"], images.shape[-1]
        window = (3, side // 8, side // 8)
        occlusion = attr.Occlusion(network)
        rows = torch.arange(side) * 7 // side
        cells = (rows[:, None] * 7 + rows[None])[None, None]

        def surrogate(explain: Any) -> Callable[[], Any]:
            options = {"n_samples": count, "perturbations_per_eval": AT_ONCE}
            return lambda: [
                explain.attribute(x[None], target=y, feature_mask=cells, **options)
                for x, y in zip(images, labels, strict=True)
            ]

        probability = torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval()
        rise = explainers_rise.Rise(probability, side, count)
        curves = explainers_rise.curves(probability, self.settings["curve_steps"])

        def run_rise() -> Any:
            with torch.no_grad():
                return [rise(x[None])[y] for x, y in zip(images, labels, strict=True)]

        def run_occlusion() -> Any:
            with torch.no_grad():
                return occlusion.attribute(
                    images,
                    sliding_window_shapes=window,
                    strides=window,
                    target=labels,
                    perturbations_per_eval=AT_ONCE,
                )

        return {
            "occlusion": run_occlusion,
            "rise": run_rise,
            "lime": surrogate(attr.Lime(network)),
            "kernel_shap": surrogate(attr.KernelShap(network)),
            "insertion_deletion": lambda: curves(self.images, self.maps),
        }

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        return protocol.both_seconds(self.calls[method], calls)

    def peak(self) -> float:
        return protocol.peak_mebibytes()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    names = "describe take_batch methods time peak"
    protocol.serve_session(Session, names.split())


if __name__ == "__main__":
    main()

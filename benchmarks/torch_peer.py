"""The other side of the benchmark: torch, torchvision and pytorch-grad-cam.

Runs in an environment of its own (Python 3.11 or newer); see README.md.
Whatever a careful user of torch would do is done: parameters need no gradient where
none is asked for, clean features are computed once, no hook stays on.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import copy
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import protocol

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEARNING_RATE = 0.1
WARM_STEPS = 2


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled operations cannot be loaded.

    torchvision built for CUDA finds no library with a torch for the CPU, and then its
    import fails where it registers shapes for two operations that do not exist. No
    classifier needs them: declaring their names is enough.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
        import torchvision

        torchvision.operations_declared_by_us = library  # Its end would undo them.
    return torchvision


class Session:
    """Hold one network and one batch between commands."""

    def __init__(self, settings: dict[str, Any]):
        import torch

        torchvision = import_torchvision()
        torch.set_num_threads(settings["threads"])
        self.settings = settings
        self.torch = torch
        self.layout = (
            torch.channels_last
            if settings["channels_last"]
            else torch.contiguous_format
        )
        names = torchvision.models.list_models()
        if settings["model"] not in names:
            raise ValueError(f"torchvision has no network {settings['model']!r}.")
        network = torchvision.models.get_model(settings["model"], weights=None)
        state = torch.load(settings["weights"], map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        self.trainable = network.eval().to(memory_format=self.layout)
        self.network = copy.deepcopy(self.trainable).requires_grad_(False)
        self.half_frozen = copy.deepcopy(self.network)
        last_maps(self.half_frozen).requires_grad_(True)

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        from importlib import metadata

        names = ("torch", "torchvision", "grad-cam", "numpy")
        found = {name: metadata.version(name) for name in names}
        return {
            "versions": {"python": platform.python_version()} | found,
            "threads": self.torch.get_num_threads(),
            "mkldnn": self.torch.backends.mkldnn.is_available(),
            "channels_last": self.settings["channels_last"],
        }

    def take_batch(self, path: str) -> None:
        """Read the batch, and build every method that is timed."""
        torch = self.torch
        with np.load(path) as batch:
            images = torch.from_numpy(batch["images"].transpose(0, 3, 1, 2).copy())
            self.labels = torch.from_numpy(batch["labels"].astype(np.int64))
            self.maps = torch.from_numpy(batch["maps"])
        self.images = images.contiguous(memory_format=self.layout)
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.deviation = torch.tensor(DEVIATION).view(1, 3, 1, 1)
        self.results: dict[str, Callable[[], Any]] = {
            "forward": self.forward,
            "gradient": self.gradient,
            "grad_cam_mask": self.grad_cam(self.trainable),
            "grad_cam_frozen": self.grad_cam(self.half_frozen),
            "opti_cam": self.opti_cam,
            "insertion_deletion": lambda: [self.curve(True), self.curve(False)],
        }

    def logits(self, images: Any) -> Any:
        return self.network((images - self.mean) / self.deviation)

    def forward(self) -> Any:
        with self.torch.inference_mode():
            return self.logits(self.images)

    def gradient(self) -> Any:
        mask = self.torch.ones_like(self.images[:, :1], requires_grad=True)
        logits = self.logits(self.images * mask)
        logits.gather(1, self.labels[:, None]).sum().backward()
        return mask.grad[:, 0]

    def grad_cam(self, network: Any) -> Callable[[], Any]:
        """Give pytorch-grad-cam's own call, with its hooks on a copy of the network."""
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        explain = GradCAM(model=network, target_layers=[last_maps(network)])
        targets = [ClassifierOutputTarget(int(label)) for label in self.labels]

        def run() -> Any:
            normalised = (self.images - self.mean) / self.deviation
            return explain(input_tensor=normalised, targets=targets)

        return run

    def opti_cam(self) -> Any:
        """Search as the paper says: Zhang et al., CVIU 248 (2024), Eq. 8-10."""
        torch = self.torch
        maps = self.clean_maps()
        weights = torch.zeros(maps.shape[:2], requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=LEARNING_RATE)
        for _ in range(self.settings["steps"]):
            mask = self.mask_of(self.combine(weights, maps))
            logits = self.logits(self.images * mask)
            loss = -logits.gather(1, self.labels[:, None]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return self.combine(weights, maps)

    def clean_maps(self) -> Any:
        kept: list[Any] = []
        hook = last_maps(self.network).register_forward_hook(
            lambda module, inputs, output: kept.append(output)
        )
        with self.torch.no_grad():
            self.logits(self.images)
        hook.remove()
        return kept[0]

    def combine(self, weights: Any, maps: Any) -> Any:
        return (weights.softmax(1)[:, :, None, None] * maps).sum(1)

    def enlarge(self, saliency: Any) -> Any:
        return self.torch.nn.functional.interpolate(
            saliency[:, None],
            size=self.images.shape[2:],
            mode="bilinear",
            align_corners=False,
        )

    def mask_of(self, saliency: Any) -> Any:
        enlarged = self.enlarge(saliency)
        low = enlarged.amin((1, 2, 3), keepdim=True)
        high = enlarged.amax((1, 2, 3), keepdim=True)
        return (enlarged - low) / (high - low)

    def curve(self, insert: bool) -> Any:
        """Give the area under the insertion or deletion curve on black."""
        torch = self.torch
        steps = self.settings["curve_steps"]
        with torch.inference_mode():
            flat = self.enlarge(self.maps).flatten(1)
            order = flat.argsort(dim=1, descending=True, stable=True)
            ranks = order.argsort(dim=1).view(len(flat), 1, *self.images.shape[2:])
            points = []
            for count in np.round(np.linspace(0, flat.shape[1], steps + 1)).astype(int):
                shown = (ranks < int(count)) == insert
                probability = self.logits(self.images * shown).softmax(1)
                points.append(probability.gather(1, self.labels[:, None])[:, 0])
            return torch.trapezoid(torch.stack(points), dim=0) / steps

    def methods(self) -> list[str]:
        return list(self.results)

    def first_call(self, method: str) -> float:
        """Give the time of a call; nothing compiles here, so few steps are enough."""
        steps, self.settings["steps"] = self.settings["steps"], WARM_STEPS
        taken = protocol.seconds(self.results[method])
        self.settings["steps"] = steps
        return taken

    def time(self, method: str, calls: int) -> float:
        """Give the median time of one call."""
        return protocol.median_seconds(self.results[method], calls)

    def save_results(self, path: str, names: Sequence[str]) -> None:
        """Write what some methods give, for comparison with the other side."""
        arrays: dict[str, Any] = {}
        for name in names:
            result = self.results[name]()
            if name == "insertion_deletion":
                arrays["insertion"], arrays["deletion"] = map(np.asarray, result)
            else:
                arrays["logits" if name == "forward" else name] = np.asarray(result)
        np.savez(path, **arrays)

    def peak(self) -> dict[str, float]:
        """Give the peak of resident memory."""
        return {"process_mebibytes": protocol.peak_mebibytes()}


def last_maps(network: Any) -> Any:
    """Give the module whose output are the last maps before pooling."""
    return network.features[-1] if hasattr(network, "features") else network.layer4[-1]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    names = "first_call describe take_batch methods time save_results peak"
    protocol.serve_session(Session, names.split())


if __name__ == "__main__":
    main()

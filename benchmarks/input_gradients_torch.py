"""The other side of the benchmark of interpretable gradients: torch's double backward.

Runs in an environment of its own; see README.md. The network is ours in torch,
and the guided rule is a function of its own.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import protocol
import torch
from torch import nn

WEIGHTS = {"plain": 0.0, "interpretable gradients": 7.5e-3}


class Guided(torch.autograd.Function):
    """Pass gradients back where both the input and they are positive."""

    @staticmethod
    def forward(context: Any, values: Any) -> Any:
        context.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(context: Any, gradient: Any) -> Any:
        (values,) = context.saved_tensors
        return gradient.clamp(min=0) * (values > 0)


def rectify(values: Any, guided: bool) -> Any:
    return Guided.apply(values) if guided else nn.functional.relu(values)


class Block(nn.Module):
    """Add two convolutions to what comes in, resized without parameters."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.stride, self.added = stride, filters - channels
        self.first = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(filters) for _ in range(2)])

    def forward(self, values: Any, guided: bool) -> Any:
        short = values[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        short = nn.functional.pad(short, (0, 0, 0, 0, half, self.added - half))
        inner = rectify(self.norms[0](self.first(values)), guided)
        return rectify(self.norms[1](self.second(inner)) + short, guided)


class Network(nn.Module):
    """A residual network for CIFAR-10."""

    def __init__(self, depth: int):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, channels = [], 16
        for filters in (16, 32, 64):
            for number in range((depth - 2) // 6):
                stride = 2 if filters > 16 and number == 0 else 1
                blocks.append(Block(channels, filters, stride))
                channels = filters
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Linear(64, 10)

    def forward(self, values: Any, guided: bool = False) -> Any:
        values = rectify(self.norm(self.stem(values)), guided)
        for block in self.blocks:
            values = block(values, guided)
        return self.classifier(values.mean((2, 3)))


class Session:
    """Hold a network for each objective, and a batch."""

    def __init__(self, settings: dict[str, Any]):
        torch.set_num_threads(settings["threads"])
        random = np.random.default_rng(0)
        images = random.uniform(-1, 1, (settings["batch"], 3, 32, 32))
        self.images = torch.from_numpy(images.astype(np.float32))
        self.labels = torch.arange(settings["batch"]) % 10
        self.calls = {
            name: self._step(settings["depth"], weight)
            for name, weight in WEIGHTS.items()
        }

    def _step(self, depth: int, weight: float) -> Callable[[], Any]:
        network = Network(depth)
        norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
        learner = torch.optim.SGD(
            network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True
        )

        def gradient(guided: bool, further: bool) -> Any:
            images = self.images.clone().requires_grad_(True)
            for norm in norms:  # Their statistics move once.
                norm.momentum = 0.0 if guided else 0.1
            loss = nn.functional.cross_entropy(network(images, guided), self.labels)
            found = torch.autograd.grad(loss, images, create_graph=further)
            return loss, found[0].flatten(1)

        def step() -> Any:
            if weight:
                loss, plain = gradient(False, True)
                _, guided = gradient(True, False)
                alike = nn.functional.cosine_similarity(plain, guided.detach())
                loss = loss + weight * (1 - alike).mean()
            else:
                logits = network(self.images)
                loss = nn.functional.cross_entropy(logits, self.labels)
            learner.zero_grad()
            loss.backward()
            learner.step()
            return loss.item()

        return step

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        found = {name: metadata.version(name) for name in ("torch", "numpy")}
        versions = {"python": platform.python_version()} | found
        return {"versions": versions, "threads": torch.get_num_threads()}

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        return protocol.both_seconds(self.calls[method], calls)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    protocol.serve_session(Session, "describe methods time".split())


if __name__ == "__main__":
    main()

"""The other side of the benchmark of CA-Stream: the straightforward loop in torch.

Runs in an environment of its own; see README.md. A step passes images through the
frozen backbone, the query through the stages, and back through the query's path.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import platform
from importlib import metadata
from typing import Any

import numpy as np
import protocol

# Modules of torchvision's `features` whose inputs are what ours of these names get.
PLACES = {f"block{number}": number for number in range(1, 18)}
OWN = ("block1", "block2", "block4", "block7", "block14")


class Session:
    """Hold a frozen MobileNetV2 of torchvision, and one stream for each row."""

    def __init__(self, settings: dict[str, Any]):
        import torch
        from torchvision.models import mobilenet_v2

        self.torch, classes = torch, settings["classes"]
        torch.set_num_threads(settings["threads"])
        self.network = mobilenet_v2(num_classes=classes).eval().requires_grad_(False)
        random = np.random.default_rng(0)
        side, count = settings["side"], settings["batch"]
        images = random.uniform(-1, 1, (count, 3, side, side))
        self.images = torch.from_numpy(images.astype(np.float32))
        self.labels = torch.from_numpy(random.integers(0, classes, count))
        self.calls = {
            name: self._stream(tuple(stages) or OWN)
            for name, stages in settings["stages"].items()
        }

    def _stream(self, stages: tuple[str, ...]) -> Any:
        torch = self.torch
        places = [PLACES[stage] for stage in stages]
        with torch.inference_mode():
            widths = [maps.shape[1] for maps in self._maps(self.images[:1], places)]
        query = torch.nn.Parameter(torch.randn(widths[0]) + 1)
        links = torch.nn.ModuleList(
            torch.nn.Linear(inputs, outputs)
            for inputs, outputs in zip(widths, (*widths[1:], widths[-1]), strict=True)
        )
        optimizer = torch.optim.AdamW([query, *links.parameters()], lr=1e-3)

        def step() -> None:
            with torch.no_grad():
                stages = self._maps(self.images, places)
            found = query.expand(len(self.images), -1)
            for maps, link in zip(stages, links, strict=True):
                cells = maps.flatten(2)
                scores = torch.einsum("bcn,bc->bn", cells, found)
                shares = (scores * cells.shape[1] ** -0.5).softmax(1)
                found = link(torch.einsum("bcn,bn->bc", cells, shares))
            logits = self.network.classifier(found)
            loss = torch.nn.functional.cross_entropy(logits, self.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    def _maps(self, images: Any, places: list[int]) -> list[Any]:
        maps, found = images, []
        for number, block in enumerate(self.network.features):
            if number in places:
                found.append(maps)
            maps = block(maps)
        return [*found, maps]

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        found = {n: metadata.version(n) for n in ("torch", "torchvision", "numpy")}
        return {
            "versions": {"python": platform.python_version()} | found,
            "threads": self.torch.get_num_threads(),
        }

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

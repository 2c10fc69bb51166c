"""Our side of the benchmark of CA-Stream: a step of `unlir train` on kept features."""

import argparse
import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import protocol

from unlir_jax.features import cache
from unlir_jax.runtime import config, mesh
from unlir_jax.training import setup as setups

CONFIG = Path(__file__).parents[1] / "configs" / "attention_pooling.py"
KEPT = 8
"""Batches whose features lie on the disk."""


class Session:
    """Hold one training for each row, and features on the disk."""

    def __init__(self, settings: dict[str, Any]):
        self.settings, self.folder = settings, tempfile.TemporaryDirectory()
        self.calls = {
            name: self._stream(name, "+".join(stages) or "auto")
            for name, stages in settings["stages"].items()
        }

    def _stream(self, name: str, stages: str) -> Callable[[], None]:
        batch, side = self.settings["batch"], self.settings["side"]
        wanted = config.load(
            f"{CONFIG}:backbone={self.settings['network']},pooling=ca_stream",
            [
                "data.source=synthetic_parts",
                f"data.options={{'classes': 6, 'image_size': {side}, 'size': 64}}",
                f"data.image_size={side}",
                "model.weights=random",
                f"model.attention_pooling.stages={stages}",
                f"batch_size={batch}",
            ],
        )
        setup = setups.prepare(wanted)
        update, _ = setups.compile_steps(setup)
        state = mesh.put_state(setup.laid, setup.state)
        module = setup.network.module
        pairs = zip(module.cells, module.pool.channels, strict=True)
        shape = (KEPT * batch, 1, 1, sum(cells * width for cells, width in pairs))
        rows = cache.training(self._features(name, shape), batch_size=batch, seed=0)
        more = {name: np.zeros(batch, np.float32) for name in ("stop", "done")}

        def step() -> None:
            nonlocal state
            given = mesh.put_batch(setup.laid, next(rows) | more)
            state, report = update(state, given)
            jax.block_until_ready(report)

        return step

    def _features(self, name: str, shape: tuple[int, ...]) -> cache.Features:
        path = Path(self.folder.name) / f"{name}.npy"
        random = np.random.default_rng(0)
        kept = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, len(kept), 16):
            kept[start : start + 16] = random.random((16, *shape[1:]), np.float32)
        labels = random.integers(0, 6, len(kept)).astype(np.int32)
        kept = np.load(path, mmap_mode="r")
        return cache.Features(kept, labels, np.ones(len(kept), np.float32))

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("jax", "jaxlib", "flax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        return {"versions": {"python": platform.python_version()} | found}

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

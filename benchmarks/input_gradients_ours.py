"""Our side of the benchmark of interpretable gradients."""

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

from unlir_jax.features import batches
from unlir_jax.runtime import config, mesh
from unlir_jax.training import setup as setups

CONFIG = Path(__file__).parents[1] / "configs" / "interpretable_gradients.py"
WEIGHTS = {"plain": 0.0, "interpretable gradients": 7.5e-3}


class Session:
    """Hold the compiled steps of `unlir train` and a batch."""

    def __init__(self, settings: dict[str, Any]):
        random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "images.npz"
            shape = settings["batch"], 32, 32, 3
            drawn = {
                f"x_{part}": random.integers(0, 256, shape, np.uint8)
                for part in ("train", "test")
            }
            labels = np.arange(len(drawn["x_train"]), dtype=np.uint8) % 10
            drawn |= {"y_train": labels, "y_test": labels}
            with place.open("wb") as file:
                np.savez(file, allow_pickle=False, **drawn)
            self.calls = {
                name: self._step(settings, place, weight)
                for name, weight in WEIGHTS.items()
            }

    def _step(
        self, settings: dict[str, Any], place: Path, weight: float
    ) -> Callable[[], Any]:
        model = f"cifar_resnet{settings['depth']}"
        setup = setups.prepare(
            config.load(
                f"{CONFIG}:model={model},weight={weight}",
                [f"data.path={place}", f"batch_size={settings['batch']}"],
            )
        )
        update, _ = setups.compile_steps(setup)
        reader = batches.of_pictures(setup.data, setup.settings, **setup.frame)
        batch = mesh.put_batch(setup.laid, next(reader.training(0)))
        held = [mesh.put_state(setup.laid, setup.state)]

        def step() -> Any:
            held[0], report = update(held[0], batch)
            return report

        return step

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("jax", "jaxlib", "flax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        return {"versions": {"python": platform.python_version()} | found}

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

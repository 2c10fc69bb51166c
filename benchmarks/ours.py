"""Our side of the benchmark: one process that runs and times unlir_jax."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import protocol

from unlir_jax import maps, metrics, saliency, split
from unlir_jax.data import image_files
from unlir_jax.models import filling, pretrained
from unlir_jax.runtime import allocator

MAP_SIDE = 7


class Session:
    """Hold one network and one batch between commands."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        # Before the first computation, as `load` itself does.
        self.kept = allocator.keep_freed_memory()
        self.network = pretrained.load(
            settings["model"],
            settings["weights"],
            dtype=jnp.dtype(settings["dtype"]) if settings["dtype"] else None,
            fold=settings["fold"],
        )

    def describe(self) -> dict[str, Any]:
        """Say what runs here and on what."""
        names = ("jax", "jaxlib", "flax", "optax", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        device = jax.devices()[0]
        return {
            "versions": {"python": platform.python_version()} | found,
            "backend": jax.default_backend(),
            "device": device.device_kind,
            "allocator_keeps_memory": self.kept,
            "folded_norms": self.settings["fold"],
            "dtype": self.settings["dtype"] or "float32",
            "network": self.network.name,
            "layer": self.network.layer,
            "weights": Path(self.network.source).name,
            "weights_sha256": self.network.sha256,
        }

    def make_batch(self, folder: str | None, count: int, path: str) -> dict[str, Any]:
        """Write the batch that both sides use: images, labels and maps to score."""
        random = np.random.default_rng(0)
        size = self.network.image_size
        if folder is None:
            images = _synthetic(random, count, size)
            names = ["synthetic, seed 0"]
        else:
            images, names = self._read(folder, count)
        forward = split.whole(self.network.model)
        logits = np.asarray(forward(self.network.variables, images), np.float32)
        # Metrics are timed on maps that no method made; it does not change their time.
        scored = random.uniform(size=(count, MAP_SIDE, MAP_SIDE)).astype(np.float32)
        np.savez(path, images=images, labels=logits.argmax(1), maps=scored)
        return {"pictures": names, "size": size}

    def _read(self, folder: str, count: int) -> tuple[np.ndarray, list[str]]:
        found = image_files.find_pictures([folder]).files
        if not found:
            raise ValueError(
                f"`--images` {folder!r} holds no picture; expected a folder."
            )
        chosen = [found[index % len(found)] for index in range(count)]
        images = np.stack([self.network.preprocess(path) for path in chosen])
        return images, [path.name for path in chosen]

    def take_batch(self, path: str) -> None:
        """Read the batch, and build every method that is timed."""
        with np.load(path) as batch:
            images, labels, scored = (
                jnp.asarray(batch[name]) for name in ("images", "labels", "maps")
            )
        self.results = _methods(self.network, images, labels, scored, self.settings)

    def methods(self) -> list[str]:
        return list(self.results)

    def first_call(self, method: str) -> float:
        """Give the time of a call that compiles."""
        return protocol.seconds(self._call(method))

    def time(self, method: str, calls: int) -> float:
        """Give the median time of one call."""
        return protocol.median_seconds(self._call(method), calls)

    def _call(self, method: str) -> Callable[[], object]:
        return lambda: jax.block_until_ready(self.results[method]())

    def save_results(self, path: str, names: Sequence[str]) -> None:
        """Write what some methods give, for comparison with the other side."""
        arrays: dict[str, Any] = {}
        for name in names:
            for key, leaf in _named(name, self.results[name]()).items():
                arrays[key] = np.asarray(leaf, np.float32)
        np.savez(path, **arrays)

    def peak(self) -> dict[str, float]:
        """Give the peak of resident memory and, where it is known, of the device's."""
        found = {"process_mebibytes": protocol.peak_mebibytes()}
        statistics = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            found["device_mebibytes"] = statistics["peak_bytes_in_use"] / 2**20
        return found


def _methods(
    network: pretrained.Pretrained,
    images: jax.Array,
    labels: jax.Array,
    scored: jax.Array,
    settings: dict[str, Any],
) -> dict[str, Callable[[], Any]]:
    model, variables = network.model, network.variables
    size = images.shape[1:3]
    forward = split.whole(model)

    @jax.jit
    def gradient(variables: Any, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(mask: jax.Array) -> jax.Array:
            logits = forward(variables, maps.apply_mask(images, mask))
            return jnp.sum(jnp.take_along_axis(logits, labels[:, None], axis=1))

        return jax.value_and_grad(total)(mask)

    @jax.jit
    def to_mask(raw: jax.Array) -> jax.Array:
        return maps.normalize(maps.resize(raw, size), "range")

    grad_cam = saliency.grad_cam(model)
    opti_cam = saliency.opti_cam(model, steps=settings["steps"])
    if settings["weights"] == filling.RANDOM:
        # An untrained network's logit may move by less than the tolerance, and a search
        # that stops early cannot be compared with so many steps.
        opti_cam = saliency.opti_cam(model, steps=settings["steps"], tolerance=0.0)
    # Black for both: another background costs the same forward passes.
    curves = [
        build(model, baseline="black", steps=settings["curve_steps"])
        for build in (metrics.insertion, metrics.deletion)
    ]
    ones = jnp.ones(images.shape[:3])
    batch = (variables, images, labels)
    return {
        "forward": lambda: forward(variables, images),
        "gradient": lambda: gradient(variables, ones),
        "grad_cam": lambda: grad_cam(*batch),
        "grad_cam_mask": lambda: to_mask(grad_cam(*batch)),
        "opti_cam": lambda: opti_cam(*batch),
        "insertion_deletion": lambda: [curve(*batch, scored) for curve in curves],
    }


def _named(method: str, result: Any) -> dict[str, Any]:
    if method == "forward":
        return {"logits": result}
    if method == "gradient":
        return {"gradient": result[1]}
    if method == "insertion_deletion":
        inserted, deleted = result
        return {"insertion": inserted["insertion"], "deletion": deleted["deletion"]}
    return {method: result}


def _synthetic(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draw smooth colourful waves with some noise, `[count, size, size, 3]`."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    directions = random.normal(size=(count, 3, 2)) * 9
    waves = np.sin(
        directions[..., 0, None, None] * rows + directions[..., 1, None, None] * columns
    )
    pictures = 0.5 + 0.35 * waves.transpose(0, 2, 3, 1)
    noise = 0.05 * random.normal(size=pictures.shape)
    return np.clip(pictures + noise, 0, 1).astype(np.float32)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    names = "first_call describe take_batch methods time save_results peak"
    protocol.serve_session(Session, ["make_batch", *names.split()])


if __name__ == "__main__":
    main()

"""The third side of the benchmark of attacks: foolbox on JAX.

Runs in an environment that has foolbox and this library's packages; see README.md. The
network is ours, so that only what is around it differs.
"""

# foolbox is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import protocol
from attacks_ours import drawn, features, head, read
from attacks_torch import foolbox_calls


class Session:
    """Hold a network, images, and one attack for each row."""

    def __init__(self, settings: dict[str, Any]):
        import foolbox

        variables = read(settings["weights"])

        def logits(images: Any) -> jax.Array:
            return head(variables, features(variables, images))

        self.jitted = settings["jitted"]
        run = jax.jit(logits) if self.jitted else logits
        images = jnp.asarray(drawn(settings["batch"]))
        labels = jnp.argmax(run(images), axis=1)
        model = foolbox.JAXModel(run, bounds=(0, 1))
        self.calls = foolbox_calls(model, images, labels, settings["steps"])

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("jax", "foolbox", "eagerpy", "numpy")
        found = {name: importlib.metadata.version(name) for name in names}
        versions = {"python": platform.python_version()} | found
        return {"versions": versions, "jitted": self.jitted}

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

"""Attack stored images by Carlini and Wagner of adv-lib, for `attacks_distortion.py`.

    torch-attacks/bin/python benchmarks/attacks_distortion_torch.py --network FILE.npz \
        --images STORED.npz --output JUDGED.npz --steps 500

The network is ResNet-20 for CIFAR-10. README.md says what the environment holds.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attacks_torch
import numpy as np


def main(arguments: Sequence[str] | None = None) -> int:
    import torch
    from adv_lib import attacks

    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--network", type=Path, required=True)
    add("--images", type=Path, required=True, help="what `--store` has written")
    add("--output", type=Path, required=True, help="for `--judge`")
    add("--steps", type=int, default=500, help="of a constant; default: %(default)s")
    add("--rate", type=float, default=0.01, help="default: %(default)s")
    add("--searches", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(arguments)
    network, gradients = loaded(options.network), 0

    def run(images: Any) -> Any:
        nonlocal gradients
        gradients += 1
        return network(images)

    with np.load(options.images) as file:
        images = torch.from_numpy(file["images"].transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(file["labels"].astype(np.int64))
    found = attacks.carlini_wagner_l2(
        *(run, images, labels),
        initial_const=1.0,
        learning_rate=options.rate,
        binary_search_steps=options.searches,
        max_iterations=options.steps,
    )
    adversarial = found.detach().numpy().transpose(0, 2, 3, 1)
    passes = np.full(len(images), gradients)
    np.savez(options.output, adversarial=adversarial, gradients=passes)
    return 0


def loaded(file: Path) -> Any:
    """Give the network, whose parameters need no derivative."""
    import torch

    with np.load(file) as stored:
        weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    return attacks_torch.made(weights).eval().requires_grad_(False)


if __name__ == "__main__":
    sys.exit(main())

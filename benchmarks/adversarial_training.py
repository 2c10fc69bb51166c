"""Time steps of adversarial training, in steps of plain training.

python benchmarks/adversarial_training.py --methods fast:1,pgd:3,pgd:7

A method is followed by its number of gradients. All take turns on one batch of noise;
the table has the processor's milliseconds, medians of the rounds, and their ratio.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import optax

from unlir_jax import objectives
from unlir_jax.models import pretrained
from unlir_jax.objectives import network
from unlir_jax.objectives.objective import Batch, Objective
from unlir_jax.training import optim
from unlir_jax.training import state as states

CLASSES = 10
L2 = "ddn", "boundary_projection"


def noise(count: int, side: int) -> Batch:
    shape = count, side, side, 3
    return {
        "image": np.random.default_rng(0).integers(0, 256, shape, np.uint8),
        "label": (np.arange(count) % CLASSES).astype(np.int32),
        "weight": np.ones(count, np.float32),
        "position": np.arange(count, dtype=np.int32),
        "index": np.arange(count),
    }


def compiled(objective: Objective, variables: Any, batch: Batch) -> Callable[[], Any]:
    rules = optim.rules(variables["params"], ((".*", {}),))
    optimizer = optax.sgd(0.1)
    begun = states.create(variables, rules, optimizer)
    update = jax.jit(states.make_update(objective, optimizer, rules, seed=0))
    jax.block_until_ready(update(begun, batch))
    return lambda: jax.block_until_ready(update(begun, batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--methods", default="fast:1,pgd:3,pgd:7,trades:3,mart:3,ddn:3")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    loaded = pretrained.load(options.model, "random", num_classes=CLASSES)
    variables = jax.tree.map(np.asarray, dict(loaded.variables))
    apply, batch = network.whole(loaded.module), noise(options.batch, options.side)
    sides = {"plain": compiled(objectives.classify(apply, CLASSES), variables, batch)}
    for name in options.methods.split(","):
        method, _, steps = name.partition(":")
        made = objectives.adversarial(
            *(apply, CLASSES),
            **{"method": method, "steps": int(steps or 0)},
            **({"norm": "l2", "epsilon": 0.5} if method in L2 else {}),
        )
        sides[name] = compiled(made, variables, batch)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            begin = time.process_time()
            run()
            found[name].append(1000 * (time.process_time() - begin))
    print("| method | ms | plain steps |\n|---|---:|---:|")
    for name, times in found.items():
        ratio = [each / own for each, own in zip(times, found["plain"], strict=True)]
        middle = statistics.median(times), statistics.median(ratio)
        print(f"| {name} | {middle[0]:.0f} | {middle[1]:.2f} |")


if __name__ == "__main__":
    main()

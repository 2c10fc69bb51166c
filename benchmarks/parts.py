"""Measure what deciding by parts costs beyond the backbone, and how long fitting takes.

    python benchmarks/parts.py WORKDIR --pictures 3000

WORKDIR is a finished training of a part network. Three sides take turns on the same
random images: the backbone's maps alone, the backbone with its own classifier, and
the part network. With `--pictures N` parts
and the ridge regression are fitted to N maps of random features, as a training on
cached features does, and the memory that this takes is given. Prints JSON.
"""

import argparse
import json
import resource
import statistics
import time

import jax
import numpy as np

import unlir_jax
from unlir_jax.parts import start
from unlir_jax.storage import files


def take_turns(sides, rounds):
    """Time each side in each round; the first round compiles and does not count."""
    times = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            begun = time.perf_counter()
            jax.block_until_ready(run())
            if number:
                times[name].append(time.perf_counter() - begun)
    return times


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workdir")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=0)
    options = parser.parse_args()
    network = unlir_jax.load(options.workdir, fold=True)
    module, variables = network.module, network.variables
    side = network.image_size
    random = np.random.default_rng(0)
    images = random.random((options.batch, side, side, 3), np.float32)
    trunk = jax.jit(lambda v, x: module.apply(v, x, method="features"))
    whole = jax.jit(lambda v, x: module.apply(v, x))
    # Its weights don't matter for the time.
    plain = unlir_jax.load(network.name, "random", fold=True)
    maps_of = jax.jit(lambda v, x: plain.module.apply(v, x, method="features"))
    usual = jax.jit(lambda v, x: plain.module.apply(v, x))
    times = take_turns(
        {
            "maps": lambda: maps_of(plain.variables, images),
            "usual": lambda: usual(plain.variables, images),
            "parts": lambda: whole(variables, images),
        },
        options.rounds,
    )

    def beyond(name):
        pairs = zip(times["parts"], times[name], strict=True)
        return statistics.median(a / b for a, b in pairs) - 1

    found = {
        "versions": files.versions(),
        "model": network.name,
        "parts": module.classifier.parts,
        "milliseconds_per_image": {
            name: 1000 * statistics.median(values) / options.batch
            for name, values in times.items()
        },
        "cost_beyond_maps": beyond("maps"),
        "cost_beyond_usual_classifier": beyond("usual"),
    }
    if options.pictures:
        shape = jax.eval_shape(trunk, variables, images).shape[1:]
        maps = np.maximum(
            random.standard_normal((options.pictures, *shape), np.float32), 0
        )
        labels = np.arange(options.pictures) % module.num_classes
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        start.start(module, variables, maps, labels, key=jax.random.key(0))
        found["fit"] = {
            "pictures": options.pictures,
            "seconds": time.perf_counter() - begun,
            "peak_memory_added_in_mb": (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            )
            / 1024,
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

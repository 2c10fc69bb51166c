"""Measure what pruned channels cost in accuracy and save in time.

    python benchmarks/pruning.py IMAGES --model mobilenet_v2 --weights FILE

IMAGES is a folder of images: `NNN_name.jpg` with the class's number, or one folder
for each class with the name that the network has for it. Every other image only
calibrates (no labels are used), unless `--calibrate FOLDER` gives others for it; the
rest is tested. Networks take turns on one batch, so each time is a ratio against the
unpruned network of the same run; both have their norms folded. Prints a table, or JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import unlir_jax
from unlir_jax import pruning
from unlir_jax.data import image_files as pictures
from unlir_jax.models import fold
from unlir_jax.storage import files as record

SUFFIXES = (".jpg", ".jpeg", ".png")


def files_of(folder):
    """List the images of a folder and of its folders."""
    names = (Path(folder) / name for name in pictures.walk(folder))
    found = sorted(p for p in names if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"error: no picture in {str(folder)!r}")
    return found


def label_of(path, class_names):
    """Read the class off an image's folder or name."""
    if path.parent.name in class_names:
        return class_names.index(path.parent.name)
    number = path.name.partition("_")[0]
    if not number.isdecimal() or int(number) >= len(class_names):
        raise SystemExit(f"error: neither the folder nor the name of {path} is a class")
    return int(number)


def batches_of(network, files, size):
    """Read images in batches; the last one may be smaller."""
    for start in range(0, len(files), size):
        yield np.stack([network.preprocess(f) for f in files[start : start + size]])


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


def compiled(module, variables):
    """Compile a network with its norms folded."""
    module, variables = fold.fold_batchnorm(module, variables)
    variables = jax.tree.map(jnp.asarray, variables)
    return jax.jit(lambda images: module.apply(variables, images))


def score(network, kind, calibration):
    """Measure the network on images without labels, and score its channels."""
    module, variables = network.module, network.variables
    moments = pruning.measure(module, variables, calibration)
    gradients = {}
    if kind == "taylor":
        whole = jax.jit(module.apply)
        for images in calibration:
            labels = jnp.argmax(whole(variables, images), axis=-1)
            found = pruning.gate_gradients(module, variables, images, labels)
            for layer, values in found.items():
                gradients.setdefault(layer, []).append(np.asarray(values))
    gradients = {name: np.concatenate(values) for name, values in gradients.items()}
    graph = pruning.graph(module)
    return moments, pruning.scores(
        variables, graph, kind, moments=moments, gradients=gradients or None
    )


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("--model", default="mobilenet_v2", help="or a workdir")
    parser.add_argument("--weights")
    parser.add_argument("--calibrate", help="a folder of pictures")
    parser.add_argument("--kind", default="activation", choices=pruning.KINDS)
    parser.add_argument("--scope", default="global", choices=("global", "layer"))
    parser.add_argument("--keep-at-least", type=int, default=8)
    parser.add_argument(
        "--compensate", default="linear", choices=("linear", "mean", "none")
    )
    parser.add_argument("--shares", default="0.1,0.3,0.5,0.7")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    network = unlir_jax.load(options.model, options.weights)
    files = files_of(options.pictures)
    tested, others = (files, None) if options.calibrate else (files[1::2], files[::2])
    others = others or files_of(options.calibrate)
    calibration = list(batches_of(network, others, options.batch))
    moments, scores = score(network, options.kind, calibration)
    shares = [float(share) for share in options.shares.split(",")]
    wanted = None if options.compensate == "none" else moments
    kept = {0.0: network}
    for share in shares:
        choice = pruning.choose(
            scores, share, options.scope, keep_at_least=options.keep_at_least
        )
        kind = "mean" if options.compensate == "mean" else "linear"
        kept[share] = pruning.prune(network, choice, wanted, kind)
    runs = {
        share: compiled(each.module, each.variables) for share, each in kept.items()
    }
    labels = np.array([label_of(path, network.class_names) for path in tested])
    right = dict.fromkeys(runs, 0)
    for number, images in enumerate(batches_of(network, tested, options.batch)):
        start = number * options.batch
        for share, run in runs.items():
            guesses = np.argmax(run(images), axis=-1)
            right[share] += int(np.sum(guesses == labels[start : start + len(guesses)]))
    side = network.image_size
    images = np.random.default_rng(0).random((options.batch, side, side, 3), np.float32)
    sides = {share: lambda run=run: run(images) for share, run in runs.items()}
    times = take_turns(sides, options.rounds)
    whole = pruning.flops(network.module, side)
    rows = []
    for share, each in kept.items():
        cost = pruning.flops(each.module, side)
        pairs = zip(times[0.0], times[share], strict=True)
        rows.append(
            {
                "share": share,
                "accuracy": right[share] / len(labels),
                "million_multiply_adds": cost / 1e6,
                "multiply_adds_ratio": cost / whole,
                "milliseconds_per_image": 1000
                * statistics.median(times[share])
                / options.batch,
                "speed_up": statistics.median(a / b for a, b in pairs),
            }
        )
    if options.json:
        document = {"versions": record.versions(), "model": network.name}
        document |= {"pictures": len(labels), "options": vars(options), "rows": rows}
        print(json.dumps(document, indent=1))
        return
    print(f"{network.name}, {len(labels)} images, {options.kind}, {options.scope}")
    print("share  accuracy  multiply-adds     ms/image  speed-up")
    for row in rows:
        print(
            f"{row['share']:5.2f}  {row['accuracy']:8.3f}  "
            f"{row['million_multiply_adds']:7.1f} M ({row['multiply_adds_ratio']:4.2f})"
            f"  {row['milliseconds_per_image']:8.2f}  {row['speed_up']:8.2f}"
        )


if __name__ == "__main__":
    main()

"""Prune a network that was adapted to a task; measure the accuracy and the speed.

    unlir train --config configs/few_shot.py:k=24,method=filters_single \
        --config.data.path=DIR --config.model.weights=FILE --config.draws=1 --workdir W
    python benchmarks/pruning_task.py W

W is the workdir of that command. Its first adapter is multiplied into the network. Its
inner channels (between expansion and projection, of all blocks) are removed in rounds,
while filter weights and the head learn on the images of the draw, see
`iterative_pruning`. `--steps 0,0,0` learns nothing. Training images
that were not drawn are for the choice of settings (`--on held_out`); `--on test`
reports; one view of each image. Networks take turns on one batch, so each time is a
ratio against the unpruned network of the same run; norms are folded. Prints a table, or
JSON.
"""

import argparse
import functools
import io
import json
import statistics
import time
from pathlib import Path
from typing import Any, cast

import iterative_pruning
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import figure as figures
from matplotlib.backends import backend_agg

from unlir_jax import adapters, filters, pruning
from unlir_jax.data import pipeline, source, splits
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training
from unlir_jax.few_shot import settings as all_settings
from unlir_jax.filters import sparsity
from unlir_jax.models import fold, pretrained
from unlir_jax.storage import files


def read(data, places, size, crop):
    """Read images in 8 bit, and their classes."""
    batches = list(
        pipeline.evaluation(
            source.subset(data, places),
            batch_size=50,
            image_size=size,
            crop=crop,
            workers=0,
            threads=2,
            strict=True,
        )
    )
    found = {
        name: np.concatenate([batch[name] for batch in batches])
        for name in ("image", "label", "weight")
    }
    kept = found["weight"] > 0
    return found["image"][kept], found["label"][kept].astype(int)


def opened(workdir):
    """Open what a workdir of learning from few images is about."""
    folder = Path(workdir)
    plain = json.loads((folder / "config.json").read_text("utf-8"))
    settings = cast(Any, all_settings.few_shot())
    settings.update(plain)
    network = pretrained.load(settings.model.name, settings.model.weights)
    data = splits.open_splits(settings.data)
    drawn = json.loads((folder / "draws" / "000.json").read_text("utf-8"))["pictures"]
    names = {data.train.name(place): place for place in range(data.train.size)}
    chosen = np.array([names[name] for name in drawn])
    file = sorted((folder / "adapters").glob("0_*.safetensors"))[0]
    return settings, network, data, chosen, adapters.load(file)


def compiled(adapted):
    """Compile all of an adapted network, its norms folded."""
    decide = iterative_pruning.decision(adapted)
    module, variables = fold.fold_batchnorm(adapted.module, adapted.variables)
    variables = jax.tree.map(jnp.asarray, variables)
    return jax.jit(
        lambda images: decide(
            cast(jax.Array, module.apply(variables, images, method="features"))
        )
    )


def take_turns(sides, images, rounds):
    """Time each network in each round; the first round compiles and does not count."""
    times = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            begun = time.perf_counter()
            jax.block_until_ready(run(images))
            if number:
                times[name].append(time.perf_counter() - begun)
    return times


def measured(kept, pictures, size, options):
    """Test each network, and time it against the first."""
    runs = {share: compiled(each) for share, each in kept.items()}
    batch = np.random.default_rng(0).random((options.batch, size, size, 3), np.float32)
    times = take_turns(runs, batch, options.rounds)
    whole = pruning.flops(kept[0.0].module, size)
    rows = []
    for share, each in kept.items():
        right = {
            name: float(
                np.mean(iterative_pruning.probabilities(each, x).argmax(1) == labels)
            )
            for name, (x, labels) in pictures.items()
        }
        cost = pruning.flops(each.module, size)
        pairs = zip(times[0.0], times[share], strict=True)
        rows.append(
            {
                "share": share,
                "accuracy": right,
                "million_multiply_adds": cost / 1e6,
                "multiply_adds_ratio": cost / whole,
                "milliseconds_per_image": 1000
                * statistics.median(times[share])
                / options.batch,
                "speed_up": statistics.median(a / b for a, b in pairs),
                "widths": list(pruning.Choice(pruning.graph(each.module), {}).widths),
            }
        )
    return rows


def drawn(rows):
    """Draw accuracy against multiply-adds and against speed, as a PNG."""
    figure = figures.Figure((9.0, 3.6), dpi=110, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for panel, what, title in (
        (left, "million_multiply_adds", "million multiply-adds a picture"),
        (right, "speed_up", "times as fast as the whole network"),
    ):
        for name in rows[0]["accuracy"]:
            values = [row[what] for row in rows]
            heights = [100 * row["accuracy"][name] for row in rows]
            panel.plot(values, heights, "o-", markersize=4.5, label=name)
        for row in rows:
            at = row[what], 100 * min(row["accuracy"].values())
            panel.annotate(
                f"{row['share']:.0%} gone",
                at,
                (0, -13),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        panel.set_xlabel(title, fontsize=9)
        panel.margins(0.12, 0.18)
        panel.grid(alpha=0.3)
    left.set_ylabel("accuracy, %", fontsize=9)
    left.legend(frameon=False, fontsize=9)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def listed(numbers):
    """Write numbers as the options take them."""
    return ",".join(map(str, numbers))


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workdir")
    course = iterative_pruning.Course()
    parser.add_argument(
        "--shares", default=listed(course.shares), help="gone after rounds"
    )
    parser.add_argument(
        "--steps", default=listed(course.steps), help="of Adam in each round"
    )
    parser.add_argument("--kind", default=course.kind, choices=pruning.KINDS)
    parser.add_argument("--cost-power", type=float, default=course.cost_power)
    parser.add_argument("--keep-at-least", type=int, default=course.keep_at_least)
    parser.add_argument("--pictures", type=int, default=course.pictures)
    parser.add_argument("--teacher", type=float, default=course.teacher)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--penalty", default="", choices=("", "l1", "hard_concrete"))
    parser.add_argument("--penalty-weight", type=float, default=0.0)
    parser.add_argument("--no-mixing", action="store_true")
    parser.add_argument("--on", default="test", choices=("test", "held_out", "both"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", default="", help="PNG that gets the curves")
    options = parser.parse_args()
    settings, network, data, chosen, adapter = opened(options.workdir)
    size = settings.data.image_size or network.image_size
    crop = settings.data.crop or network.crop
    images, labels = read(data.train, chosen, size, crop)
    adapters.check(adapter, network.name, network.variables)
    adapted = iterative_pruning.Adapted(
        network.name,
        network.module,
        filters.fold(network.variables, adapter.weights),
        adapter.head,
        adapter_training.Plan(
            learning_rate=options.rate,
            head=adapter.metadata["head"],
            scale=adapter.metadata["scale"],
            pooling=adapter.metadata["pooling"],
        ),
    )
    course = iterative_pruning.Course(
        shares=tuple(float(share) for share in options.shares.split(",")),
        steps=tuple(int(steps) for steps in options.steps.split(",")),
        kind=options.kind,
        cost_power=options.cost_power,
        keep_at_least=options.keep_at_least,
        pictures=options.pictures,
        after=block_cut.behind(
            network.module, network.image_size, settings.model.after
        ),
        teacher=options.teacher,
        mixed=not options.no_mixing,
        penalty=sparsity.Penalty(options.penalty, options.penalty_weight, "depthwise"),
    )
    kept = {0.0: adapted}
    say = functools.partial(print, flush=True)
    begun = time.perf_counter()
    for share, each in zip(
        course.shares,
        iterative_pruning.slim(adapted, images, labels, course, say=say),
        strict=True,
    ):
        kept[share] = each
        print(f"{share:.0%} after {time.perf_counter() - begun:.0f} s", flush=True)
    others = np.setdiff1d(np.arange(data.train.size), chosen)
    # Learning from few pictures refuses data without a test.
    test = cast(source.Source, data.test)
    tested = {
        "held_out": (data.train, others),
        "test": (test, np.arange(test.size)),
    }
    if options.on != "both":
        tested = {options.on: tested[options.on]}
    pictures = {
        name: read(source, places, size, crop)
        for name, (source, places) in tested.items()
        if len(places)
    }
    rows = measured(kept, pictures, size, options)
    if options.figure:
        files.write_bytes(Path(options.figure), drawn(rows))
    if options.json:
        document = {"versions": files.versions(), "model": network.name}
        counts = {name: len(labels) for name, (_, labels) in pictures.items()}
        document |= {"pictures": counts, "options": vars(options), "rows": rows}
        print(json.dumps(document, indent=1))
        return
    counts = ", ".join(f"{len(y)} of {name}" for name, (_, y) in pictures.items())
    print(f"{network.name}, pictures: {counts}; {options.kind}")
    print("share  accuracy  multiply-adds     ms/image  speed-up")
    for row in rows:
        found = "  ".join(f"{value:.4f}" for value in row["accuracy"].values())
        print(
            f"{row['share']:5.2f}  {found}  "
            f"{row['million_multiply_adds']:7.1f} M ({row['multiply_adds_ratio']:4.2f})"
            f"  {row['milliseconds_per_image']:8.2f}  {row['speed_up']:8.2f}"
        )


if __name__ == "__main__":
    main()

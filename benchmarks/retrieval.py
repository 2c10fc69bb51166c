"""Measure whether weighted filters find images of classes that they never saw.

    python benchmarks/retrieval.py BIRDS --model mobilenet_v2 --weights FILE

BIRDS holds `train` and `test`, each with a folder for each class. The training images
of a random half of the classes give the weights. The test images of the other half then
search each other, with the frozen network and with the weighted one. `--choose` stays
within the first half: it learns from a half of that, searches the rest, and compares
`--ways` to learn. Prints a table; `--output` keeps it.

A descriptor is the pooled map at unit length, compared by cosine; `whitened`: after a
PCA whitening fitted to the training images. Intervals (95 %) belong to the paired
difference, with queries or with classes resampled.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import unlir_jax
from unlir_jax import adapters, filters
from unlir_jax.adapters import head as heads
from unlir_jax.data import image_files, preprocessing
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training, probes
from unlir_jax.metrics import retrieval as measures
from unlir_jax.models import pooling
from unlir_jax.parts import clustering
from unlir_jax.statistics import significance
from unlir_jax.storage import files as record

SIZE, CROP, WHITENED = 160, 1.0, 128
FROZEN = "frozen"


class Way(NamedTuple):
    """Say how adapters learn.

    Attributes:
        loss: `cosine`: classify by a head of cosines; `contrast`: supervised contrast.
        kinds: `flips` or `mixup` for each adapter; descriptors of several are joined.
        back: How far weights are drawn back to 1.
        steps: Number of steps of Adam.
        scale: Factor of cosines in the loss, 1 / temperature.
        rate: Learning rate.
    """

    loss: str = "cosine"
    kinds: tuple[str, ...] = ("flips",)
    back: float = 0.0
    steps: int = 200
    scale: float = heads.SCALE
    rate: float = 1e-2


WAYS = {
    "cosine": Way(),
    "mixup": Way(kinds=("mixup",)),
    "scale_30": Way(scale=30.0),
    "contrast": Way("contrast", scale=10.0),
}
BACK = (0.0, 0.25, 0.5)


class Pictures(NamedTuple):
    """Hold images at the cut, `[views, pictures, …]`, and their classes."""

    inner: np.ndarray
    labels: np.ndarray


def read(network, cut, folder, classes):
    """Look at all images of some classes, from both sides."""
    frame = preprocessing.framing(SIZE, CROP)
    pixels, labels = [], []
    for label, name in enumerate(classes):
        found = image_files.find_pictures([str(folder / name)]).files
        pixels += [np.asarray(frame(path)) for path in found]
        labels += [label] * len(found)
    rows, before = np.stack(pixels), jax.jit(cut.before)
    views = [
        block_cut.gather(before, network.variables, v) for v in (rows, rows[:, :, ::-1])
    ]
    return Pictures(np.stack(views), np.asarray(labels))


def learn(network, cut, start, seen, way, seed):
    """Learn adapters from images; weights with an axis for the adapters in front."""
    classes = int(seen.labels.max()) + 1
    plan = adapter_training.Plan(
        steps=way.steps, learning_rate=way.rate, scale=way.scale
    )
    known = adapter_training.Network(cut.after, filters.apply, network.variables)
    inner = seen.inner.reshape(-1, *seen.inner.shape[2:])
    labels = np.tile(seen.labels, len(seen.inner))
    if way.loss == "contrast":
        learnt = contrast(known, start, inner, labels, way, seed)
    else:
        frozen = jax.jit(lambda v, rows: pooling.gem(cut.after(v, rows)))
        views = [block_cut.gather(frozen, network.variables, v) for v in seen.inner]
        head = adapter_training.start_head(plan, np.stack(views), seen.labels, classes)
        learnt = adapter_training.train(
            known,
            adapter_training.Learnt(start, head),
            np.stack([inner] * len(way.kinds)),
            np.eye(classes, dtype=np.float32)[labels],
            plan,
            mixed=tuple(kind == "mixup" for kind in way.kinds),
            seed=seed,
        ).trunk
    return jax.tree.map(np.asarray, learnt)


def contrast_loss(unit, same, scale):
    """Pull own classes together and push others apart (Khosla et al., 2020, L_out).

    Args:
        unit: Descriptors of length 1, `[pictures, channels]`.
        same: 1 where two images are of one class, `[pictures, pictures]`.
        scale: 1 / temperature.
    """
    others = 1 - jnp.eye(len(unit))
    scores = scale * unit @ unit.T
    among = jnp.where(others > 0, scores, -jnp.inf)
    log = scores - jax.nn.logsumexp(among, axis=1, keepdims=True)
    wanted = same * others
    return -jnp.mean(jnp.sum(wanted * log, 1) / jnp.maximum(jnp.sum(wanted, 1), 1))


def contrast(known, start, inner, labels, way, seed):
    """Learn by supervised contrast, from five images of ten classes a step."""

    def loss(weights, variables, rows, same):
        maps = known.after(known.adapt(variables, weights), rows)
        return contrast_loss(clustering.unit(pooling.gem(maps)), same, way.scale)

    rule = optax.adam(optax.cosine_decay_schedule(way.rate, way.steps))

    @jax.jit
    def step(weights, state, variables, rows, same):
        change, state = rule.update(
            jax.grad(loss)(weights, variables, rows, same), state
        )
        return optax.apply_updates(weights, change), state

    random, weights = np.random.default_rng(seed), start
    state = rule.init(start)
    classes, each = int(labels.max()) + 1, 5
    for _ in range(way.steps):
        some = random.permutation(classes)[:10]
        chosen = np.concatenate(
            [random.permutation(np.flatnonzero(labels == c))[:each] for c in some]
        )
        same = (labels[chosen, None] == labels[None, chosen]).astype(np.float32)
        weights, state = step(weights, state, known.variables, inner[chosen], same)
    return jax.tree.map(lambda leaf: leaf[None], weights)


def descriptors(describe, network, weights, pictures):
    """Pool the maps in each way, and join the maps of several adapters."""
    count = len(next(iter(weights.values())))
    every = []
    for place in range(count):
        own = {name: leaf[place] for name, leaf in weights.items()}
        adapted = jax.tree.map(jnp.asarray, filters.apply(network.variables, own))
        rows = block_cut.gather(describe, adapted, pictures.inner[0])
        every.append(probes.unit(rows))
    tables = np.concatenate(every, 2).swapaxes(0, 1)
    return dict(zip(pooling.POOLINGS, tables, strict=True))


def compare(sides, learnt, searched):
    """Give average precisions by side, pooling and whether whitened."""
    found = {}
    for name, describe in sides.items():
        rows, own = describe(searched), describe(learnt)
        for pool in pooling.POOLINGS:
            fitted = clustering.whitening(own[pool], WHITENED)
            white = np.asarray(clustering.whiten(rows[pool], fitted))
            for kind, table in (("plain", rows[pool]), ("whitened", white)):
                result = measures.by_class(table, searched.labels)
                found[name, pool, kind] = result.average_precision
    return found


def rows_of(found, labels):
    """Tabulate mean average precision, and gains with their intervals.

    `low` and `high` resample queries; `class_low` and `class_high` the classes, whose
    images resemble each other.
    """
    rows = []
    for (name, pool, kind), precision in found.items():
        row = {"network": name, "pooling": pool, "descriptor": kind}
        row["map"] = 100 * float(precision.mean())
        if name != FROZEN:
            gains = 100 * (precision - found[FROZEN, pool, kind])
            each = significance.bootstrap(gains)
            classes = [gains[labels == label].mean() for label in np.unique(labels)]
            row |= {"gain": each.mean, "low": each.low, "high": each.high}
            every = significance.bootstrap(np.asarray(classes))
            row |= {"class_low": every.low, "class_high": every.high}
        rows.append(row)
    return rows


def line_of(row):
    """Print one row."""
    start = f"{row['network']:<20} {row['pooling']:<8} {row['descriptor']:<9}"
    text = f"{start}{row['map']:6.2f}"
    if "gain" not in row:
        return text
    queries = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
    classes = f"[{row['class_low']:+.2f}, {row['class_high']:+.2f}]"
    return f"{text} {row['gain']:+6.2f}  over queries {queries}, over classes {classes}"


def halves(names, seed, choose):
    """Draw the classes that are learnt from, and those that are searched."""
    order = np.random.default_rng(seed).permutation(len(names))
    mine, others = np.array_split(order, [len(order) // 2])
    if choose:
        mine, others = np.array_split(mine, [len(mine) // 2])
    return [[names[i] for i in np.sort(some)] for some in (mine, others)]


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("birds", type=Path)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--ways", default="cosine", help=",".join(WAYS))
    parser.add_argument("--back", type=float, nargs="+", default=[0.5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--save", type=Path, help="the adapter of the last way")
    return parser.parse_args()


def save(path, network, select, weights):
    """Write the first adapter, for `unlir retrieve --adapter`."""
    adapters.save(
        path,
        {name: leaf[0] for name, leaf in weights.items()},
        backbone=network.name,
        fingerprint=adapters.fingerprint(network.variables),
        select=select,
        mode="output",
        metadata={"image_size": SIZE, "crop": CROP},
    )


def main():
    """Learn from half of the classes, and search the other half."""
    given = arguments()
    network = unlir_jax.load(given.model, given.weights)
    after = block_cut.behind(network.module, SIZE)
    cut = block_cut.cut(network.module, after, SIZE)
    select = block_cut.pattern(network.module, SIZE, after)
    start = filters.init(network.variables, select, pairing=filters.pairs(network))
    names = sorted(path.name for path in (given.birds / "train").iterdir())
    mine, others = halves(names, given.seed, given.choose)
    split = "train" if given.choose else "test"
    learnt = read(network, cut, given.birds / "train", mine)
    searched = read(network, cut, given.birds / split, others)
    print(
        f"learnt from {len(learnt.labels)} pictures of {len(mine)} classes, searched "
        f"{len(searched.labels)} of {len(others)} others",
        flush=True,
    )

    @jax.jit
    def describe(variables, rows):
        maps = cut.after(variables, rows)
        found = [pooling.describe(maps, how) for how in pooling.POOLINGS]
        return jnp.stack(found, 1)

    ones = {name: np.ones_like(leaf)[None] for name, leaf in start.items()}
    sides = {FROZEN: ones}
    for name in given.ways.split(","):
        begun = time.perf_counter()
        weights = learn(network, cut, start, learnt, WAYS[name], given.seed)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
        for back in given.back:
            drawn = {p: leaf + back * (1 - leaf) for p, leaf in weights.items()}
            sides[f"{name}, {back} back"] = drawn
    if given.save:
        save(given.save, network, select, drawn)
    found = {}
    for name, own in sides.items():
        look = functools.partial(descriptors, describe, network, own)
        found |= compare({name: look}, learnt, searched)
        rows = rows_of(found, searched.labels)
        for row in rows:
            if row["network"] == name:
                print(line_of(row), flush=True)
    if given.output:
        facts = {"learnt": mine, "searched": others, "split": split}
        document = facts | {"rows": rows, "versions": record.versions()}
        record.write_text(given.output, record.to_json(document))


if __name__ == "__main__":
    main()

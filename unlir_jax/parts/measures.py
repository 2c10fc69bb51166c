"""Measures of a part network at the end of its training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.data import pipeline
from unlir_jax.data import source as sources
from unlir_jax.features import receptive_field
from unlir_jax.features.batches import Batches
from unlir_jax.features.cache import Features
from unlir_jax.metrics import parts as part_metrics
from unlir_jax.metrics import retrieval
from unlir_jax.models import pooling
from unlir_jax.parts import (
    clustering,
    discovery,
    encoding,
    interventions,
    logistic,
    products,
    start,
)
from unlir_jax.parts.part_run import PartRun
from unlir_jax.types import Array, Module, Variables

TOP = 30
ROWS = 64
PURE = 10
CLASSIFIED = ("average", "max", "gem")
LEFT_OUT = "left_out"
"""In a summary: what the data has nothing to measure on, by name, and why."""


def measure(
    run: PartRun,
    variables: Variables,
    reader: Batches,
    centres: receptive_field.Centres,
) -> Record:
    """Measure parts on the test split, and what pooling the same features is worth.

    Args:
        run: The training of a part network.
        variables: All variables of the network.
        reader: Its batches; baselines are fitted where it keeps features.
        centres: Where the cells look that parts are seen in.

    Returns:
        Numbers by name. `test/part_cosine`, `test/part_overlap`,
        `test/assignment_entropy` and `test/parts_for_95_percent` in any case;
        `test/keypoint_share_top30`, `test/nmi`, `test/ari`, `test/consistency`,
        `test/purity_top10` and, of parts that are places in the image,
        `control/position_…`, where the test has keypoints; `test/mask_nmi` where it
        has masks; what `interventions.measure` gives; `baseline/…`, accuracies,
        where features are kept; and with `whitening`, `test/retrieval_…` and
        `baseline/…_retrieval_map`.
    """
    measured = {}
    if reader.train is not None:
        measured |= _baselines(run, reader.train, reader.test)
    measured |= _retrieval(run, variables, reader)
    if _finds_nothing(run, reader):
        measured[LEFT_OUT] = {"retrieval": "no class of the test has two images"}
    module, test = run.network.module, run.data.test
    kernel = np.asarray(variables["params"]["classifier"]["parts"]["kernel"])
    measured["test/part_cosine"] = part_metrics.part_cosine(kernel.T)
    if not test:
        return measured
    known = [name for name in ("keypoints", "mask") if name in test.annotations]
    read = _reader(module, variables)
    found: dict[str, list[np.ndarray]] = {}
    for maps, batch in _rows(run, test, variables, reader.test, known):
        rows = {**read(maps), **{name: batch[name] for name in known}}
        labels = rows.pop("contributions"), batch["label"]
        rows["own"] = np.take_along_axis(labels[0], labels[1][:, None, None], axis=2)[
            ..., 0
        ]
        _check_finite(test, rows, batch)
        if rows["scores"].shape[-1] > 1:
            rows["overlap"] = part_metrics.overlap(rows["scores"])
        if not known:  # Else they are all kept, to be held against the true parts.
            del rows["scores"]
        for name, values in rows.items():
            found.setdefault(name, []).append(np.asarray(values)[batch["weight"] > 0])
    gathered = {name: np.concatenate(values) for name, values in found.items()}
    measured["test/assignment_entropy"] = float(gathered["entropy"].mean())
    if "overlap" in gathered:
        measured["test/part_overlap"] = float(gathered["overlap"].mean())
    needed = part_metrics.sparsity(gathered["own"], 0.95)
    measured["test/parts_for_95_percent"] = float(np.mean(needed))
    if "keypoints" in known:
        measured |= _keypoint_figures(test.parts, run.frame["image_size"], gathered)
    if "mask" in known:
        try:
            measured["test/mask_nmi"] = part_metrics.mask_nmi(
                gathered["scores"], gathered["mask"]
            )
        except ValueError as error:
            # Shapes and numbers are right: the masks show no part, or only thin ones.
            measured.setdefault(LEFT_OUT, {})["test/mask_nmi"] = str(error)
    return measured | interventions.measure(run, test, variables, centres)


def _check_finite(
    test: sources.Source, rows: Mapping[str, Array], batch: Mapping[str, np.ndarray]
) -> None:
    """Stop at parts that are no numbers, and name their images."""
    kept = batch["weight"] > 0
    for name, values in rows.items():
        flat = np.asarray(values, np.float32).reshape(len(kept), -1)
        broken = kept & ~np.isfinite(flat).all(1)
        if name not in ("keypoints", "mask") and broken.any():
            names = [test.name(int(i)) for i in batch["index"][broken]]
            finite.check({name: math.nan}, "the parts of the test split", names)


def _finds_nothing(run: PartRun, reader: Batches) -> bool:
    """Tell whether retrieval is asked for, where no image has another to find."""
    if run.whitening == "none" or reader.test is None:
        return False
    return not _repeated(reader.test.label[reader.test.weight > 0])


def _repeated(labels: np.ndarray) -> bool:
    """Tell whether some class has two images."""
    return bool((np.unique(labels, return_counts=True)[1] > 1).any())


def _reader(
    module: Module, variables: Variables
) -> Callable[[Array], dict[str, np.ndarray]]:
    @jax.jit
    def read(variables: Variables, maps: jax.Array) -> dict[str, jax.Array]:
        reading = module.apply(variables, maps, method="read")
        entropy = jax.scipy.special.entr(reading.shares).sum(-1).mean((1, 2))
        most = jnp.log(max(reading.shares.shape[-1], 2))
        return {
            "scores": reading.scores,
            "contributions": reading.contributions,
            "entropy": entropy / most,
        }

    return lambda maps: jax.tree.map(
        np.asarray, read(variables, jnp.asarray(maps, jnp.float32))
    )


def _rows(
    run: PartRun,
    test: sources.Source,
    variables: Variables,
    kept: Features | None,
    known: list[str],
) -> Iterator[tuple[Array, dict[str, np.ndarray]]]:
    """Give the maps of the test split, by batches with their annotations."""
    module = run.network.module
    trunk = jax.jit(
        lambda variables, images: module.apply(
            variables, images.astype(jnp.float32) / 255, method="features"
        )
    )
    place = 0
    for batch in pipeline.evaluation(
        test, batch_size=ROWS, annotations=known, **run.frame
    ):
        if kept is None:
            yield trunk(variables, batch["image"]), batch
            continue
        maps = np.asarray(kept.features[place : place + ROWS], np.float32)
        yield np.pad(maps, [(0, ROWS - len(maps))] + [(0, 0)] * 3), batch
        place += ROWS


def _keypoint_figures(
    called: Sequence[str], side: int, gathered: Mapping[str, np.ndarray]
) -> dict[str, float]:
    scores, keypoints = gathered["scores"], gathered["keypoints"]
    if not (keypoints[..., 2] > 0).any():
        return {}
    known = (keypoints, called, side)
    share = part_metrics.keypoint_share(scores, *known, top=TOP)
    places = _places(scores.shape)
    drawn = np.random.default_rng(0).random((len(scores), 1, 1, 1), np.float32)
    by_place = part_metrics.keypoint_share(places * (1 + drawn), *known, top=TOP)
    return {
        f"test/keypoint_share_top{TOP}": float(share.share.mean()),
        "test/nmi": part_metrics.keypoint_nmi(scores, *known),
        "test/ari": part_metrics.keypoint_ari(scores, *known),
        "test/consistency": float(
            part_metrics.consistency(scores, *known).consistent.mean()
        ),
        f"test/purity_top{PURE}": float(
            part_metrics.purity(scores, *known, top=PURE).share.mean()
        ),
        f"control/position_keypoint_share_top{TOP}": float(by_place.share.mean()),
        "control/position_nmi": part_metrics.keypoint_nmi(places, *known),
    }


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Make parts of places in the image, whatever it shows."""
    pictures, rows, columns, parts = shape
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    cells = grid.reshape(-1, 2).astype(np.float32)
    parts = min(parts, len(cells))
    centres = clustering.kmeans(cells, parts, key=jax.random.key(0)).centres
    distance = np.square(cells[:, None] - np.asarray(centres)).sum(-1)
    near = np.exp(-distance).reshape(1, rows, columns, parts)
    near = near.astype(np.float32)
    return np.broadcast_to(near, (pictures, rows, columns, parts))


def _baselines(
    run: PartRun, train: Features, test: Features | None
) -> dict[str, float]:
    """Fit tuned logistic regression to the pooled maps of the frozen backbone."""
    channels = run.network.module.channels
    own = np.flatnonzero(train.weight > 0)
    key = jax.random.key(run.seed)
    known = own[start.draw_labels(train.label[own], run.labels_per_class, key)]
    pooled = _pool(train, channels)
    against = _pool(test, channels) if test is not None else {}
    kept = np.flatnonzero(test.weight > 0) if test is not None else None
    measured = {}
    for name in CLASSIFIED:
        found = logistic.tune(
            pooled[name][known], train.label[known], len(run.data.train.classes)
        )
        measured[f"baseline/{name}_pooling_left_out"] = found.accuracy
        if test is not None:
            chosen = logistic.logits(found, against[name][kept]).argmax(1)
            right = np.mean(chosen == test.label[kept])
            measured[f"baseline/{name}_pooling"] = float(right)
    if run.whitening == "none" or test is None:
        return measured
    if not _repeated(test.label[kept]):
        return measured
    for name, rows in against.items():
        fitted = clustering.whitening(pooled[name][own], encoding.DIMENSIONS)
        turn = fitted.matrix / np.linalg.norm(fitted.matrix, axis=0)
        near = discovery.neighbour_whitening(pooled[name][own], encoding.DIMENSIONS)
        for how, seen in (
            ("", rows[kept]),
            ("_pca", (rows[kept] - fitted.mean) @ turn),
            ("_neighbours", np.asarray(clustering.whiten(rows[kept], near))),
        ):
            found = retrieval.by_class(seen, test.label[kept])
            at = f"baseline/{name}_pooling{how}_retrieval_map"
            measured[at] = found.mean_average_precision
    return measured


def _retrieval(run: PartRun, variables: Variables, reader: Batches) -> dict[str, float]:
    """Retrieve test images by the encoding of their parts, learnt without labels."""
    train, test = reader.train, reader.test
    if run.whitening == "none" or train is None or test is None:
        return {}
    if _finds_nothing(run, reader):
        return {}
    module, own = run.network.module, train.weight > 0
    known = train.features if own.all() else train.features[own]
    encoder = encoding.fit(module, variables, known)
    kept = test.weight > 0
    rows = encoding.encode(module, variables, encoder, test.features)[kept]
    found = retrieval.by_class(rows, test.label[kept])
    return {
        "test/retrieval_map": found.mean_average_precision,
        "test/retrieval_recall_at_1": found.recall(1),
    }


def _pool(kept: Features, channels: int) -> dict[str, np.ndarray]:
    """Pool maps in all ways, by chunks: they may lie on the disk."""
    pool = jax.jit(
        lambda maps: {name: way(maps) for name, way in pooling.POOLINGS.items()}
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in pooling.POOLINGS}
    for first, rows in products.chunks(kept.features[..., :channels]):
        for name, values in pool(rows).items():
            found[name].append(np.asarray(values)[: len(kept.label) - first])
    return {name: np.concatenate(values) for name, values in found.items()}

"""What is measured of a part network when its training is finished."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.batches import Batches
from unlir_jax.data import pipeline
from unlir_jax.features import Features
from unlir_jax.metrics import parts as part_metrics
from unlir_jax.parts import clustering, logistic

TOP = 30
ROWS = 64
POWER = 3.0
POOLINGS = ("average_pooling", "max_pooling", "gem_pooling")


def measure(job: Any, variables: Any, reader: Batches) -> dict[str, Any]:
    """Measure parts on the test split, and what pooling the same features is worth.

    Args:
        job: See `job.Job`, of a network that decides by parts.
        variables: Of the network, whole.
        reader: Its batches; baselines are fitted where it keeps features.

    Returns:
        Numbers by name. `test/part_cosine`, `test/assignment_entropy` and
        `test/parts_for_95_percent` in any case; `test/keypoint_share_top30`,
        `test/nmi`, `test/ari` and, of parts that are places in the picture,
        `control/position_…`, where the test has keypoints; `test/mask_nmi` where it
        has masks; `baseline/…`, accuracies, where features are kept.
    """
    measured = _baselines(job, reader) if reader.train is not None else {}
    module = job.network.module
    kernel = np.asarray(variables["params"]["classifier"]["parts"]["kernel"])
    measured["test/part_cosine"] = part_metrics.part_cosine(kernel.T)
    if not job.data.test:
        return measured
    known = [name for name in ("keypoints", "mask") if name in _annotations(job)]
    read = _reader(module, variables)
    found: dict[str, list[np.ndarray]] = {}
    for maps, batch in _rows(job, variables, reader, known):
        rows = {**read(maps), **{name: batch[name] for name in known}}
        labels = rows.pop("contributions"), batch["label"]
        rows["own"] = np.take_along_axis(labels[0], labels[1][:, None, None], axis=2)[
            ..., 0
        ]
        for name, values in rows.items():
            found.setdefault(name, []).append(np.asarray(values)[batch["weight"] > 0])
    gathered = {name: np.concatenate(values) for name, values in found.items()}
    entropy = gathered["entropy"].mean()
    measured["test/assignment_entropy"] = float(entropy)
    needed = part_metrics.sparsity(gathered["own"], 0.95)
    measured["test/parts_for_95_percent"] = float(np.mean(needed))
    if "keypoints" in known:
        measured |= _keypoint_figures(job, gathered)
    if "mask" in known:
        measured["test/mask_nmi"] = part_metrics.mask_nmi(
            gathered["scores"], gathered["mask"]
        )
    return measured


def _annotations(job: Any) -> tuple[str, ...]:
    return job.data.test.annotations


def _reader(module: Any, variables: Any) -> Any:
    @jax.jit
    def read(maps: jax.Array) -> dict[str, jax.Array]:
        reading = module.apply(variables, maps, method="read")
        entropy = jax.scipy.special.entr(reading.shares).sum(-1).mean((1, 2))
        most = jnp.log(max(reading.shares.shape[-1], 2))
        return {
            "scores": reading.scores,
            "contributions": reading.contributions,
            "entropy": entropy / most,
        }

    return lambda maps: jax.tree.map(np.asarray, read(jnp.asarray(maps, jnp.float32)))


def _rows(
    job: Any, variables: Any, reader: Batches, known: list[str]
) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """Give the maps of the test split, by batches with their annotations."""
    module = job.network.module
    trunk = jax.jit(
        lambda images: module.apply(
            variables, images.astype(jnp.float32) / 255, method="features"
        )
    )
    kept = reader.test
    place = 0
    for batch in pipeline.evaluation(
        job.data.test,
        batch_size=ROWS,
        image_size=job.image_size,
        crop=job.crop,
        annotations=known,
    ):
        if kept is None:
            yield trunk(batch["image"]), batch
            continue
        maps = np.asarray(kept.features[place : place + ROWS], np.float32)
        yield np.pad(maps, [(0, ROWS - len(maps))] + [(0, 0)] * 3), batch
        place += ROWS


def _keypoint_figures(job: Any, gathered: dict[str, np.ndarray]) -> dict[str, Any]:
    scores, keypoints = gathered["scores"], gathered["keypoints"]
    if not (keypoints[..., 2] > 0).any():
        return {}
    known = (keypoints, job.data.test.parts, job.image_size)
    share = part_metrics.keypoint_share(scores, *known, top=TOP)
    places = _places(scores.shape)
    drawn = np.random.default_rng(0).random((len(scores), 1, 1, 1), np.float32)
    by_place = part_metrics.keypoint_share(places * (1 + drawn), *known, top=TOP)
    return {
        f"test/keypoint_share_top{TOP}": float(share.share.mean()),
        "test/nmi": part_metrics.keypoint_nmi(scores, *known),
        "test/ari": part_metrics.keypoint_ari(scores, *known),
        f"control/position_keypoint_share_top{TOP}": float(by_place.share.mean()),
        "control/position_nmi": part_metrics.keypoint_nmi(places, *known),
    }


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Make parts of places in the picture, which know nothing of what is there."""
    pictures, rows, columns, parts = shape
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    cells = grid.reshape(-1, 2).astype(np.float32)
    parts = min(parts, len(cells))
    centres = clustering.kmeans(cells, parts, key=jax.random.key(0)).centres
    distance = np.square(cells[:, None] - np.asarray(centres)).sum(-1)
    near = np.exp(-distance).reshape(1, rows, columns, parts)
    near = near.astype(np.float32)
    return np.broadcast_to(near, (pictures, rows, columns, parts))


def _baselines(job: Any, reader: Batches) -> dict[str, float]:
    """Fit tuned logistic regression to the pooled maps of the frozen trunk."""
    channels = job.network.module.channels
    train, test = reader.train, reader.test
    fitted, own = {}, train.weight > 0
    pooled = _pool(train, channels)
    against = _pool(test, channels) if test is not None else {}
    for name in POOLINGS:
        found = logistic.tune(
            pooled[name][own], train.label[own], len(job.data.train.classes)
        )
        fitted[f"baseline/{name}_left_out"] = found.accuracy
        if test is None:
            continue
        kept = test.weight > 0
        chosen = logistic.logits(found, against[name][kept]).argmax(1)
        fitted[f"baseline/{name}"] = float(np.mean(chosen == test.label[kept]))
    return fitted


def _pool(kept: Features, channels: int) -> dict[str, np.ndarray]:
    """Pool maps in three ways, by chunks: they may lie on the disk."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in POOLINGS}
    for first in range(0, len(kept.label), ROWS):
        maps = np.asarray(kept.features[first : first + ROWS, ..., :channels])
        found["average_pooling"].append(maps.mean((1, 2)))
        found["max_pooling"].append(maps.max((1, 2)))
        power = np.maximum(maps, 1e-6) ** POWER
        found["gem_pooling"].append(power.mean((1, 2)) ** (1 / POWER))
    return {name: np.concatenate(values) for name, values in found.items()}

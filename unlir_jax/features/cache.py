"""Maps of a frozen backbone, computed once and kept on the disk."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from unlir_jax import tree
from unlir_jax.core import loops
from unlir_jax.data import pipeline, preprocessing
from unlir_jax.data import source as sources
from unlir_jax.features import store, trunks
from unlir_jax.models import pooling
from unlir_jax.runtime import mesh
from unlir_jax.types import Module, PyTree, Variables

# Whoever changes what is computed, or how it is stored, counts up.
FORMAT = 1
CACHE = "UNLIR_CACHE"
PARTS = ("features", "label", "weight")
WHOLE = ("maps",)
"""Poolings that keep maps whole, also where the head would pool them."""


class Features(NamedTuple):
    """Hold the backbone's maps of a whole split.

    Attributes:
        features: float32 `[size, rows, columns, filters]`, where the head allows it
            pooled to one row and column; or `[size, poolings, 1, filters]`.
        label: int32 `[size]`.
        weight: float32 `[size]`, 0 for an image that could not be read.
    """

    features: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def default_folder() -> Path:
    """Say where features are kept: in `UNLIR_CACHE`, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(base) / "unlir_jax") / "features"


def identity(
    source: sources.Source,
    variables: Variables,
    module: Module,
    *,
    name: str,
    image_size: int,
    crop: float,
    interpolation: str = preprocessing.BILINEAR,
    poolings: Sequence[str] = (),
) -> dict[str, PyTree]:
    """Describe all that the features of a source follow from."""
    head = trunks.head_paths(module, image_size)
    trunk = {p: leaf for p, leaf in tree.flatten(variables).items() if p not in head}
    # Part networks keep the maps of a finer layer as well.
    layer, at = (getattr(module, name, "") for name in ("layer", "at"))
    # And networks that pool by attention those of whole stages.
    stages = list(getattr(module, "stages", ())) if hasattr(module, "backbone") else []
    pools = _pools(module, image_size, poolings)
    # What was kept before there were other ways to pool is found again.
    pooled = True if pools == ("average",) else list(pools)
    return {
        "format": FORMAT,
        "network": name,
        "weights": tree.sha256(tree.unflatten(trunk)),
        "dtype": str(jnp.dtype(module.style.dtype or jnp.float32)),
        "precision": module.style.precision,
        "image_size": image_size,
        "crop": crop,
        "interpolation": interpolation,
        "colours": _colours(module),
        "data": _fingerprint(source),
    } | {
        name: value
        for name, value in (
            *(("layer", layer), ("at", at), ("stages", stages), ("pooled", pooled)),
        )
        if value
    }


def _colours(module: Module) -> list[list[float]]:
    """Give the colours' mean and standard deviation, which the weights lack."""
    inner = getattr(module, "backbone", module)
    return [list(getattr(inner, name, ())) for name in ("mean", "deviation")]


def _pools(module: Module, image_size: int, asked: Sequence[str]) -> tuple[str, ...]:
    """List the ways to pool that are kept: those asked for, or all the head sees."""
    own = getattr(module, "pooling", "average")
    if tuple(asked) == WHOLE:
        return ()
    if asked:
        return tuple(dict.fromkeys(way for how in asked for way in how.split("+")))
    return (own,) if trunks.head_pools(module, image_size, own) else ()


def _fingerprint(source: sources.Source) -> str:
    """Hash the names and labels of all images, and some images."""
    digest = hashlib.sha256()
    for index in range(source.size):
        digest.update(source.name(index).encode("utf-8", "surrogateescape") + b"\n")
    if source.labels is not None:
        digest.update(np.asarray(source.labels, "<i4").tobytes())
    else:
        # Labels that only reading tells follow from the order of the classes.
        digest.update("\n".join(source.classes).encode("utf-8", "surrogateescape"))
    if source.fingerprint is not None:
        digest.update(source.fingerprint().encode())
    read = sources.narrowed(source).read
    for index in np.linspace(0, source.size - 1, 8).astype(int):
        # One that cannot be read is recognised by its name alone.
        with contextlib.suppress(ValueError, OSError):
            digest.update(np.asarray(read(int(index))["image"]).tobytes())
    return digest.hexdigest()


def cached(
    source: sources.Source,
    variables: Variables,
    module: Module,
    *,
    name: str,
    image_size: int,
    crop: float,
    interpolation: str = preprocessing.BILINEAR,
    batch_size: int,
    folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    workers: int = 0,
    strict: bool = False,
    poolings: Sequence[str] = (),
    progress: Callable[[float], None] = lambda share: None,
) -> Features:
    """Read the backbone's maps of all images from the disk, computed if need be.

    The images are framed as for evaluation. What was computed before an interruption
    is not computed again, and of two runs that need the same, one waits. What is found
    has a checksum; if that does not fit, all is computed again, with a warning.

    Args:
        source: The images.
        variables: Variables of the network.
        module: It, with methods `features` and `head`.
        name: Its name.
        image_size: Side of the images in pixels.
        crop: Share of the shorter side that is kept.
        interpolation: See `preprocessing.INTERPOLATIONS`.
        batch_size: Over all devices.
        folder: Where features are kept, `default_folder()` by default; with several
            processes a folder that all see.
        threads: That read, by default one for each core.
        workers: Processes that read; 0 for threads of this one.
        strict: Stop at an image that cannot be read.
        poolings: Keep the maps pooled in these ways, of `layers.ways`, one row each;
            by default what the head needs. Ways that are joined by `+` are kept once,
            and `WHOLE` keeps maps as they are.
        progress: Told the share that is done.

    Raises:
        ValueError: An image cannot be read and `strict`, or a process does not see
            the folder.
        FloatingPointError: The network gives something that is not finite.
    """
    frame: dict[str, Any] = {"image_size": image_size, "crop": crop}
    frame["interpolation"] = interpolation
    described = identity(
        source, variables, module, name=name, poolings=poolings, **frame
    )
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    final = Path(folder or default_folder()).expanduser() / key[:32]
    leads = mesh.is_first()
    with store.alone(final) if leads else contextlib.nullcontext():
        known = final, described, PARTS, source.size
        done = store.rows_done(*known) if leads else 0
        (done,) = mesh.agree(done)
        if done < source.size:
            laid = mesh.layout()
            rest = pipeline.evaluation(
                sources.subset(source, np.arange(done, source.size)),
                batch_size=_at_once(batch_size, image_size, laid.mesh.size),
                **frame,
                process=jax.process_index(),
                processes=jax.process_count(),
                workers=workers,
                threads=threads,
                strict=strict,
            )
            trunk = _trunk(module, variables, laid, image_size, poolings)
            batches = (trunk(batch) for batch in rest)
            place = final if leads else None
            store.write(batches, place, PARTS, done, source.size, progress)
        if leads and not final.exists():
            store.publish(final, described)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("features")
    return _opened(final)


def _at_once(batch_size: int, image_size: int, devices: int) -> int:
    """Choose how many images go through the network: rows do not depend on it.

    A CPU is faster with a few, and they take less memory.
    """
    few = loops.few_enough(batch_size, (image_size, image_size), "auto")
    return -(-few // devices) * devices


def _opened(final: Path) -> Features:
    if not final.is_dir():
        raise ValueError(
            f"Process {jax.process_index()} does not see {str(final)!r}; expected "
            "`features.folder` to be a folder that all processes share."
        )
    return Features(*(store.opened(final / f"{part}.npy") for part in PARTS))


def _trunk(
    module: Module,
    variables: Variables,
    laid: mesh.Layout,
    image_size: int,
    poolings: Sequence[str],
) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Make the function that computes the rows to be kept of a batch."""
    pools = _pools(module, image_size, poolings)

    def compute(known: Any, batch: Any) -> dict[str, jax.Array]:
        images = batch["image"].astype(jnp.float32) / 255
        if hasattr(module, "ways"):
            maps = module.apply(known, images, "+".join(pools), method="describe")
        else:
            maps = module.apply(known, images, method="features")
        maps = maps.astype(jnp.float32)
        if pools and not hasattr(module, "ways"):
            vectors = [pooling.POOLINGS[how](maps) for how in pools]
            maps = jnp.stack(vectors, 1)[:, :, None]
        kept = {name: batch[name] for name in ("label", "weight", "index")}
        return {"features": maps} | kept

    compiled = mesh.compile_measure(laid, compute)
    known = mesh.put_state(laid, dict(variables))
    wanted = ("image", "label", "weight", "index")

    def run(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = mesh.put_batch(laid, {name: batch[name] for name in wanted})
        return jax.tree.map(np.asarray, compiled(known, rows))

    return run


def pooled_by(features: Features, asked: Sequence[str], how: str) -> Features:
    """Take one of several ways to pool, or some that are joined by `+`.

    Args:
        features: Features in all ways that were asked for.
        asked: These ways, as `cached` was given them.
        how: One of them. One that is not joined is not read yet.
    """
    kept = list(dict.fromkeys(way for each in asked for way in each.split("+")))
    places = [kept.index(way) for way in how.split("+")]
    first = places[0]
    if len(places) == 1:
        return features._replace(features=features.features[:, first : first + 1])
    return features._replace(features=np.asarray(features.features[:, places]))


def training(
    features: Features,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
    known: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Give batches for ever, from the `start`-th on; each epoch is a permutation.

    Rows are as `pipeline.training` gives them, with `features` for `image`. Where there
    are places in `known`, those examples are all there are.
    """
    size = len(features.label) if known is None else len(known)
    share = batch_size // processes
    epochs: dict[int, np.ndarray] = {}
    for step in range(start, 2**62):
        positions = np.arange(process * share, (process + 1) * share)
        places = step * batch_size + positions
        needed = sorted(set((places // size).tolist()))
        epochs = {
            epoch: epochs[epoch]
            if epoch in epochs
            else np.random.default_rng([seed, epoch]).permutation(size)
            for epoch in needed
        }
        index = np.array([epochs[p // size][p % size] for p in places.tolist()])
        index = index if known is None else known[index]
        yield _rows(features, index, positions, np.ones(share, bool))


def evaluation(
    features: Features,
    *,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    known: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Give every row once, or `known`'s rows, in order; the last batch is padded."""
    size = len(features.label) if known is None else len(known)
    share = batch_size // processes
    for first in range(0, size, batch_size):
        positions = np.arange(process * share, (process + 1) * share)
        index = first + positions
        real = index < size
        index = np.minimum(index, size - 1)
        yield _rows(features, index if known is None else known[index], positions, real)


def _rows(
    features: Features, index: np.ndarray, positions: np.ndarray, real: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        "features": np.asarray(features.features[index]),
        "label": np.asarray(features.label[index]),
        "weight": np.asarray(features.weight[index]) * real.astype(np.float32),
        "index": np.where(real, index, -1).astype(np.int32),
        "position": positions.astype(np.int32),
    }

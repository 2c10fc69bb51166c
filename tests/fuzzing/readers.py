"""What reads the files of each kind: `path -> text`, or one sentence as an error.

Where a reader gives a sentence instead of an error, it is raised here.
"""

import contextlib
import hashlib
import os
import signal
import time

import numpy as np
from fuzzing import made, readers_of_objects

from unlir_jax import adapters
from unlir_jax.data import arrays, folder, masks, preprocessing
from unlir_jax.evaluation import batch_files
from unlir_jax.features import store
from unlir_jax.few_shot import episode_files
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.report import training
from unlir_jax.runs import origins, workdir
from unlir_jax.runtime import checkpoint, metric_writer
from unlir_jax.storage import files
from unlir_jax.weights import exported, readers

FRAME = preprocessing.preprocessing(224, 0.875)


def summed(named):
    digest = hashlib.sha256()
    for name, array in sorted(named.items()):
        array = np.asarray(array)
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def weights(path):
    return summed(readers.read(path))


def purpose(path):
    found = exported.purpose(path.with_name(exported.FILE))
    exported.check_hash(path.with_name(exported.FILE), readers.sha256(path))
    return found


def finished(path):
    summary = workdir.check(path.parent, made.SETTINGS)
    return workdir.lacking(path.parent, summary) if summary is not None else None


def adapter(path):
    return summed(adapters.load(path).weights)


def gallery(path):
    return sorted(part_gallery.read(path.parent))


def report(path):
    return files.check_folder(path.parent, ["report.html"], overwrite=True)


def origin(path):
    return origins.settle(path.parent, made.ORIGIN)


def batch(path):
    rows, damage = batch_files.read(path, 0, made.WHOSE)
    if rows is None:
        raise ValueError(f"{path}: {damage}")
    return rows.values.shape


def draw(path):
    found, damage = episode_files.read(path, made.OF_DRAW)
    if found is None:
        raise ValueError(f"{path}: {damage}")
    return found["accuracy"]


def features(path):
    final = path.parent
    done = store.rows_done(final, made.FEATURES, made.PARTS, made.SIZE)
    if done != made.SIZE:
        raise ValueError(f"{path}: made again")
    return summed({p: store.opened(final / f"{p}.npy") for p in made.PARTS})


def restored(path):
    place = next(above for above in path.parents if above.name == "checkpoints")
    with contextlib.closing(checkpoint.open_manager(place)) as manager:
        found = checkpoint.restore(manager, made.STATE)
    return "none" if found is None else f"{found.step} {summed(found.state)}"


def metrics(path):
    metric_writer.start(path.parent, 5, 9, say=lambda text: None).close()
    curves = training.read(path.read_text("utf-8").splitlines())
    return len(training.draw(curves)) > 0


def table(path):
    root = next(above for above in path.parents if (above / "images").is_dir())
    found = folder.folder(root, "train")
    kinds = sorted(found.read(0))
    return found.size, kinds


def stored(path):
    found = arrays.npz(path, "train")
    return [found.read(index)["image"].shape for index in range(found.size)]


def picture(path):
    found = FRAME(path)
    if found.shape != (224, 224, 3) or not (0 <= found.min() <= found.max() <= 1):
        raise RuntimeError(f"{found.shape}, {found.min()} to {found.max()}")
    return ""


def mask(path):
    size = preprocessing.decode_file(path, f"Mask {os.fspath(path)!r}").image.size
    return masks.read_mask(path, size, kind="classes").shape


def broken(path):
    """Do what no reader may, by what the file holds."""
    kind = path.read_text()
    if kind == "greedy":
        return len(bytearray(b"x") * (200 << 20))
    if kind == "slow":
        begun = time.process_time()
        while time.process_time() < begun + 2.2:
            pass
    if kind == "raising":
        raise KeyError(path.name)
    if kind == "nameless":
        raise ValueError("expected something else")
    if kind == "ending":
        os.kill(os.getpid(), signal.SIGKILL)
    return kind if kind == "changing" else "right"


READERS = {
    "broken": broken,
    **{"weights": weights, "purpose": purpose, "finished": finished},
    **{"adapter": adapter, "gallery": gallery, "report": report, "origin": origin},
    **{"batch": batch, "draw": draw, "features": features, "restored": restored},
    **{"metrics": metrics, "table": table, "stored": stored},
    **{"picture": picture, "mask": mask},
    **readers_of_objects.READERS,
}

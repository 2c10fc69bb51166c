"""What reads files of boxes and of open sets, as `readers` does others."""

import jax
import numpy as np
from fuzzing import made_objects

from unlir_jax.data import objects
from unlir_jax.evaluation import map_files
from unlir_jax.models import text_files
from unlir_jax.open_set import classes, rejecter_file, semantic_shift, split_files
from unlir_jax.weak_detection import descriptions, detector, state_file


def _root(path):
    """Find the folder of a case."""
    return next(above for above in path.parents if above.name.startswith("case_"))


def boxes(path):
    """Read classes for a training, and boxes for a test."""
    root = _root(path)
    train = objects.object_folder(root, "train", with_boxes=False)
    test = objects.object_folder(root, "test")
    found = objects.boxes(test, range(test.images.size))
    if not all(np.isfinite(own).all() for own in found):
        raise RuntimeError("a box is not finite")
    return train.images.classes, objects.count(test)


def named_classes(path):
    """Read known and unknown classes."""
    if path.suffix == ".json":
        division = semantic_shift.read(path, made_objects.CLASSES)
    else:
        files = (path.with_name(f"{side}.txt") for side in ("unknown", "known"))
        unknown, known = files
        division = classes.named(unknown, made_objects.CLASSES, known)
    return [each.tolist() for each in division[:2]]


def open_split(path):
    found, damage = split_files.read(path, made_objects.WHOSE)
    if found is None:
        raise ValueError(f"{path}: {damage}")
    return found["scores"]


def rejecter(path):
    found = rejecter_file.load(path)
    return found.seen.class_names, len(found.rejecter.labels)


def trained_detector(path):
    found = detector.read(path, made_objects.VARIABLES)
    return jax.tree.map(np.shape, found)


def stopped_detector(path):
    step, _ = state_file.read(path.parent, made_objects.VARIABLES)
    if not step:
        raise ValueError(f"{path}: begun anew")
    return step > 0


def kept_maps(path):
    found = descriptions.kept(path)
    if found is None:
        raise ValueError(f"{path}: computed anew")
    return found.cells.shape


def texts(path):
    if path.suffix == ".txt":
        path = path.with_suffix(".npy")
    found = text_files.read(path)
    return found.embeddings.shape, len(found.class_names)


def given_map(path):
    return map_files.read(path).shape


READERS = {
    **{"boxes": boxes, "classes": named_classes, "open_split": open_split},
    **{"rejecter": rejecter, "detector": trained_detector},
    **{"stopped": stopped_detector, "maps": kept_maps},
    **{"texts": texts, "given_map": given_map},
}

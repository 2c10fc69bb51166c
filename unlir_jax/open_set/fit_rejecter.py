"""The rejecter of a workdir: fitted to the known classes of the first split."""

from pathlib import Path

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.open_set import combination, rejection, trial
from unlir_jax.open_set import rejecter_file as stored_as
from unlir_jax.open_set.descriptions import Split
from unlir_jax.open_set.score_names import BEST
from unlir_jax.open_set.setup import OpenSetSetup

NUMBER = 0


def fit(setup: OpenSetSetup, train: Split, first: Document) -> stored_as.Stored:
    """Fit thresholds of all scores, each at the share of known images to be kept.

    Args:
        setup: What is evaluated.
        train: All training images; no image of an unknown class is fitted to.
        first: See `trial.run`, of the first split.

    Raises:
        ValueError: A known class has fewer than three training images.
    """
    settings = setup.settings
    detectors = trial.detectors_of(setup, NUMBER, train)
    known = trial.known_images(setup, NUMBER, train, detectors)
    best = combination.read(first["combination"]) if BEST in setup.names else None
    rejecter = rejection.fit(
        setup.plan,
        known.images,
        known.labels.astype(np.int32),
        combination=best,
        kept=settings.kept,
    )
    every = setup.train.classes
    model = settings.model
    seen = stored_as.Seen(
        *(model.name, str(model.weights or ""), model.weights_key),
        *(setup.network.sha256, setup.pooling, bool(settings.unit_length)),
        *(setup.image_size, float(setup.crop), setup.interpolation),
        tuple(every[int(label)] for label in setup.divisions[NUMBER].known),
        BEST if best is not None else setup.names[0],
    )
    return stored_as.Stored(seen, rejecter, detectors)


def save(folder: Path, stored: stored_as.Stored) -> None:
    """Write a rejecter to a workdir.

    Raises:
        ValueError: Nothing can be written there.
    """
    stored_as.save(folder / stored_as.FILE, stored)


def told(stored: stored_as.Stored, first: Document) -> Record:
    """Say what a rejecter does on the test images of its split.

    Args:
        stored: The rejecter.
        first: See `trial.run`, of the first split.

    Returns:
        `reject`: `score`, `threshold`, `kept` (as asked for), and the shares
        `known_kept` of known and `unknown_refused` of unknown test images, None without
        any; by further set `unknown_refused` too.
    """
    name = stored.seen.score
    least = stored.rejecter.thresholds[name]
    scores, known = np.asarray(first["scores"][name]), np.asarray(first["is_known"]) > 0

    def refused(each: np.ndarray) -> float | None:
        return float(np.mean(np.asarray(each) < least)) if len(each) else None

    return {
        "reject": {
            "score": name,
            "threshold": least,
            "kept": stored.rejecter.kept,
            "split": NUMBER,
            "known_kept": float(np.mean(scores[known] >= least)),
            "unknown_refused": refused(scores[~known]),
            "sets": {
                key: refused(each["scores"][name])
                for key, each in first["sets"].items()
            },
        }
    }

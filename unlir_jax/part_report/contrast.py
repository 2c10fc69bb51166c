"""Evidence for one class against another, part by part."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import classes, source
from unlir_jax.features import receptive_field
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.part_report import training_images
from unlir_jax.parts import attribution, gallery

# Number of images of a class, evenly spread, that are looked at.
MOST, ROWS, BEST = 60, 8, 6


def contrast(
    network: Pretrained,
    centres: receptive_field.Centres,
    training: training_images.TrainingImages,
    pair: tuple[int, int],
    parts: Sequence[Document],
) -> Record:
    """Average over training images of A what each part adds to A more than to B.

    Args:
        network: One that decides by parts.
        centres: Where its cells look.
        training: Its training images.
        pair: A and B.
        parts: Entries of `parts.json`.

    Returns:
        A ledger as of `attribution.account`, with the best regions of each part shown
        in images of A and of B.

    Raises:
        ValueError: No image of one of the classes can be read.
    """
    own, rival = (_look(network, centres, training, label) for label in pair)
    first, second = pair
    read = own["contributions"]
    differences = (read[..., first] - read[..., second]).mean(0, dtype=np.float64)
    bias = own["bias"].astype(float)
    ledger = attribution.ledger(
        differences, float(bias[first] - bias[second]), attribution.CONTRASTED
    )
    for line in ledger["shown"]:
        part = line["part"]
        line["keypoint"] = (parts[part]["keypoint"] or {}).get("name")
        line["own"] = float(read[:, part, first].mean())
        line["rival"] = float(read[:, part, second].mean())
        line["regions"] = _best(own, part, training.source, centres)
        line["rival_regions"] = _best(rival, part, training.source, centres)
    names = network.class_names
    return ledger | {
        "class": {"index": first, "name": names[first]},
        "rival": {"index": second, "name": names[second]},
        "pictures": len(read),
        "logits": [
            float(read[..., label].sum(1).mean() + bias[label]) for label in pair
        ],
    }


def _look(
    network: Pretrained,
    centres: receptive_field.Centres,
    training: training_images.TrainingImages,
    label: int,
) -> dict[str, np.ndarray]:
    """Read the training images of a class."""
    read = attribution.reader(network, centres)
    found: dict[str, list[np.ndarray]] = {}
    for images, index in _pictures(network, training.source, label):
        accounts = read(np.pad(images, [(0, ROWS - len(images))] + [(0, 0)] * 3))
        count = len(images)
        for name in ("contributions", "score", "best"):
            found.setdefault(name, []).append(getattr(accounts, name)[:count])
        found.setdefault("index", []).append(index)
        found["bias"] = [accounts.bias]
        cell = np.float64(1 / min(accounts.last))
        found["side"] = [cell[None]]
    if not found:
        raise ValueError(
            f"No training image of {network.class_names[label]!r} can be read; "
            "expected some."
        )
    return {name: np.concatenate(values) for name, values in found.items()}


def _pictures(
    network: Pretrained, split: source.Source | None, label: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if split is None or split.labels is None:
        return
    # The data may have gained or lost classes since.
    (place,) = classes.known_places([network.class_names[label]], split.classes)
    own = np.flatnonzero((split.labels == place) & (split.labels >= 0))
    if len(own) > MOST:
        own = own[np.linspace(0, len(own) - 1, MOST).astype(int)]
    framed = network.preprocess
    batch: list[np.ndarray] = []
    places: list[int] = []
    for number, index in enumerate(own.tolist(), 1):
        image = _read(split, index)
        if image is not None:
            batch.append(framed(image))
            places.append(index)
        if batch and (len(batch) == ROWS or number == len(own)):
            yield np.stack(batch), np.asarray(places)
            batch, places = [], []


def _read(split: source.Source, index: int) -> Any:
    try:
        return source.narrowed(split).read(index)["image"]
    except (ValueError, OSError):
        return None


def _best(
    found: Mapping[str, np.ndarray],
    part: int,
    split: source.Source | None,
    centres: receptive_field.Centres,
) -> list[Record]:
    order = np.argsort(-found["score"][:, part], kind="stable")[:BEST]
    regions = []
    for place in order:
        row, column = (int(value) for value in found["best"][place, part])
        index = int(found["index"][place])
        regions.append(
            {
                "picture": split.name(index) if split else "",
                "index": index,
                "row": row,
                "column": column,
                "score": round(float(found["score"][place, part]), 5),
                "box": gallery.box(centres, row, column, float(found["side"][0])),
            }
        )
    return regions

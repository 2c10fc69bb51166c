"""Contributions of parts to a decision: which part, where and how much."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core.document_types import Document, Record
from unlir_jax.features import receptive_field
from unlir_jax.models import zoo
from unlir_jax.models.part_network import PartNet
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.storage import paths
from unlir_jax.types import Array, Explainer, Images, Labels, Saliency, Variables
from unlir_jax.weights import exported

SHOWN = 6
CONTRASTED = 6
# A part that takes fewer cells of an image is hardly seen in it: so many, or where
# there are many parts, so much of what an even deal gives to each.
SEEN, SEEN_OF_EVEN = 0.25, 0.5


class Accounts(NamedTuple):
    """Hold what a part network says of some images.

    Attributes:
        contributions: `[batch, parts, classes]`.
        bias: `[classes]`; with all contributions it adds up to the logits.
        shares: How cells are dealt out to the parts, `[batch, rows, columns, parts]`.
        cells: How many cells of the last maps each part takes, `[batch, parts]`.
        best: Row and column of the best cell of each part, `[batch, parts, 2]`.
        score: Score of that location, `[batch, parts]`.
        last: Rows and columns of the last maps.
        centres: Where the cells look.
    """

    contributions: np.ndarray
    bias: np.ndarray
    shares: np.ndarray
    cells: np.ndarray
    best: np.ndarray
    score: np.ndarray
    last: tuple[int, int]
    centres: receptive_field.Centres


def decides_by_parts(
    model: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> bool:
    """Tell, before it is loaded, whether a network decides by parts.

    Args:
        model: A name, or the workdir of a training.
        weights: See `pretrained.load`.

    Raises:
        ValueError: A workdir whose training is not finished.
    """
    for name, given in (("model", model), ("weights", weights)):
        if given is not None:
            paths.check(given, name)
    path = None if weights is None else Path(weights)
    if not zoo.is_known(os.fspath(model)) and Path(model).is_dir():
        path = None if exported.has_rejecter(model) else exported.find(model)
    if path is None or not path.is_file():
        return False
    known = exported.purpose(path)
    return bool(known and known.decision)


def check_network(network: Pretrained) -> None:
    """Refuse a network that does not decide by parts.

    Raises:
        ValueError: It does not.
    """
    if not isinstance(network.module, PartNet):
        raise ValueError(
            f"{network.name} from {network.source!r} does not decide by parts; "
            "expected a part network, such as configs/train_parts.py trains."
        )


def class_map(
    network: Pretrained, centres: receptive_field.Centres | None = None
) -> Explainer:
    """Show what all parts together add to a class, where: `relu(sum_k evidence_k)`.

    Args:
        network: One that decides by parts.
        centres: Where the cells that parts are seen in look; evenly spread by default.

    Returns:
        An explainer whose maps are as large as the images.

    Raises:
        ValueError: The network does not decide by parts.
    """
    check_network(network)
    module = network.module

    @jax.jit
    def run(variables: Variables, images: Images, labels: Labels) -> Saliency:
        maps = module.apply(variables, images, method="features")
        evidence = module.apply(variables, maps, labels, method="evidence")
        total = jax.nn.relu(evidence.sum(-1))
        return receptive_field.place(total, fitted(centres, total), images.shape[1])

    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
        split.check_batch(network.model, variables, images, labels)
        return run(variables, jnp.asarray(images), jnp.asarray(labels))

    return explain


def reader(
    network: Pretrained, centres: receptive_field.Centres | None = None
) -> Callable[[Images], Accounts]:
    """Make the function that reads images part by part.

    Args:
        network: One that decides by parts.
        centres: See `class_map`.

    Raises:
        ValueError: The network does not decide by parts.
    """
    check_network(network)
    module = network.module

    @jax.jit
    def run(variables: Variables, images: Images) -> dict[str, jax.Array]:
        maps = module.apply(variables, images, method="features")
        reading = module.apply(variables, maps, method="read")
        rows, columns = reading.scores.shape[1:3]
        cells = reading.scores.reshape((len(images), rows * columns, -1))
        best = cells.argmax(1)
        last = maps.shape[1:3]
        return {
            "contributions": reading.contributions,
            "bias": reading.bias,
            "shares": reading.shares,
            "cells": reading.shares.mean((1, 2)) * (last[0] * last[1]),
            "best": jnp.stack([best // columns, best % columns], -1),
            "score": cells.max(1),
            "last": jnp.zeros((*last, 0)),
        }

    def read(images: Images) -> Accounts:
        found = run(network.variables, jnp.asarray(images))
        arrays = {name: np.asarray(array) for name, array in found.items()}
        rows, columns, _ = arrays.pop("last").shape
        placed = fitted(centres, arrays["shares"])
        return Accounts(**arrays, last=(rows, columns), centres=placed)

    return read


def fitted(
    centres: receptive_field.Centres | None, maps: Array
) -> receptive_field.Centres:
    """Give the centres of a grid: as known, or shifted alike on a coarser grid.

    Args:
        centres: Centres of some grid; None spreads them evenly.
        maps: `[batch, rows, columns, …]`.
    """
    rows, columns = maps.shape[1:3]
    taken = receptive_field.even(rows, columns)
    if centres is None:
        return taken
    known = receptive_field.even(len(centres.rows), len(centres.columns))
    down, right = (
        found[0] - expected[0] for found, expected in zip(centres, known, strict=True)
    )
    return receptive_field.Centres(
        tuple(place + down for place in taken.rows),
        tuple(place + right for place in taken.columns),
    )


def account(
    accounts: Accounts,
    row: int,
    label: int,
    names: Sequence[str],
    parts: Sequence[Document] = (),
    against: int | None = None,
) -> Record:
    """Write down why an image got the logit of a class, and not another's.

    Args:
        accounts: Contributions of parts for some images.
        row: Index of the image.
        label: The class that is explained.
        names: Class names.
        parts: Entries of `parts.json`, where there is one.
        against: The rival; without it, or where that is the class that is explained,
            the class with the highest logit besides.

    Returns:
        For `results.json`: the largest contributions, the sum of the others, the bias
        and the logit, which they add up to; and the same of the difference to the
        rival.
    """
    added, bias = accounts.contributions[row].astype(float), accounts.bias.astype(float)
    logits = added.sum(0) + bias
    others = np.where(np.arange(len(logits)) == label, -np.inf, logits)
    rival = int(others.argmax()) if against in (None, label) else against

    even = accounts.last[0] * accounts.last[1] / len(added)
    least = min(SEEN, SEEN_OF_EVEN * even)

    def told(found: Record) -> Record:
        for line in found["shown"]:
            part = line["part"]
            known = parts[part]["keypoint"] if part < len(parts) else None
            cells = float(accounts.cells[row, part])
            line["keypoint"] = known and known["name"]
            line |= {"cells": cells, "seen": cells >= least}
            line["cell"] = accounts.best[row, part].tolist()
        return found

    differences = added[:, label] - added[:, rival]
    contrast = told(ledger(differences, bias[label] - bias[rival], CONTRASTED))
    for line in contrast["shown"]:
        line["own"] = float(added[line["part"], label])
        line["rival"] = float(added[line["part"], rival])
    return told(ledger(added[:, label], bias[label], SHOWN)) | {
        "class": {"index": label, "name": names[label]},
        "contributions": np.round(added[:, label], 7).tolist(),
        "contrast": contrast
        | {
            "class": {"index": rival, "name": names[rival]},
            "logit": float(logits[rival]),
        },
    }


def ledger(amounts: np.ndarray, bias: float, count: int) -> Record:
    """Write down a sum over parts: the largest, the others, the bias and the total.

    Args:
        amounts: Amount of each part, `[parts]`.
        bias: What is added besides.
        count: How many parts are shown, those with the largest absolute amounts; from
            the largest to the smallest.
    """
    order = np.argsort(-np.abs(amounts), kind="stable")[:count]
    order = order[np.argsort(-amounts[order], kind="stable")]
    left = np.setdiff1d(np.arange(len(amounts)), order)
    return {
        "shown": [
            {"part": int(part), "contribution": float(amounts[part])} for part in order
        ],
        "others": {"parts": len(left), "contribution": float(amounts[left].sum())},
        "bias": float(bias),
        "total": float(amounts.sum() + bias),
    }


def heat(accounts: Accounts, row: int, part: int, size: int) -> np.ndarray:
    """Give where a part is in an image, `[size, size]` in [0, 1].

    Its share of each pixel, by the largest there is, which counts as at least four
    times what an even deal gives: noise does not become a hot spot.
    """
    some = accounts.shares[row : row + 1, ..., part]
    shares = np.asarray(receptive_field.place(some, accounts.centres, size))[0]
    least = min(1.0, 4 / accounts.shares.shape[-1])
    return np.clip(shares / max(float(some.max()), least), 0, 1)

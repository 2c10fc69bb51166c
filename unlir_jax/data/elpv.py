"""Solar cells: the ELPV data set, as its PyPI package brings it."""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlir_jax.data import folder, image_files, preprocessing
from unlir_jax.data.source import Example, Source

CLASSES = ("functional", "defective")
CELLS = ("mono", "poly")


def elpv(
    split: str, *, cells: str | None = None, share: float = 0.25, seed: int = 0
) -> Source:
    """List electroluminescence images of solar cells, 300 x 300, grey.

    A cell is defective where its probability of a defect, which is 0, 1/3, 2/3 or 1, is
    over one half. Reference: Deitsch et al., "Automatic classification of defective
    photovoltaic module cells in electroluminescence images", Solar Energy 185, 2019.

    Note:
        The authors' division into 75 % for training and 25 % for testing is not
        published. This one draws its own, of the same shares of each probability and
        kind; a cell is on the same side whether or not the other kind is there.

    Args:
        split: "train", "test" or "all".
        cells: "mono" or "poly": crystalline cells of one kind; None for both.
        share: Share of the test, in (0, 1).
        seed: Seed of the division.

    Raises:
        ValueError: An argument is none of these, or the package `elpv-dataset` is not
            installed.
    """
    if cells is not None and cells not in CELLS:
        raise ValueError(
            f"`cells`={cells!r} is not one of {', '.join(CELLS)}, or None."
        )
    if not 0 < share < 1:
        raise ValueError(f"`share`={share} is a share; expected a value in (0, 1).")
    folder.check_split(split, ("train", "test"), "the data set elpv")
    root = _installed()
    rows = [
        line.split() for line in (root / "labels.csv").read_text("utf-8").splitlines()
    ]
    rows = [row for row in rows if row]
    strata = [(probability, cell) for _, probability, cell in rows]
    splits = folder.hold_out([row[0] for row in rows], strata, share, seed)
    chosen = [
        row
        for row, part in zip(rows, splits, strict=True)
        if split in ("all", part) and cells in (None, row[2])
    ]
    names = [row[0] for row in chosen]
    labels = np.asarray([float(row[1]) > 0.5 for row in chosen], np.int32)

    read = functools.partial(_read, root, names, labels)
    return Source(
        read,
        len(names),
        CLASSES,
        lambda index: names[index],
        labels,
        fingerprint=functools.partial(_fingerprint, root, names),
        file=lambda index: str(root / names[index]),
    )


def _read(root: Path, names: list[str], labels: np.ndarray, index: int) -> Example:
    image = preprocessing.read_image(root / names[index])
    return {"image": image, "label": int(labels[index])}


def _fingerprint(
    root: Path, names: list[str], *, times: bool = True, annotations: Sequence[str] = ()
) -> str:
    del annotations  # There are none.
    return image_files.fingerprint([root / name for name in names], times=times)


def _installed() -> Path:
    """Find the folder of the package without importing it."""
    found = importlib.util.find_spec("elpv_dataset")
    places = (
        [Path(place) / "data" for place in found.submodule_search_locations or ()]
        if found
        else []
    )
    for place in places:
        if (place / "labels.csv").is_file():
            return place
    raise ValueError(
        "The data set elpv is not installed; expected it after `pip install "
        "'unlir_jax[elpv]'`, which brings the package elpv-dataset."
    )

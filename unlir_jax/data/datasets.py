"""Data sets that tensorflow-datasets has prepared, read without TensorFlow."""

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlir_jax.core import choices, extras
from unlir_jax.core.document_types import Record
from unlir_jax.data import classes as class_names
from unlir_jax.data import (
    frames,
    geometry,
    image_files,
    masks,
    orientation,
    preprocessing,
)
from unlir_jax.data.source import Source


def _trimap(values: np.ndarray) -> np.ndarray:
    """Take the pet (1) as the object; 2 is the background, and the border (3) void.

    The border is what the annotators left open: the outline and, say, a collar.
    """
    return masks.part_values(values, kind="trimap")


def _object(values: np.ndarray) -> np.ndarray:
    """Take what most annotators marked: greys are the share of five who did."""
    return masks.part_values(values, kind="object")


class Known(NamedTuple):
    """Say where a data set keeps what it knows.

    Attributes:
        test: The split on which the literature tests.
        boxes: Keys to normalised boxes, ymin, xmin, ymax, xmax; () if it has none.
        most: The largest number of boxes of an image.
        first_pixel: Number of the first column and row in the boxes, 1 as in Pascal
            VOC.
        mask: Key of the mask, "" if it has none.
        values: What turns the stored values of a mask into 0, parts and void.
        codes: What the data set calls ImageNet's classes, where it has those.
    """

    test: str = "test"
    boxes: tuple[str, ...] = ()
    most: int = 1
    first_pixel: int = 0
    mask: str = ""
    values: Callable[[np.ndarray], np.ndarray] = masks.part_values
    codes: Callable[[], tuple[str, ...]] | None = None


KNOWN = {
    "caltech_birds2011": Known(
        boxes=("bbox",), mask="segmentation_mask", values=_object
    ),
    "cars196": Known(boxes=("bbox",)),
    "cifar10": Known(),
    "cifar100": Known(),
    "imagenet2012": Known("validation", codes=class_names.wordnet_ids),
    "oxford_flowers102": Known(),
    "oxford_iiit_pet": Known(mask="segmentation_mask", values=_trimap),
    # How many dogs an image has is known only when all are read.
    "stanford_dogs": Known(boxes=("objects", "bbox"), most=8),
}


def tfds(
    name: str, split: str, *, data_dir: str | os.PathLike[str] | None = None
) -> Source:
    """Read a data set that tensorflow-datasets has prepared as ArrayRecord.

    Boxes and masks come with those in `KNOWN`; all others give `image` and `label`. Of
    more than `Known.most` boxes, the largest are kept. Boxes and masks are places in
    the stored pixels, as TensorFlow decodes them; where EXIF turns an image, they turn
    with it.

    Args:
        name: Its name there, also `name/config:version`, or that of a builder of one's
            own.
        split: A split, "all", or an expression such as "train[:10%]"; "test" is the
            split that the literature tests on: `validation` for ImageNet.
        data_dir: Where it was prepared; None for TFDS_DATA_DIR or
            `~/tensorflow_datasets`.

    Raises:
        ValueError: There is no such data set or split, or it has not been prepared.
    """
    builder = builder_of(name, data_dir)
    known = KNOWN.get(builder.name, Known())
    split = known.test if split == "test" else split
    features = builder.info.features
    if "image" not in features:
        raise ValueError(
            f"Data set {name!r} has {', '.join(features)}; expected `image` among them."
        )
    directory = str(builder.data_dir)
    keys = tuple(key for key in ("image", known.mask) if key)
    size = len(records(builder, name, split, keys))
    classes: tuple[str, ...] = ()
    if "label" in features:
        classes = tuple(getattr(features["label"], "names", None) or ())
    if known.codes and classes == known.codes():
        classes = preprocessing.imagenet_classes()
    title = f"{builder.name}/{split}"

    # The worker that reads opens the files; what is pickled is where they are.
    read = functools.partial(
        read_record, directory, split, keys, known, title, bool(classes)
    )
    kinds = [("boxes", known.boxes), ("mask", known.mask)]
    label = functools.partial(_label, directory, split, keys) if classes else None
    return class_names.ordered(
        Source(
            read,
            size,
            classes,
            lambda index: f"{title}/{index}",
            annotations=tuple(kind for kind, there in kinds if there),
            boxes=known.most,
            fingerprint=functools.partial(fingerprint, directory),
            label=label,
        )
    )


def records(builder: Any, name: str, split: str, keys: tuple[str, ...]) -> Any:
    """Open a split of a data set; some of its images stay encoded.

    Raises:
        ValueError: There is no such split.
    """
    try:
        return opened(str(builder.data_dir), split, keys)
    except ValueError as error:
        splits = [*builder.info.splits, "all"]
        hint = choices.meant(split, splits)
        raise ValueError(
            f"`split`={split!r} is not in data set {name!r}; {hint}known: "
            f"{', '.join(splits)}."
        ) from error


def fingerprint(
    directory: str, *, times: bool = True, annotations: Sequence[str] = ()
) -> str:
    """Hash the files of all splits: annotations lie next to their images."""
    del annotations
    return image_files.fingerprint(sorted(Path(directory).iterdir()), times=times)


def _library() -> Any:
    # Imported when it is needed: few want it, and it takes a while.
    with extras.needed("train"):
        return importlib.import_module("tensorflow_datasets")


def builder_of(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """Find a data set that was prepared as ArrayRecord.

    Raises:
        ValueError: There is no such data set, or it has not been prepared.
    """
    library = _library()
    place = None if data_dir is None else os.fspath(data_dir)
    try:
        builder = library.builder(name, data_dir=place)
    except library.core.DatasetNotFoundError as error:
        known = library.list_builders(with_community_datasets=False)
        hint = choices.meant(name, known, count=3)
        raise ValueError(
            f"`name`={name!r} is not a data set; {hint}expected one of {len(known)} "
            "that tensorflow_datasets.list_builders() lists, or one prepared in "
            f"{_shown(place)}."
        ) from error
    except (AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(
            f"`name`={name!r} is not a data set ({reason}); expected NAME, NAME/CONFIG "
            "or NAME:VERSION."
        ) from error
    formats = [kind.value for kind in builder.info.available_file_formats()]
    prepared = builder.is_prepared() and bool(builder.info.splits)
    if not prepared or "array_record" not in formats:
        state = (
            f"is prepared as {', '.join(formats)}" if prepared else "is not prepared"
        )
        raise ValueError(
            f"Data set {name!r} {state} in {_shown(place)}; expected it as "
            f"array_record, by `tfds build {name} --file_format=array_record"
            f"{f' --data_dir={place}' if place else ''}` where TensorFlow is installed."
        )
    return builder


def _shown(place: str | None) -> str:
    if place:
        return f"`data_dir`={place!r}"
    home = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return f"{home!r} (`data_dir` is None)"


@functools.lru_cache(maxsize=16)
def opened(directory: str, split: str, keys: tuple[str, ...]) -> Any:
    """Open a split; images stay encoded."""
    library = _library()
    # Pillow reads images alike everywhere, OpenCV only where it is installed.
    encoded = {key: library.decode.SkipDecoding() for key in keys}
    builder = library.builder_from_directory(directory)
    return builder.as_data_source(split, decoders=encoded)


def read_record(
    directory: str,
    split: str,
    keys: tuple[str, ...],
    known: Known,
    title: str,
    labelled: bool,
    index: int,
) -> dict:
    """Read one example of a split, and what is known of it."""
    where = f"{title}/{index}"
    stored = opened(directory, split, keys)
    try:
        example = stored[index]
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"Example {where} cannot be read ({error}); expected 0 to "
            f"{len(stored) - 1}, and files that are whole."
        ) from error
    label = int(example["label"]) if labelled else -1
    return _converted(example, known, where) | {"label": label}


def _label(directory: str, split: str, keys: tuple[str, ...], index: int) -> int:
    """Read a label alone: images stay encoded."""
    return int(opened(directory, split, keys)[index]["label"])


def _converted(example: dict, known: Known, where: str) -> dict:
    """Turn an image upright, and with it what is known of places in it."""
    name = f"Image {where}"
    found = preprocessing.decode_bytes(example["image"], name)
    image = preprocessing.coloured(found, name)
    turned = found.orientation or orientation.UPRIGHT
    converted: Record = {"image": image}
    if known.boxes:
        boxes: Any = example
        for key in known.boxes:
            boxes = boxes[key]
        size = orientation.turned_size(image.size, turned)
        places = {"boxes": _largest(_pixels(boxes, size, known), known.most)}
        converted |= geometry.turn(places, turned, size)
    if known.mask:
        name = f"The mask of {where}"
        mask = preprocessing.decode_bytes(example[known.mask], name)
        size = image.size
        upright = frames.upright_mask(mask, size, turned, name, called=None)
        converted["mask"] = known.values(np.asarray(upright))
    return converted


def _pixels(boxes: Any, size: tuple[int, int], known: Known) -> np.ndarray:
    """Turn normalised ymin, xmin, ymax, xmax into x0, y0, x1, y1 in pixels."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]
    boxes = boxes * np.asarray([*size, *size], np.float32)
    # The last pixel is inside, so that only the first edges come too late.
    first = np.asarray([known.first_pixel] * 2 + [0, 0], np.float32)
    return boxes - first


def _largest(boxes: np.ndarray, most: int) -> np.ndarray:
    """Keep the largest boxes, in their order."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return boxes[np.sort(np.argsort(-areas, kind="stable")[:most])]

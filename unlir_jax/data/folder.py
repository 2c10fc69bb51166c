"""Images in a folder, by split and class, with what tables next to them say."""

import functools
import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlir_jax.data import (
    class_lists,
    frames,
    image_files,
    levels,
    masks,
    preprocessing,
    tables,
)
from unlir_jax.data.annotations import Notes, gather, narrowed, noted
from unlir_jax.data.listing import Listing, check_split, list_folder
from unlir_jax.data.source import Example, Source

PARTS = "parts.csv"


def folder(
    path: str | os.PathLike[str],
    split: str,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    annotations: str = frames.STORED,
    keypoints_outside: str = frames.REFUSE,
    white_level: levels.WhiteLevel = levels.AUTO,
    mask: masks.Kind = "auto",
    ignore: int | None = masks.VOID,
    classes: str | None = None,
) -> Source:
    """List the images of a folder.

    The folder is laid out in one of these ways:

    - `SPLIT/CLASS/*.jpg`: the classes are the folders of `train` (of all splits where
      there is no `train`), sorted; images deeper in a class belong to it.
    - `CLASS/*.jpg`: `holdout` cuts it into `train` and `test`.
    - `index.csv` or `labels.csv` with a column `path`, or `name` for an image
      `NAME.*` or `images/NAME.*`, and where wanted `class` or `label`, and `split`.
      With `SPLIT/CLASS` the table gives no classes, only annotations; so it does with
      `CLASS/*.jpg` where it has no column of classes.
    - images only, which then have no label.

    Boxes are columns x0, y0, x1, y1 of the table, several lines for several boxes; its
    column `mask`, or else `masks/PICTURE.png`, says where the masks are (see
    `masks.read_mask`); keypoints are in `parts.csv`. Each has to be there for all
    images of the split or none. Hidden files and files without the suffix of an
    image are left out; files without a suffix count in `Source.notices`.

    Args:
        path: The folder.
        split: A split of it, or "all".
        holdout: Share of every class, in [0, 1), that is "test" where the folder itself
            has no splits; the rest is "train".
        seed: Seed of `holdout`.
        annotations: "stored": boxes, masks and keypoints are places in the pixels of
            the file and turn with a photo that EXIF turns; "seen": they are places in
            the photo as it is seen.
        keypoints_outside: What becomes of a keypoint more than a pixel beyond the edge,
            "refuse" or "hide".
        white_level: Which value is white in grey images of more than 8 bits, "auto",
            "maximum" or a number; see `levels`.
        mask: What the masks show: an "object", "classes" (or parts) or a "trimap";
            "auto" tells the first two by the values of some, see `masks.reading`.
        ignore: The value of void in them; None if there is none.
        classes: A file with the names of all classes, one a line, or "imagenet" for its
            1,000; then `train` need not have an image of each, and other splits may
            have classes that it lacks. By default the folder has all classes.

    Raises:
        ValueError: The folder is not laid out so, a table contradicts it, a setting
            makes no sense, or its masks do not tell what they are.
    """
    white_level = levels.check_white_level(white_level)
    if not 0 <= holdout < 1:
        raise ValueError(f"`holdout`={holdout} is a share; expected a value in [0, 1).")
    root, others = existing(Path(path)), []
    listing, index = list_folder(root, split, others, is_open=classes is not None)
    chosen = _choose(root, listing, split, holdout, seed)
    pictures = [listing.pictures[i] for i in chosen]
    names, number = _numbered(root, listing.classes, classes)
    labels = np.asarray([number.get(listing.labels[i], -1) for i in chosen], np.int32)
    notes = gather(
        root,
        pictures,
        index,
        _parts(root, listing),
        frame=annotations,
        outside=keypoints_outside,
        mask=mask,
        ignore=ignore,
    )

    notice = _warned(image_files.left_out(others, f"in {str(root)!r}"))
    read = functools.partial(read_example, root, pictures, labels, white_level)
    return Source(
        functools.partial(read, notes),
        len(pictures),
        names,
        lambda index: pictures[index],
        labels,
        notes.kinds,
        notes.parts,
        notes.most,
        functools.partial(fingerprint, root, pictures, white_level, notes),
        file=lambda index: str(root / pictures[index]),
        masks="" if notes.masks is None else masks.described(notes.reading),
        reading=lambda kinds: functools.partial(read, narrowed(notes, kinds)),
        notices=notice,
    )


def _parts(root: Path, listing: Listing) -> tables.Table | None:
    there = (root / PARTS).is_file()
    return tables.read(root / PARTS, listing.pictures) if there else None


def _numbered(
    root: Path, found: tuple[str, ...], given: str | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Give the names of all classes, and the number of each that was found."""
    if given is None:
        return found, {name: label for label, name in enumerate(found)}
    names = class_lists.every(given)
    places = class_lists.places(found, names, f"folder {str(root)!r}", given)
    return names, dict(zip(found, places.tolist(), strict=True))


def _warned(notice: str) -> tuple[str, ...]:
    """Say to people at once what they should know, and keep it for records."""
    if not notice:
        return ()
    warnings.warn(notice, stacklevel=3)
    return (notice,)


def read_example(
    root: Path,
    pictures: list[str],
    labels: np.ndarray,
    white_level: levels.WhiteLevel,
    notes: Notes,
    index: int,
) -> Example:
    """Read one image of a folder, and what is noted of it."""
    file = root / pictures[index]
    image, turned = preprocessing.read_turned(file, white_level=white_level)
    example: Example = {"image": image, "label": int(labels[index])}
    return example | noted(notes, index, image.size, file, turned)


def fingerprint(
    root: Path,
    pictures: list[str],
    white_level: levels.WhiteLevel,
    notes: Notes,
    *,
    times: bool = True,
    annotations: Sequence[str] = (),
) -> str:
    """Tell whether images of a folder, or their annotations, have changed."""
    known = b"" if white_level == levels.AUTO else f"{white_level}\n".encode()
    asked = narrowed(notes, annotations)
    if asked.boxes is not None:
        known += b"".join(boxes.tobytes() + b"\n" for boxes in asked.boxes)
    if asked.points is not None:
        known += asked.points.tobytes()
    paths = [root / name for name in pictures] + list(asked.masks or ())
    return image_files.fingerprint(paths, times=times, known=known)


def existing(root: Path) -> Path:
    """Give the absolute path of a folder, or raise ValueError."""
    if not os.path.isdir(root):
        kind = "is a file" if os.path.exists(root) else "does not exist"
        raise ValueError(f"Folder {str(root)!r} {kind}; expected a folder of images.")
    # Worker processes may run elsewhere.
    return root.absolute()


def _choose(
    root: Path, listing: Listing, split: str, holdout: float, seed: int
) -> list[int]:
    splits = listing.splits
    where = f"folder {str(root)!r}"
    if splits is not None and holdout:
        raise ValueError(
            f"`holdout`={holdout} is for images without splits, but {where} has "
            f"{', '.join(sorted(set(splits)))}; expected `holdout`=0."
        )
    if splits is None:
        check_split(split, ("train", "test"), where)
        if not holdout and split != "all":
            raise ValueError(
                f"`split`={split!r} is not in {where}, which has no splits; expected "
                f"`holdout`=0.2 to make train and test, or `split`='all'."
            )
        splits = hold_out(listing.pictures, listing.labels, holdout, seed)
    known = sorted(set(splits), key=lambda name: (name != "train", name))
    check_split(split, known, where)
    return [i for i, name in enumerate(splits) if split in ("all", name)]


def hold_out(
    names: Sequence[str], strata: Sequence, share: float, seed: int
) -> list[str]:
    """Put a share of every stratum into "test", and the rest into "train".

    An image's place follows from the seed and the names of its stratum, not from their
    order. A stratum of two or more has at least one image on either side; a single
    one is for training.

    Args:
        names: The identity of each image.
        strata: What each is stratified by, such as its class.
        share: The share of "test", in [0, 1); 0 puts everything into "train".
        seed: Seed of the draws.
    """
    groups: dict = {}
    for place, stratum in enumerate(strata):
        groups.setdefault(stratum, []).append(place)
    splits = ["train"] * len(names)
    if not share:
        return splits

    def draw(place: int) -> bytes:
        return hashlib.sha256(
            f"{seed}/{names[place]}".encode("utf-8", "surrogateescape")
        ).digest()

    for places in groups.values():
        count = min(max(int(share * len(places) + 0.5), 1), len(places) - 1)
        for place in sorted(places, key=draw)[:count]:
            splits[place] = "test"
    return splits

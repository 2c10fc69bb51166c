"""Masks: which pixels are an object, a part or a class, and which are not said.

Files have three conventions, which their values tell apart and their largest does not:

- an object: two values, or a ramp between black and white along its edge;
- classes or parts: few values, 0 for the background; 255 is void, not said, as in
  Pascal VOC (Everingham et al., IJCV 2010) and COCO-Stuff (Caesar et al., CVPR 2018);
- a trimap: 1 the object, 2 the background, 3 void, as in Oxford-IIIT Pet (Parkhi et
  al., CVPR 2012).

Read, all are one: 0 for the background, k for the k-th part, `VOID` for void.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.core import choices
from unlir_jax.data import decoding, frames, mask_values, preprocessing, strips
from unlir_jax.data.mask_values import Stored
from unlir_jax.data.source import VOID

Kind = Literal["auto", "object", "classes", "trimap"]
Told = Literal["auto", "object", "classes"]

# Of 2- and 4-bit grey, Pillow gives the samples times these.
SCALES = {"L;2": 85, "L;4": 17}
# So many masks of a data set are looked at to tell its convention.
LOOKED_AT = 16


class Reading(NamedTuple):
    """Say how the masks of one data set are read.

    Attributes:
        kind: What was asked for.
        ignore: The stored value of void; None if there is none.
        told: What the data set's masks, looked at together, are.
    """

    kind: Kind = "auto"
    ignore: int | None = VOID
    told: Told = "auto"


def reading(
    paths: Sequence[Path], kind: Kind = "auto", ignore: int | None = VOID
) -> Reading:
    """Tell from some masks of a data set how all of them are to be read.

    One data set has one convention: what a single mask leaves open, such as whether 255
    together with 0 alone is an object or void, others tell.

    Args:
        paths: The masks.
        kind: What they are, or "auto" to look at some, evenly spread.
        ignore: The stored value of void; None if there is none.

    Raises:
        ValueError: An unknown setting, or masks that contradict each other or leave
            open what they are.
    """
    check_settings(kind, ignore)
    if kind != "auto":
        return Reading(kind, ignore)
    unique = list(dict.fromkeys(paths))
    spread = np.linspace(0, len(unique), min(LOOKED_AT, len(unique)), endpoint=False)
    found: dict[str, list[str]] = {}
    for place in spread.astype(int):
        try:
            stored = _opened(unique[place])
        except (ValueError, OSError):
            continue  # It is named when its picture is read.
        evidence = mask_values.look(stored, ignore)
        line = f"mask {str(unique[place])!r} {evidence.why}"
        found.setdefault(evidence.kind, []).append(line)
    return Reading(kind, ignore, _together(found))


def described(how: Reading) -> str:
    """Say in words how masks are read, for records."""
    if how.kind == "trimap":
        return "trimap: 1 is the object, 2 the background, 3 void"
    kind = how.kind if how.kind != "auto" else f"{how.told}, as their values tell"
    if how.ignore is None or (how.ignore == VOID and "object" in kind):
        return f"{kind}; nothing is void"
    return f"{kind}; {how.ignore} is void"


def _together(found: dict[str, list[str]]) -> Told:
    """Make one convention of what some masks are."""
    sure = [found[kind][0] for kind in ("object", "classes") if kind in found]
    if len(sure) > 1:
        _ask(f"{sure[0]}, but {sure[1]}")
    white, whole = found.get("white", []), found.get("full", [])
    if "classes" in found:
        # Some maps of classes may hold void alone; most would hold classes.
        if len(white) + len(whole) > len(found["classes"]):
            _ask(f"{(white + whole)[0]}, but {sure[0]}")
        return "classes"
    if "object" in found:
        return "object"
    if "unclear" in found:
        _ask(found["unclear"][0])
    if white:
        if "number" in found:
            _ask(f"{white[0]}, but {found['number'][0]}")
        return "object"
    if whole:
        _ask(whole[0])
    return "classes" if "number" in found else "auto"


def _ask(fact: str) -> None:
    raise ValueError(f"{fact[0].upper()}{fact[1:]}; {mask_values.EXPECTED}.")


def check_settings(kind: str, ignore: int | None) -> None:
    """Refuse settings that there are not.

    Raises:
        ValueError: `mask` or `ignore` is something else.
    """
    choices.check("mask", kind, Kind)
    whole = isinstance(ignore, int) and not isinstance(ignore, bool)
    if ignore is not None and not (whole and 0 <= ignore <= 65535):
        raise ValueError(
            f"`ignore`={ignore!r}; expected the value of void, 0 to 65535, or none."
        )


def read_mask(
    path: Path,
    size: tuple[int, int],
    *,
    kind: Kind = "auto",
    ignore: int | None = VOID,
    told: Told = "auto",
    orientation: int = 1,
) -> np.ndarray:
    """Read a mask, uint8 `[height, width]`: 0 background, k a part, 255 void.

    Grey files and palettes of the same values are the same. With `kind="auto"`,

    - two values, 0 and k, are the background and k; 0 and 255 are the background and
      an object, 1, unless `told` says that 255 is void;
    - many values along edges, up to white, are a ramp: above 127 lies an object, 1;
    - few values that fill areas are classes, and `ignore` is void;
    - anything else is asked for.

    Args:
        path: The image of the mask.
        size: Width and height of the upright image that it belongs to.
        kind: `object` takes white, or the one value that there is, as the object;
            `classes` takes values as they are; `trimap` takes 1 as the object, 2 as the
            background and 3 as void; `auto` tells the first two by their values.
        ignore: The stored value that is void; None if there is none. In an object mask
            that is a value below the object's, never white itself.
        told: What other masks of the data set are, see `reading`.
        orientation: EXIF orientation of its image, 1 to 8, by which the mask is
            turned unless it carries one of its own.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, has another size, is coloured, or its values do
            not tell what it is.
    """
    check_settings(kind, ignore)
    stored = _opened(path, size, orientation)
    return _parts(stored, Reading(kind, ignore, told), f"Mask {str(path)!r}")


def part_values(
    values: np.ndarray, *, kind: Kind = "auto", ignore: int | None = VOID
) -> np.ndarray:
    """Give the parts of stored values, `[height, width]`, as `read_mask` does."""
    check_settings(kind, ignore)
    stored = Stored(mask_values.whole(values, "The mask"))
    return _parts(stored, Reading(kind, ignore), "The mask")


def _parts(stored: Stored, how: Reading, where: str) -> np.ndarray:
    if how.kind == "trimap":
        return mask_values.trimap(stored, where)
    evidence = mask_values.look(stored, how.ignore)
    kind = how.kind
    if kind == "auto":
        if how.told != "auto" and evidence.kind in {"object", "classes"} - {how.told}:
            raise ValueError(
                f"{where} {evidence.why}, but others are read as `mask`={how.told!r}; "
                f"{mask_values.EXPECTED}."
            )
        kind = how.told
    if kind == "auto":
        if evidence.kind in ("unclear", "full"):
            raise ValueError(f"{where} {evidence.why}; {mask_values.EXPECTED}.")
        kind = "object" if evidence.kind in ("object", "white") else "classes"
    if kind == "object":
        return mask_values.object_of(stored, how.ignore, evidence, where)
    return mask_values.classes_of(stored, how.ignore, where)


def _opened(
    path: Path, size: tuple[int, int] | None = None, orientation: int = 1
) -> Stored:
    """Open a mask, the one place where that is done, and bring it upright.

    Args:
        path: The file.
        size: Width and height of its upright image; None where that is not asked.
        orientation: See `read_mask`.
    """
    where = f"Mask {str(path)!r}"
    found = preprocessing.decode_file(path, where, beside=1)
    upright = found.image
    if size is not None:
        upright = frames.upright_mask(found, size, orientation, where)
    lossy, scale = found.format in ("JPEG", "MPO"), SCALES.get(found.samples, 1)
    with decoding.readable(where, found.budget.most):
        values = _values(upright, where)
        if upright.mode in ("P", "PA"):
            _check_palette(upright, values, where)
        return Stored(mask_values.whole(values, where), lossy, scale)


def _values(image: Image.Image, where: str) -> np.ndarray:
    """Give the stored values, of several channels the one that they all have."""
    # Strip by strip: Pillow copies all of it twice for an array.
    kind = np.asarray(image.crop((0, 0, 1, 1))).dtype
    values = np.empty((image.height, image.width), kind)
    for box in strips.boxes(image.size):
        strip = np.asarray(image.crop(box))
        several = strip.ndim == 3
        rows = mask_values.grey(strip, where) if several else strip
        values[box[1] : box[3]] = rows
    return values


def _check_palette(image: Image.Image, values: np.ndarray, where: str) -> None:
    """Refuse a palette of greys in which the number 0 is not the black."""
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.flatnonzero(mask_values.counts(values))
    used = used[used < len(palette)]
    greys = palette[used]
    if (greys != greys[:, :1]).any() or len(used) < 2:
        return  # Colours only show which number is which.
    if ((greys[:, 0] > 0) != (used > 0)).any():
        raise ValueError(
            f"{where} has a palette in which black is not number 0, so that numbers "
            "and greys say different things; expected a grey image, or 0 as black."
        )

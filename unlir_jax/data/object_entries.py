"""Objects of images as a file of boxes names them, whatever its format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.data.listing import check_split

COCO, VOC07, VOC10 = "coco", "voc07", "voc10"
"""Rules of average precision, see `detection.average_precision`."""
ALL = "all"


class Entry(NamedTuple):
    """Hold what a file says of one object, or of an image without objects.

    Attributes:
        place: What it is in the file, its number there, and the file.
        picture: The image, relative to the folder.
        label: Name of the class; "" where the image has no object.
        box: x0, y0, x1, y1 in pixels, half-open; None where there is none, or where
            nobody asked.
        ignored: Whether the object need not be found: a difficult one of VOC, a crowd
            of COCO.
        shows: Whether the image has the class by this object.
    """

    place: tuple[str, object, Path]
    picture: str
    label: str = ""
    box: Sequence[float] | None = None
    ignored: bool = False
    shows: bool = True

    @property
    def where(self) -> str:
        """Say where this is, to begin a message with."""
        kind, number, file = self.place
        return f"{kind} {number!r:.40} of {str(file)!r}"


class Listed(NamedTuple):
    """Hold the objects of some splits of a folder.

    Attributes:
        root: The folder that images are relative to.
        where: What says so, for messages: "table 'boxes.csv'".
        splits: Images of each split, in order; the split "" where nothing tells them.
        entries: The objects of all these images, in order.
        sizes: Width and height of images where the file gives them.
        rule: Rule of average precision that is usual for such data.
        notices: Sentences about what was left out.
        masks: Files of masks by image; {} where nobody asked.
    """

    root: Path
    where: str
    splits: dict[str, list[str]]
    entries: list[Entry]
    sizes: Mapping[str, tuple[int, int]] = {}
    rule: str = COCO
    notices: tuple[str, ...] = ()
    masks: Mapping[str, Path] = {}


class Wanted(NamedTuple):
    """Say what is to be read.

    Attributes:
        split: The split of images, or "all".
        learned: The split that names the classes.
        boxes: Whether the boxes of `split` are needed.
    """

    split: str
    learned: str
    boxes: bool

    def among(self, known: Sequence[str], where: str) -> list[str]:
        """Choose the splits that have to be read.

        Raises:
            ValueError: One is not known.
        """
        for name in (self.learned, self.split):
            check_split(name, known, where)
        if ALL in (self.learned, self.split):
            return list(known)
        return list(dict.fromkeys((self.learned, self.split)))

    def boxed(self, split: str) -> bool:
        """Tell whether the boxes of images of a split are needed."""
        return self.boxes and (split in (self.split, "") or self.split == ALL)

"""Images of an evaluation, and what has to be known of them."""

from collections.abc import Sequence

import numpy as np

from unlir_jax.data import registry, source
from unlir_jax.data.splits import PLACE
from unlir_jax.evaluation import conditions, labels
from unlir_jax.explanation.scoring import OBJECTS, Scorer
from unlir_jax.models import pretrained
from unlir_jax.runtime.config import Settings

SPLITS = ("test", "validation", "val")


def open_source(settings: Settings) -> source.Source:
    """Open the data, and refuse it where it lacks labels that are asked for.

    Raises:
        ValueError: It lacks them, or cannot be opened.
    """
    found = open_limited(settings.data)
    labels.check_some(conditions.labelling(settings), found)
    return found


def open_limited(settings: Settings) -> source.Source:
    """Open the data of the group `data`, as many of its images as are asked for.

    Raises:
        ValueError: It cannot be opened, has no images, or the limit is negative.
    """
    options = settings.options.to_dict()
    if settings.source in ("folder", "npz") and not settings.path:
        raise ValueError(
            f"`data.path` is missing, where the {settings.source} lies; expected "
            "--config.data.path=…"
        )
    if settings.path:
        options[PLACE.get(settings.source, "path")] = settings.path
    splits = SPLITS if settings.split == "auto" else (settings.split,)
    found, refused = None, None
    for split in (*splits, *(["all"] if settings.split == "auto" else [])):
        try:
            found = registry.open_source(settings.source, split, **options)
            break
        except ValueError as error:
            # Another split is for where there is no such one, not for bad data.
            if not str(error).startswith("`split`="):
                raise
            refused = error
    if found is None:
        raise refused or ValueError(f"`data.source`={settings.source!r} has no split.")
    if settings.limit < 0:
        raise ValueError(f"`data.limit`={settings.limit}; expected 0 for all, or more.")
    if settings.limit:
        count = min(settings.limit, found.size)
        spread = np.linspace(0, found.size, count, endpoint=False).astype(int)
        found = source.subset(found, spread)
    if not found.size:
        raise ValueError("The data has no images; expected some.")
    return found


def annotations(
    scorers: Sequence[Scorer], data: source.Source, network: pretrained.Pretrained
) -> tuple[str, ...]:
    """List what has to be known of the images: masks, boxes or nothing.

    Where a region is wanted and there are only boxes, they are filled. Where boxes are
    wanted and there are only masks, they are drawn around these.

    Raises:
        ValueError: The data or the network does not allow it.
    """
    taken = {scorer.needs for scorer in scorers}
    drawn = "boxes" not in data.annotations and "mask" in data.annotations
    wanted = [] if "boxes" not in taken else ["mask" if drawn else "boxes"]
    if "masks" in taken:
        wanted.append("mask" if "mask" in data.annotations else "boxes")
    missing = set(wanted) - set(data.annotations)
    if missing:
        names = [name for s in scorers if s.needs in OBJECTS for name in s.columns]
        raise ValueError(
            f"`metrics` has {', '.join(names)}, which need {' and '.join(missing)}, "
            f"but the data has {', '.join(data.annotations) or 'no annotations'}; "
            "expected a table index.csv with x0, y0, x1, y1, or a folder of masks."
        )
    if wanted and network.frame is not None:
        raise ValueError(
            f"The metrics need {' and '.join(wanted)}, which cannot follow the "
            "function `preprocess` of the network; expected a network that was wrapped "
            "with `crop` and `interpolation`, or other metrics."
        )
    return tuple(dict.fromkeys(wanted))

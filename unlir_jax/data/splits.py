"""The two splits that a training needs, checked against each other."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from unlir_jax.data import classes as class_names
from unlir_jax.data import registry, source

CACHES = ("none", "memory")
# What each kind of data calls the place where it lies.
PLACE = {"tfds": "data_dir"}


class Splits(NamedTuple):
    """Hold what is trained on, and what is tested on, if anything."""

    train: source.Source
    test: source.Source | None


def open_splits(settings: Any) -> Splits:
    """Open the splits of labelled data.

    Args:
        settings: The group `data` of `defaults.training`.

    Returns:
        The splits; classes of the test are the training's classes that `classes.match`
        finds.

    Raises:
        ValueError: A split is empty, the test has a class that the training has not,
            there are fewer than two classes, images without one, or a class without
            images that `options.classes` does not name.
    """
    if settings.cache not in CACHES:
        raise ValueError(f"`data.cache`={settings.cache!r}; expected one of {CACHES}.")
    common = settings.options.to_dict()
    if settings.source in ("folder", "npz") and not settings.path:
        raise ValueError(
            f"`data.path` is missing, where the {settings.source} lies; expected "
            "--config.data.path=…"
        )
    if settings.path:
        common[PLACE.get(settings.source, "path")] = settings.path
    train, test = settings.train, settings.test
    opened = {}
    for split, own in ((train, settings.train_options), (test, settings.test_options)):
        if split:
            options = common | own.to_dict()
            opened[split] = registry.open_source(settings.source, split, **options)
    classes = opened[train].classes
    for split, found in list(opened.items()):
        if not found.size:
            raise ValueError(f"The split {split!r} is empty; expected examples.")
        if found.classes != classes:
            named = f"the split {train!r}"
            matched = class_names.match(
                found.classes, classes, data=f"The split {split!r}", network=named
            )
            found = source.relabelled(found, matched.places, classes)
            opened[split] = found
        if found.labels is not None and (found.labels < 0).any():
            raise ValueError(
                f"The split {split!r} has {int((found.labels < 0).sum())} examples "
                "without a class; expected one for each."
            )
    if len(classes) < 2:
        raise ValueError(
            f"The data has {len(classes)} classes; expected at least two, such as the "
            "folders DIR/train/CLASS."
        )
    labels = opened[train].labels
    is_open = (common | settings.train_options.to_dict()).get("classes") is not None
    if labels is not None and not (is_open and settings.source == "folder"):
        present = set(labels.tolist())
        absent = [name for place, name in enumerate(classes) if place not in present]
        if absent:
            raise ValueError(
                f"{len(absent)} of {len(classes)} classes have no example in the split "
                f"{train!r} ({', '.join(absent[:5])}); expected at least one of each."
            )
    if settings.cache == "memory":
        opened = {split: source.cached(found) for split, found in opened.items()}
    return Splits(opened[train], opened[test] if test else None)


def check(splits: Splits, annotations: Sequence[str], objective: str) -> None:
    """Refuse training images that lack what an objective learns from.

    Raises:
        ValueError: They do.
    """
    known = splits.train.annotations
    lacking = [kind for kind in annotations if kind not in known]
    if lacking:
        raise ValueError(
            f"`objective.name`={objective!r} needs the annotation {lacking[0]!r}, and "
            f"the training images have {', '.join(known) or 'none'}; expected data "
            "with it, or another objective."
        )

"""The networks of a study: those that were trained alike, and those that are given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Document, Record
from unlir_jax.evaluation.study.settings import DATA, name
from unlir_jax.runs import workdir
from unlir_jax.runtime import config
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import paths

SEED = "{seed}"
"""What stands for the seed in the name of a network that is given once a seed."""


class Trained(NamedTuple):
    """Hold one network.

    Attributes:
        arm: How it was trained, or its name if it is given.
        seed: Seed of its training; None if one is given for all seeds.
        model: Its workdir, or what `factories.load` takes.
        weights: A file, or None for the model's own.
        data: The test split, by `DATA`.
        settings: Settings of its training; nothing if it is given.
    """

    arm: str
    seed: int | None
    model: str
    weights: str | None
    data: Record
    settings: Record

    @property
    def name(self) -> str:
        return self.arm if self.seed is None else name(self.arm, self.seed)


def find(settings: Settings) -> list[Trained]:
    """Read the networks of a study: seed by seed, the baseline first; given ones last.

    Raises:
        ValueError: A workdir is missing or unfinished, was trained with another arm's
            settings or another seed, or two differ in what all have in common; or a
            network is given without a name, or with that of an arm.
    """
    arms: Record = settings.arms.to_dict()
    given: Record = settings.given.to_dict()
    _check_names(settings, arms, given)
    order = sorted(arms, key=lambda arm: arm != settings.baseline)
    found = []
    if arms:
        root = paths.check(settings.root, "root")
        found = [
            _read(root, arm, seed, arms[arm])
            for seed in range(settings.seeds)
            for arm in order
        ]
        _check_alike(found, arms)
    data = found[0].data if found else {key: settings.data[key] for key in DATA}
    others = [
        one
        for arm, each in given.items()
        for one in _given(arm, each, data, settings.seeds)
    ]
    first = settings.baseline if settings.baseline in given else None
    return sorted(found + others, key=lambda one: one.arm != first)


def _given(arm: str, each: Document, data: Record, seeds: int) -> list[Trained]:
    """List the networks of a given arm: one, or where its name says so one a seed."""
    name, weights = each["name"], each["weights"]
    if SEED not in name:
        return [Trained(arm, None, name, weights, data, {})]
    return [
        Trained(arm, seed, name.replace(SEED, str(seed)), weights, data, {})
        for seed in range(seeds)
    ]


def _check_names(settings: Settings, arms: Document, given: Document) -> None:
    both = [*arms, *given]
    if settings.baseline not in both:
        raise ValueError(
            f"`baseline`={settings.baseline!r} is no arm; expected one of "
            f"{', '.join(both)}."
        )
    if len(both) < 2 or settings.seeds < 1:
        raise ValueError(
            f"`arms` has {len(both)} and `seeds`={settings.seeds}; expected two arms "
            "and one seed, or more."
        )
    for arm, each in given.items():
        if arm in arms:
            raise ValueError(
                f"`given` has {arm!r}, which is an arm that is trained; expected "
                "another name."
            )
        if not each["name"]:
            raise ValueError(
                f"`given.{arm}.name` is empty; expected a network of `unlir models`, "
                f"a workdir or a factory: --config.given.{arm}.name=…"
            )


def _read(root: Path, arm: str, seed: int, sets: Sequence[str]) -> Trained:
    folder = root / name(arm, seed)
    theirs, summary = (
        workdir.read(folder / each) for each in (workdir.CONFIG, workdir.SUMMARY)
    )
    if theirs is None or summary is None:
        state = "is not finished" if folder.is_dir() else "does not exist"
        raise ValueError(
            f"`root`={str(root)!r} should hold the workdir {folder.name!r}, which "
            f"{state}; expected what `launch/sweep.py run` with the same config makes."
        )
    flat = _flat(theirs)
    for setting in (*sets, f"seed={seed}"):
        key, _, value = setting.partition("=")
        if _said(flat, key) != value:
            raise ValueError(
                f"{folder.name!r} was trained with {key}={_said(flat, key)}, and this "
                f"study's arm sets {key}={value}; expected the same config and "
                "arguments as in the training."
            )
    return Trained(arm, seed, str(folder), None, _data(theirs, folder.name), theirs)


def _data(settings: Document, name: str) -> Record:
    """Give the test split of a training, as an evaluation has it."""
    theirs = settings["data"]
    if not theirs["test"]:
        raise ValueError(
            f"{name!r} was trained without a test split; expected `data.test` in the "
            "trainings of a study."
        )
    own = {"split": theirs["test"]}
    own |= {"options": theirs["options"] | theirs["test_options"]}
    return {key: own.get(key, theirs.get(key)) for key in DATA}


def _check_alike(found: Sequence[Trained], arms: Mapping[str, Sequence[str]]) -> None:
    """Compare what no arm sets with the settings of the first network."""
    first, *others = found
    for other in others:
        own = {each.partition("=")[0] for a in (first, other) for each in arms[a.arm]}
        free = (*workdir.FREE, "seed", *own)
        differing = config.differences(first.settings, other.settings, free)
        if differing:
            said = differing[0].replace(" here,", f" in {first.name!r},")
            said = said.removesuffix(" there") + f" in {other.name!r}"
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ValueError(
                f"The networks of a study differ in a setting that no arm sets: {said}"
                f"{more}; expected equal recipes."
            )


def _flat(settings: Document, above: str = "") -> Record:
    found: Record = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found |= _flat(value, f"{above}{key}.") if inner else {above + key: value}
    return found


def _said(flat: Document, key: str) -> str:
    if key not in flat:
        return "nothing"
    value = flat[key]
    # JSON has no tuples, and configs no lists.
    return str(tuple(value) if isinstance(value, list) else value)

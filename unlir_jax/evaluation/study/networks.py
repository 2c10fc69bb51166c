"""The trained networks of a study, and that they were trained alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Document, Record
from unlir_jax.evaluation.study.settings import name
from unlir_jax.runs import workdir
from unlir_jax.runtime import config
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import paths


class Trained(NamedTuple):
    """Hold one trained network.

    Attributes:
        arm: How it was trained.
        seed: Seed of its training.
        folder: Its workdir.
        settings: Settings of its training.
    """

    arm: str
    seed: int
    folder: Path
    settings: Record

    @property
    def name(self) -> str:
        return name(self.arm, self.seed)


def find(settings: Settings) -> list[Trained]:
    """Read the trained networks of a study: seed by seed, the baseline first.

    Raises:
        ValueError: A workdir is missing or unfinished, was trained with another arm's
            settings or another seed, or two differ in what all have in common.
    """
    arms: Record = settings.arms.to_dict()
    if settings.baseline not in arms:
        raise ValueError(
            f"`baseline`={settings.baseline!r} is no arm; expected one of "
            f"{', '.join(arms)}."
        )
    if len(arms) < 2 or settings.seeds < 1:
        raise ValueError(
            f"`arms` has {len(arms)} and `seeds`={settings.seeds}; expected two arms "
            "and one seed, or more."
        )
    order = [settings.baseline, *(arm for arm in arms if arm != settings.baseline)]
    root = paths.check(settings.root, "root")
    found = [
        _read(root, arm, seed, arms[arm])
        for seed in range(settings.seeds)
        for arm in order
    ]
    _check_alike(found, arms)
    return found


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
    return Trained(arm, seed, folder, theirs)


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
    return str(flat[key]) if key in flat else "nothing"

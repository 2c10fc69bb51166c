"""Setup of a few-shot config: one run, or several side by side."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax.adapters import head as heads
from unlir_jax.data import source, splits
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training, episodes, methods
from unlir_jax.filters import sparsity
from unlir_jax.models import pretrained
from unlir_jax.models.pooling import POOLINGS, TOKEN, has_token
from unlir_jax.runtime import ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import paths

ALL, MOST_DIGITS = "all", 9
# Steps of an adapter: enough for few images, more for many.
FEWEST_STEPS, MOST_STEPS, PICTURES = 150, 600, 250
# What learns nothing from one image a class.
RESTING = ("filters", "shifts")


class FewShotSetup(NamedTuple):
    """Hold what one method at one number of shots stands for.

    Attributes:
        settings: See `settings.few_shot`, of this run alone.
        method: How it learns.
        network: Frozen, or where learning starts.
        data: What is learnt from and tested on.
        after: The block behind which a backbone learns.
        at: Where the backbone is cut: the same, or "" where all of it learns.
        image_size: Side in pixels of the images.
        crop: See `preprocessing`.
        interpolation: See `preprocessing`.
        unlabelled: Number of unlabelled images to learn from; None: all.
        duplicates: Images that are both trained and tested on, see
            `data.duplicates`; None where nobody looked.
    """

    settings: Settings
    method: methods.Method
    network: pretrained.Pretrained
    data: splits.Splits
    after: str
    at: str
    image_size: int
    crop: float
    interpolation: str
    unlabelled: int | None
    duplicates: Mapping[str, object] | None = None

    @property
    def name(self) -> str:
        """Name the run."""
        return f"{self.settings.method}_{self.settings.k}"


def several(settings: Settings) -> bool:
    """Tell whether a config asks for runs side by side."""
    return bool(settings.methods or settings.shots)


def prepare(settings: Settings) -> list[FewShotSetup]:
    """Open the data and the network once, and refuse what makes no sense.

    Returns:
        A task for each method and number of shots, those with the same cut together.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    ranges.check(settings)
    names, shots = _combined(settings)
    _check_settings(settings, names, shots)
    unlabelled = _unlabelled(settings.unlabelled)
    data = splits.open_splits(settings.data)
    if data.test is None:
        raise ValueError("`data.test`='' leaves nothing to test on; expected a split.")
    data = data._replace(train=_labelled(data.train))
    _check_counts(settings, data.train, max(shots), unlabelled)
    model = settings.model
    network = pretrained.load(
        model.name,
        model.weights,
        weights_key=model.weights_key,
        crop=settings.data.crop or None,
        interpolation=settings.data.interpolation or None,
        image_size=pretrained.made_for(model.name, settings.data.image_size),
        trunk_only=True,
    )
    image_size = settings.data.image_size or network.image_size
    after = block_cut.behind(network.module, network.image_size, model.after)
    common = (
        image_size,
        settings.data.crop or network.crop,
        settings.data.interpolation or network.interpolation,
        unlabelled,
    )
    if settings.pooling == TOKEN and not has_token(network.module):
        raise ValueError(
            f"`pooling`={TOKEN!r}, but {network.name} has no class token; expected "
            f"one of {', '.join(POOLINGS)}."
        )
    found = []
    for name in _possible(settings, names, network):
        method = methods.pooled(name, network.module)
        if method.adapters and settings.pooling:
            others = tuple(
                own._replace(pooling=settings.pooling) for own in method.ensemble_with
            )
            method = method._replace(pooling=settings.pooling, ensemble_with=others)
        at = "" if method.trunk == "full" else after
        for k in shots:
            own = _alone(settings, name, k)
            made = FewShotSetup(own, method, network, data, after, at, *common)
            _check_penalty(made)
            found.append(made)
    return sorted(found, key=lambda task: not task.at)


def _check_settings(settings: Settings, names: list[str], shots: list[int]) -> None:
    """Refuse what makes no sense on any data."""
    for name in names:
        if name not in methods.METHODS:
            known = ", ".join(methods.METHODS)
            raise ValueError(f"`method`={name!r}; expected one of {known}.")
    for name, value in (
        *(("k", value) for value in shots),
        *((name, settings[name]) for name in ("draws", "batch_size")),
    ):
        if value < 1:
            raise ValueError(f"`{name}`={value}; expected 1 or more.")
    for name, allowed in (
        ("head", heads.HEADS),
        ("head_start", adapter_training.STARTS),
        ("pooling", ("", *POOLINGS, TOKEN)),
    ):
        if settings[name] not in allowed:
            raise ValueError(
                f"`{name}`={settings[name]!r}; expected one of "
                f"{', '.join(map(repr, allowed))}."
            )
    for name in names:
        if settings.crops < 1 and methods.crops(methods.METHODS[name]):
            raise ValueError(
                f"`crops`={settings.crops} with `method`={name!r}, which learns from "
                "crops; expected 1 or more."
            )
    if settings.head == "cosine" and settings.head_start != adapter_training.STARTS[0]:
        raise ValueError(
            f"`head_start`={settings.head_start!r} with a head of cosines, which "
            "starts from the means of the classes; expected head='linear'."
        )
    for name in names:
        for own in methods.groups(methods.METHODS[name]):
            sparsity.check(sparsity.Penalty(**settings.penalty), own.trunk)


def _combined(settings: Settings) -> tuple[list[str], list[int]]:
    """List the methods and the numbers of shots that are combined."""
    names, shots = tuple(settings.methods), tuple(settings.shots)
    for plural, single, listed in (
        ("methods", "method", names),
        ("shots", "k", shots),
    ):
        if listed and settings[single] != listed[0]:
            raise ValueError(
                f"`{single}`={settings[single]!r} beside `{plural}`={listed}; expected "
                "one of the two: the one is a single run, the other several."
            )
    if ALL in names:
        names = tuple(methods.METHODS)
    return (
        list(dict.fromkeys(names or (settings.method,))),
        list(dict.fromkeys(shots or (settings.k,))),
    )


def _possible(
    settings: Settings, names: list[str], network: pretrained.Pretrained
) -> list[str]:
    """Leave out of `all` methods that want a class token, where there is none."""
    if ALL not in settings.methods or has_token(network.module):
        return names
    return [name for name in names if methods.METHODS[name].pooling != TOKEN]


def _labelled(train: source.Source) -> source.Source:
    """Know the class of each image, of which some are to be drawn."""
    train = source.labelled(train)
    without = np.flatnonzero(np.asarray(train.labels) < 0)
    if len(without):
        raise ValueError(
            f"{train.name(int(without[0]))!r} and {len(without) - 1} other images to "
            "learn from have no class; expected one for each."
        )
    return train


def _check_counts(
    settings: Settings, train: source.Source, most: int, unlabelled: int | None
) -> None:
    """Refuse more images than any of the draws can have."""
    labels = np.asarray(train.labels)
    # Which classes are drawn decides which have few images.
    for number in range(settings.draws if settings.ways else 1):
        chosen, _ = episodes.draw(labels, most, number, settings.ways, train.classes)
        episodes.others(train.size, chosen, unlabelled, number)


def _unlabelled(text: str) -> int | None:
    if text == ALL:
        return None
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise ValueError(
            f"`unlabelled`={paths.shown(text)}; expected a number of images, or "
            f"{ALL!r}."
        )
    return int(text)


def _alone(settings: Settings, name: str, k: int) -> Settings:
    """Give the settings with which this run would be made by itself."""
    own = settings.copy_and_resolve_references().unlock()
    own.method, own.k, own.methods, own.shots = name, k, (), ()
    return own.lock()


def cuts(tasks: Iterable[FewShotSetup]) -> list[list[FewShotSetup]]:
    """Put tasks together that look at images at the same cut."""
    groups: dict[str, list[FewShotSetup]] = {}
    for task in tasks:
        groups.setdefault(task.at, []).append(task)
    return list(groups.values())


def steps(setup: FewShotSetup, pictures: int) -> int:
    """Choose how long adapters learn.

    One image of each class says nothing of how images of a class differ: there
    weights of filters only hurt, and nothing is learnt. What they are compared with
    learns all the same.
    """
    if setup.settings.steps:
        return setup.settings.steps
    if setup.settings.k < 2 and setup.method.trunk in RESTING:
        return 0
    grown = FEWEST_STEPS * (pictures / PICTURES) ** 0.5
    return int(np.clip(grown, FEWEST_STEPS, MOST_STEPS))


def adaptation(
    setup: FewShotSetup, pictures: int
) -> tuple[methods.Adaptation, adapter_training.Plan]:
    """Make what learns of the backbone, and say how."""
    method, network = setup.method, setup.network
    behind = block_cut.pattern(network.module, setup.image_size, setup.after)
    last = block_cut.last_pattern(network.module, setup.image_size)
    made = methods.adaptation(
        method.trunk, network.name, network.variables, behind, last
    )
    plan = adapter_training.Plan(
        steps=steps(setup, pictures),
        batch_size=setup.settings.batch_size,
        learning_rate=method.rate,
        head_rate=setup.settings.head_rate,
        head=setup.settings.head,
        head_start=setup.settings.head_start,
        pooling=method.pooling,
        penalty=sparsity.Penalty(**setup.settings.penalty),
    )
    return made, plan


def _check_penalty(setup: FewShotSetup) -> None:
    """Refuse a penalty of weights that a method does not learn, before it learns.

    Raises:
        ValueError: The penalty is of weights that the method does not learn.
    """
    for own in methods.groups(setup.method):
        if setup.settings.penalty.name and own.trunk:
            made, plan = adaptation(setup._replace(method=own), 1)
            sparsity.begin(made.start, plan.penalty)

"""Setup of an evaluation of open sets: data, network, and how it is described."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from unlir_jax.core import choices
from unlir_jax.data import levels, source, splits
from unlir_jax.models import pooling, pretrained
from unlir_jax.open_set import (
    classes,
    classifier,
    protocols,
    recogniser,
    semantic_shift,
    unknown_sets,
)
from unlir_jax.open_set.score_names import BEST, CANDIDATES, score_settings
from unlir_jax.open_set.scores import SCORES, SPECS
from unlir_jax.runtime import ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import paths


class OpenSetSetup(NamedTuple):
    """Hold what an evaluation is made of, before anything is computed.

    Attributes:
        settings: See `settings.open_set`.
        network: Frozen.
        train: Training images with labels.
        test: Test images with labels.
        divisions: Known and unknown classes of each split.
        sets: Further images of no known class, by `near/NAME` and `far/NAME`.
        plan: How recognisers are fitted, with the scores that were asked for.
        pooling: Way to pool maps.
        image_size: Side in pixels of the images.
        crop: See `preprocessing`.
        interpolation: See `preprocessing`.
    """

    settings: Settings
    network: pretrained.Pretrained
    train: source.Source
    test: source.Source
    divisions: Sequence[classes.Division]
    sets: Mapping[str, source.Source]
    plan: recogniser.Plan
    pooling: str
    image_size: int
    crop: float
    interpolation: str

    @property
    def names(self) -> list[str]:
        """Name the scores that are reported, `best` among them."""
        return list(self.settings.scores)

    @property
    def by_parts(self) -> bool:
        """Tell whether a score reads parts."""
        return any(SPECS[name].takes == recogniser.PARTS for name in self.plan.names)


def prepare(settings: Settings) -> OpenSetSetup:
    """Open the data and the network, and refuse what makes no sense.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    ranges.check(settings)
    plan = _plan(settings)
    data = splits.open_splits(settings.data)
    if data.test is None:
        raise ValueError("`data.test`='' leaves nothing to score; expected a split.")
    train, test = source.labelled(data.train), source.labelled(data.test)
    white = settings.data.options.get("white_level", levels.AUTO)
    sets = unknown_sets.opened(settings.near, settings.far, white)
    _check_added(settings, sets)
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
    found = OpenSetSetup(
        settings,
        network,
        train,
        test,
        _divisions(settings, train, test, bool(sets)),
        sets,
        plan,
        _pooling(settings, network),
        settings.data.image_size or network.image_size,
        settings.data.crop or network.crop,
        settings.data.interpolation or network.interpolation,
    )
    if found.by_parts and pooling.has_token(network.module):
        raise ValueError(
            f"`scores` has 'parts', but {network.name} has tokens; expected a "
            "convolutional network, or other scores."
        )
    return found


def _plan(settings: Settings) -> recogniser.Plan:
    """Check the names of scores and their settings."""
    names = tuple(settings.scores)
    if not names:
        raise ValueError("`scores` is empty; expected names of scores joined by +.")
    for name in names:
        known = (*SCORES, BEST)
        choices.pick(name, known, f"`scores` has {name!r}, which is no score")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"`scores` has {twice[0]!r} twice; expected each once.")
    own = tuple(name for name in names if name != BEST)
    if not own:
        raise ValueError(
            f"`scores` has {BEST!r} alone; expected another score to compare it with."
        )
    choices.pick(
        settings.head,
        get_args(classifier.Kind),
        f"`head`={settings.head!r} is unknown",
    )
    if settings.label_smoothing and settings.head != "softmax":
        raise ValueError(
            f"`label_smoothing`={settings.label_smoothing} is of `head`='softmax', not "
            f"of {settings.head!r}; expected 0, or that head."
        )
    options = settings.score_options.to_dict()
    for name, values in options.items():
        choices.pick(name, own, f"`score_options.{name}` is of no score of `scores`")
        known = score_settings(name)
        for setting in values:
            wrong = f"`score_options.{name}.{setting}` is no setting of {name!r}"
            choices.pick(setting, known, wrong)
    fitted = dict.fromkeys((*own, *(CANDIDATES if BEST in names else ())))
    return recogniser.Plan(
        tuple(fitted),
        options,
        settings.head,
        settings.seed,
        settings.label_smoothing,
    )


def _check_added(settings: Settings, sets: Mapping[str, source.Source]) -> None:
    """Refuse a protocol without the set of its unknown classes."""
    own = protocols.find(settings.protocol) if settings.protocol else None
    if own is None or not own.added:
        return
    found = [len(each.classes) for each in sets.values()]
    if found != [own.others]:
        raise ValueError(
            f"`protocol`={settings.protocol!r} takes unknown classes of another data "
            f"set with {own.others}, but the sets have {found or 'none'}; expected "
            "that data set alone as `near`, an .npz file or tfds:NAME."
        )


def _divisions(
    settings: Settings, train: source.Source, test: source.Source, sets: bool
) -> list[classes.Division]:
    if settings.protocol:
        others = [n for n in ("unknown", "known_classes") if settings[n]]
        if others:
            raise ValueError(
                f"`{others[0]}` and `protocol` are given; expected one of them."
            )
        names = train.classes
        found = protocols.of_data(settings.protocol, names, settings.splits)
    elif settings.known == 1 and sets and not settings.unknown:
        every = np.arange(len(train.classes))
        found = [classes.Division(every, every[:0])]
    elif settings.unknown and semantic_shift.is_published(settings.unknown):
        if settings.known_classes:
            raise ValueError(
                f"`known_classes` with `unknown`={paths.shown(settings.unknown)}, "
                "which has known classes itself; expected ''."
            )
        found = [semantic_shift.read(settings.unknown, train.classes)]
    elif settings.unknown:
        named = classes.named(settings.unknown, train.classes, settings.known_classes)
        found = [named]
    elif settings.known_classes:
        raise ValueError(
            "`known_classes` without `unknown`; expected the names of unknown classes "
            "too."
        )
    else:
        found = [
            classes.draw(len(train.classes), settings.known, settings.seed, number)
            for number in range(settings.splits)
        ]
    seen = set(np.asarray(test.labels).tolist())
    for each in found:
        for side, labels in (("known", each.known), ("unknown", each.unknown)):
            if len(labels) and not seen & set(labels.tolist()):
                raise ValueError(
                    f"The test has no image of a class that is {side}; expected some "
                    "of either side."
                )
    return found


def _pooling(settings: Settings, network: pretrained.Pretrained) -> str:
    """Choose how maps are pooled, or check what was asked for."""
    ways = getattr(network.module, "ways", tuple(pooling.POOLINGS))
    usual = pooling.TOKEN if pooling.has_token(network.module) else "gem"
    asked = settings.pooling or (usual if usual in ways else ways[0])
    return choices.pick(asked, ways, f"`pooling`={asked!r} is none of {network.name}")

"""Settings and setup of an evaluation of segments that were learned without masks."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unlir_jax import saliency
from unlir_jax.core import choices
from unlir_jax.core.document_types import Record
from unlir_jax.data import source
from unlir_jax.data.objects import ObjectImages
from unlir_jax.runtime import config, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.types import Explainer
from unlir_jax.weak_detection import find, seeds
from unlir_jax.weak_detection import setup as setups
from unlir_jax.weak_detection.detector import Detector
from unlir_jax.weak_detection.setup import DetectionSetup

KIND = "segmentation"
GIVEN, PREDICTED = "true", "predicted"


class Segmentation(NamedTuple):
    """Hold what is evaluated, before anything is computed.

    Attributes:
        settings: See `segmentation`.
        trained_on: Network, and how it sees images.
        detector: What was learned from classes of images.
        test: Images with classes and masks.
        explainers: What makes a map of a class, by name, see `seeds.explainers`.
    """

    settings: Settings
    trained_on: DetectionSetup
    detector: Detector
    test: ObjectImages
    explainers: Mapping[str, Explainer]


def segmentation() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    return ConfigDict(
        {
            "kind": KIND,
            # Of intervals.
            "seed": 0,
            # Workdir of a training with `configs/weak_detection.py:method=cam`.
            "seeds": "",
            # Weights of its network, where they are elsewhere than in training.
            "weights": "",
            "data": {
                # A split of the data of that training; "": its test.
                "split": "",
                # Another folder, in one of the formats that a detector reads.
                "path": "",
                # Number of images, the first ones; 0: all.
                "limit": 0,
                # Which change of files is refused on resuming: times or sizes.
                "compare": "times",
            },
            # Which classes an image is known to have: those that the data say ("true"),
            # as where segments shall be made of labelled images, or "predicted" ones.
            "labels": GIVEN,
            # Names in `saliency.REFINEMENTS`, and settings of single ones.
            "refine": tuple(saliency.REFINEMENTS),
            "method_options": {},
            # Backgrounds of which one is chosen on the other half of the images.
            "thresholds": 100,
            "statistics": {"confidence": 0.95, "resamples": 1000},
            # Images drawn with their segments.
            "gallery": 8,
        }
    )


def is_asked(argument: str) -> bool:
    """Tell whether the argument of a config file names seeds."""
    # Whoever asks which arguments there are shall hear of this one.
    getattr(argument, "found", {}).update(seeds="")
    return re.search(r"(^|,)\s*seeds\s*=", argument) is not None


def choose(argument: str) -> ConfigDict:
    """Give the settings for the argument of a config file: `seeds` and `refine`.

    Raises:
        ValueError: An argument that there is not, or no such refinement.
    """
    given = config.parse_arguments(argument, seeds="", refine="walk+crf")
    found: Any = segmentation()
    found.seeds = given.seeds
    named = [] if given.refine == "none" else given.refine.split("+")
    found.refine = tuple(named)
    for name in named:
        wrong = f"`refine`={given.refine!r} has {name!r}, which is no refinement"
        choices.pick(name, saliency.REFINEMENTS, wrong)
        found.method_options[name] = saliency.refinement_defaults(name)
    return found


def prepare(settings: Settings) -> Segmentation:
    """Open what was trained and the data, and refuse what makes no sense.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    ranges.check(settings)
    wrong = f"`labels`={settings.labels!r} does not say which classes images have"
    choices.pick(settings.labels, (GIVEN, PREDICTED), wrong)
    for name in (*settings.refine, *settings.method_options):
        wrong = f"`refine` or `method_options` has {name!r}, which is no refinement"
        choices.pick(name, saliency.REFINEMENTS, wrong)
    if settings.thresholds < 1 or settings.data.limit < 0:
        raise ValueError(
            f"`thresholds`={settings.thresholds} and `data.limit`="
            f"{settings.data.limit}; expected 1 or more, and 0 or more."
        )
    given, trained = find.load(settings.seeds, settings.weights or None, name="seeds")
    if given.settings["method"] != "cam":
        raise ValueError(
            f"`seeds`={settings.seeds!r} was trained with method="
            f"{given.settings['method']}, which has no class maps; expected a workdir "
            "of `unlir train --config configs/weak_detection.py:method=cam`."
        )
    options = {name: _options(settings, name) for name in settings.refine}
    explainers = seeds.explainers(trained, options)
    return Segmentation(settings, given, trained, _data(settings, given), explainers)


def _options(settings: Settings, name: str) -> Record:
    known = saliency.refinement_defaults(name)
    own = dict(settings.method_options.get(name, {}))
    for setting in own:
        wrong = f"`method_options.{name}` has {setting!r}, which is no setting of it"
        choices.pick(setting, known, wrong)
    return known | own


def _data(settings: Settings, given: DetectionSetup) -> ObjectImages:
    """Open the images that have masks, with the classes that were learned."""
    usual: Any = find.settings_of(settings.seeds)
    own = settings.data
    if own.path:
        usual.data.update(path=own.path, tfds="")
    split = own.split or usual.data.test
    if not split or usual.data.tfds:
        raise ValueError(
            f"{settings.seeds!r} was trained on "
            f"{usual.data.tfds or 'data without a test'}, where there are no masks; "
            "expected --config.data.path=DIR of a folder with masks, see "
            "docs/guides/localize.md."
        )
    opened = setups.opener(usual)
    found = opened(split, with_boxes=False, with_masks=True)
    if found.images.classes != given.classes:
        raise ValueError(
            f"The data have the classes {', '.join(found.images.classes):.200}, but "
            f"{settings.seeds!r} has learned {', '.join(given.classes):.200}; expected "
            "the same."
        )
    if own.limit and own.limit < found.images.size:
        cut = source.subset(found.images, np.arange(own.limit))
        found = found._replace(images=cut, present=found.present[: own.limit])
    return found

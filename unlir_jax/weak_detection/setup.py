"""Setup of a weakly supervised detector: data, network, regions and heads."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unlir_jax.core import choices
from unlir_jax.core.document_types import Record
from unlir_jax.data import object_datasets, objects, synthetic_scenes
from unlir_jax.data.objects import ObjectImages
from unlir_jax.models import pretrained
from unlir_jax.runtime import config, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.types import PyTree, RandomKey
from unlir_jax.weak_detection import class_maps, descriptions, heads, measures, regions
from unlir_jax.weak_detection.settings import METHODS

SMALL = (0.27, 0.34, 0.42, 0.52, 0.63)
LARGE = (0.4, 0.5, 0.6, 0.72, 0.86)
ANY = (*SMALL, 0.76, 0.9)
"""Square roots of the share of an image."""


class DetectionData(NamedTuple):
    """Hold the images of a training, and of a test or None."""

    train: ObjectImages
    test: ObjectImages | None


class DetectionSetup(NamedTuple):
    """Hold what a detector is made of, before anything is computed.

    Attributes:
        settings: See `settings.weak_detection`, as a dictionary.
        network: Frozen.
        eye: What it sees of images.
        data: Images; None where a trained detector is used.
        classes: Names of the classes.
        everywhere: Whether each class is in all training images.
        regions: Regions of all images.
    """

    settings: Record
    network: pretrained.Pretrained
    eye: descriptions.Eye
    data: DetectionData | None
    classes: tuple[str, ...]
    everywhere: tuple[bool, ...]
    regions: regions.Regions

    @property
    def dimensions(self) -> int | None:
        """Count the whitened directions; None for class maps, of the network as it is.

        A control that reads what was made for the detector would be weaker than what
        others compare with.
        """
        if self.settings["method"] == "cam":
            return None
        return self.settings["features"]["dimensions"]

    def heads(self, dimensions: int) -> heads.Heads | None:
        """Build the heads, None for class maps, which have none."""
        if self.settings["method"] == "cam":
            return None
        # Attention is no filter that is learned on.
        filters = dimensions - self.eye.attends
        return heads.make(
            self.settings, self.regions, filters, everywhere=self.everywhere
        )

    def initial(self, key: RandomKey, dimensions: int) -> PyTree:
        """Draw what will be learned."""
        made = self.heads(dimensions)
        if made is None:
            return class_maps.initial(key, dimensions, len(self.classes))
        return made.initial(key)


def prepare(settings: Settings) -> DetectionSetup:
    """Open the data and the network, and refuse what makes no sense.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    check(settings)
    data = _data(settings)
    present = data.train.present
    if not present.any():
        raise ValueError("No training image has an object; expected some.")
    every = tuple(present.all(0).tolist())
    return assemble(settings, data, data.train.images.classes, every)


def check(settings: Settings) -> None:
    """Refuse settings that make no sense whatever the data are.

    Raises:
        ValueError: Names the setting, its value and what is expected.
    """
    ranges.check(settings)
    choices.pick(
        settings.method, METHODS, f"`method`={settings.method!r} is no detector"
    )
    wrong = f"`rule`={settings.rule!r} is no rule of average precision"
    choices.pick(settings.rule, measures.RULES, wrong)
    stages = settings.oicr
    if not 0 <= stages.background <= stages.foreground <= 1:
        raise ValueError(
            f"`oicr.background`={stages.background} and `oicr.foreground`="
            f"{stages.foreground}; expected 0 <= background <= foreground <= 1."
        )


def assemble(
    settings: Settings,
    data: DetectionData | None,
    classes: tuple[str, ...],
    everywhere: tuple[bool, ...],
) -> DetectionSetup:
    """Load the network, and lay the regions."""
    model = settings.model
    network = pretrained.load(
        model.name,
        model.weights,
        weights_key=model.weights_key,
        image_size=pretrained.made_for(model.name, settings.image_size),
        trunk_only=True,
    )
    plain = config.to_dict(settings)
    return DetectionSetup(
        plain,
        network,
        descriptions.eye(
            network,
            model.layer,
            settings.image_size,
            last=settings.method == "cam",
            attends=settings.method != "cam" and any(everywhere),
        ),
        data,
        tuple(classes),
        everywhere,
        regions.make(plain["windows"] | {"scales": scales(settings, everywhere)}),
    )


def scales(settings: Settings, everywhere: Sequence[bool]) -> tuple[float, ...]:
    """Choose the scales of windows, without looking at any box.

    Photos that all have one class mostly show it large. Animals of synthetic scenes are
    small. Other images get windows of all sizes.

    Args:
        settings: A choice of theirs goes first.
        everywhere: Whether each class is in all training images.
    """
    if settings.windows.scales:
        return tuple(settings.windows.scales)
    if any(everywhere):
        return LARGE
    return ANY if settings.data.path or settings.data.tfds else SMALL


def _data(settings: Settings) -> DetectionData:
    given = settings.data
    opened = opener(settings)
    train = opened(given.train, with_boxes=False)
    if not given.test:
        return DetectionData(train, None)
    test = opened(given.test, with_boxes=True)
    # Boxes of a test are looked at before hours of work, those of training never.
    objects.boxes(test, range(test.images.size))
    if not objects.count(test):
        raise ValueError(
            f"The split {given.test!r} has no object that should be found; expected "
            'some, or --config.data.test="" for no test.'
        )
    return DetectionData(train, test)


def opener(settings: Settings) -> Callable[..., ObjectImages]:
    """Tell what the data are: `(split, *, with_boxes) -> ObjectImages`.

    What is no data set of tensorflow-datasets takes `with_masks` as well.
    """
    given = settings.data
    if given.tfds:
        place = given.path or None
        return functools.partial(
            object_datasets.tfds_objects,
            given.tfds,
            learned=given.train,
            data_dir=place,
        )
    if not given.path:
        return functools.partial(_scenes, given.scenes)
    return functools.partial(
        objects.object_folder,
        given.path,
        learned=given.train,
        images=given.images,
        holdout=given.holdout,
        seed=settings.seed,
        first_pixel=given.first_pixel,
        frame=given.frame,
        white_level=given.white_level,
    )


def _scenes(
    given: Settings, split: str, *, with_boxes: bool, with_masks: bool = True
) -> ObjectImages:
    """Draw as many scenes of a split as the settings say."""
    del with_boxes, with_masks
    wrong = f"{split!r} is no split of synthetic scenes"
    choices.pick(split, synthetic_scenes.SPLITS, wrong)
    return objects.scenes(
        split,
        given.train if split == "train" else given.test,
        seed=given.seed,
        image_size=given.image_size,
        classes=given.classes,
    )

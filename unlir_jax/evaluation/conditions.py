"""Conditions of an evaluation: the class that is explained, and how images are changed.

An evaluation has one condition unless `classes` or `augmentations` lists several. To
read them JAX is not needed.
"""

from typing import NamedTuple

from unlir_jax.core import choices
from unlir_jax.core.document_types import Settings

FOLDER = "conditions"
PLAIN = "none"
CLASSES = ("label", "predicted", "second", "least", "random")
AUGMENTATIONS = (
    PLAIN,
    "flip",
    "rotation",
    "rotation_135",
    "rotation_225",
    "rotation_315",
    "crop",
    "brightness",
    "contrast",
    "blur",
    "noise",
)
"""Names of `metrics.sanity.augmentations`, and `none`."""
TITLES = {
    "label": "label",
    "predicted": "predicted class",
    "second": "second most likely class",
    "least": "least likely class",
    "random": "random class",
    PLAIN: "images as they are",
}


class Condition(NamedTuple):
    """Say what is explained, and of which images.

    Attributes:
        explained: One of `CLASSES`; "" where `labels` alone says it.
        augmentation: One of `AUGMENTATIONS`.
    """

    explained: str = ""
    augmentation: str = PLAIN

    @property
    def plain(self) -> bool:
        """Tell whether images stay as they are."""
        return self.augmentation == PLAIN

    @property
    def name(self) -> str:
        """Name it shortly: `least`, `flip` or `least-flip`."""
        changed = "" if self.plain else self.augmentation
        return "-".join(filter(None, (self.explained, changed)))

    @property
    def title(self) -> str:
        """Name it for people."""
        changed = "" if self.plain and self.explained else title(self.augmentation)
        return ", ".join(filter(None, (title(self.explained), changed)))


def title(name: str) -> str:
    """Name a class or an augmentation for people."""
    return TITLES.get(name, name.replace("_", " "))


def listed(classes: str, augmentations: str) -> list[Condition]:
    """List the conditions of an evaluation, the one to compare with first.

    Args:
        classes: The setting: names joined by +, or "".
        augmentations: The same; `none` is among them.

    Raises:
        ValueError: An unknown name, one that comes twice, or no `none`.

    Example:
        >>> from unlir_jax.evaluation import conditions
        >>> [each.name for each in conditions.listed("label+least", "none+flip")]
        ['label', 'label-flip', 'least', 'least-flip']
    """
    explained = names("classes", classes) or ("",)
    changed = names("augmentations", augmentations) or (PLAIN,)
    # What all others are compared with comes first.
    changed = (PLAIN, *(name for name in changed if name != PLAIN))
    return [Condition(one, other) for one in explained for other in changed]


def names(setting: str, value: str) -> tuple[str, ...]:
    """Read one of the two settings.

    Raises:
        ValueError: See `listed`.
    """
    if not value:
        return ()
    known = CLASSES if setting == "classes" else AUGMENTATIONS
    found = tuple(value.split("+"))
    for name in found:
        wrong = f"`{setting}`={value!r} has {name!r}, which is not known"
        choices.pick(name, known, wrong, "expected some of {}, joined by +")
        if found.count(name) > 1:
            raise ValueError(
                f"`{setting}`={value!r} has {name!r} twice; expected each once."
            )
    if PLAIN in known and PLAIN not in found:
        raise ValueError(
            f"`{setting}`={value!r} lacks {PLAIN!r}, with which others are compared; "
            f"expected {PLAIN}+{value}."
        )
    return found


def check(settings: Settings) -> None:
    """Refuse conditions that there are not, or that fit no other setting.

    Raises:
        ValueError: See `listed`; or labels or maps that there are not.
    """
    explained = names("classes", settings.classes)
    changed = names("augmentations", settings.augmentations)
    if "label" in explained and settings.labels == "predicted":
        raise ValueError(
            f"`classes`={settings.classes!r} has 'label', but `labels`='predicted' "
            "says that there are none; expected `labels`='true' or 'numbers', or other "
            "classes."
        )
    if settings.maps and (explained or changed):
        setting = "classes" if explained else "augmentations"
        raise ValueError(
            f"`{setting}`={settings[setting]!r} asks for several maps of an image, but "
            f"`maps`={settings.maps!r} has one each; expected one of the two settings."
        )


def agreement(settings: Settings) -> list[str]:
    """List the metrics that compare the maps of images and of augmented images."""
    changed = names("augmentations", settings.augmentations)
    return [f"equivariance@{name}" for name in changed if name != PLAIN]


def labelling(settings: Settings) -> str:
    """Say where labels come from; nowhere where they are not among the classes."""
    explained = names("classes", settings.classes)
    return settings.labels if "label" in explained or not explained else "predicted"

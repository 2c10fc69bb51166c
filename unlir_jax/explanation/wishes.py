"""Requests of a page: which networks, methods and scores it may ask for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unlir_jax.core import choices
from unlir_jax.data import image_files
from unlir_jax.explanation import explainers
from unlir_jax.models import zoo
from unlir_jax.parts import attribution
from unlir_jax.split import scores
from unlir_jax.weights import packages

LONGEST_TEXT = 200


class Network(NamedTuple):
    """Offer a network.

    Attributes:
        name: As `explain.run` takes it.
        settings: What `explain.run` takes with it.
        parts: Whether it decides by parts.
        note: What it needs, where it cannot be used as it is.
    """

    name: str
    settings: Mapping[str, Any] = {}
    parts: bool = False
    note: str = ""


class Wish(NamedTuple):
    """Hold what a page asks for, checked.

    Attributes:
        name: A name for the file of the photo.
        settings: What `explain.run` takes.
    """

    name: str
    settings: Mapping[str, Any]


def networks(asked: Sequence[str], settings: Mapping[str, Any]) -> list[Network]:
    """List what can be offered.

    Args:
        asked: Names, workdirs or factories of a user, which come first.
        settings: What `explain.run` takes with the one that is asked for.

    Raises:
        ValueError: A workdir whose training is not finished.
    """
    settings = settings if len(asked) == 1 else {}
    weights = settings.get("weights")
    own = [
        Network(name, settings, attribution.decides_by_parts(name, weights))
        for name in asked
    ]
    others = [
        Network(name, note=_missing(network.package))
        for name, network in zoo.networks().items()
        if name not in asked
    ]
    others.sort(key=lambda network: (bool(network.note), network.name))
    return [*own, *others]


def _missing(package: packages.PackagedFile | None) -> str:
    """Say what must be done before a network can be used; "" where nothing must."""
    if packages.find(package):
        return ""
    return f"needs {package.requirement}" if package else "needs --weights FILE"


def read(asked: Mapping[str, str], offered: Sequence[Network]) -> Wish:
    """Check what a page asks for.

    Args:
        asked: Texts `name` of the photo, `model`, `methods` (with commas), `label`,
            `score`, and `controls` (`0` for none); an empty one is not asked for.
        offered: Networks that can be asked for.

    Raises:
        ValueError: A photo that is none by its suffix, or what is not offered.
    """
    for field, text in asked.items():
        if len(text) > LONGEST_TEXT and field != "methods":
            raise ValueError(
                f"`{field}` has {len(text):,} letters; expected at most {LONGEST_TEXT}."
            )
    photo = Path(asked.get("name", ""))
    if photo.suffix.lower() not in image_files.SUFFIXES:
        raise ValueError(
            f"The photo {photo.name!r} has no suffix of an image; expected one of: "
            f"{' '.join(sorted(image_files.SUFFIXES))}."
        )
    known = {network.name: network for network in offered if not network.note}
    model = asked.get("model", "")
    network = known[choices.pick(model, known, f"`model`={model!r} is not offered")]
    settings = {**network.settings, "model": network.name}
    if methods := [each for each in asked.get("methods", "").split(",") if each]:
        settings["methods"] = explainers.check(methods, by_parts=network.parts)
    if label := asked.get("label", "").strip():
        settings["label"] = label
    if score := asked.get("score", ""):
        # One with a colon would import a module, which a command alone may ask for.
        wrong = f"`score`={score!r} is not offered"
        settings["score"] = choices.pick(score, scores.NAMED, wrong)
    settings["controls"] = asked.get("controls") != "0"
    return Wish(image_files.distinct_names([photo])[0] + photo.suffix.lower(), settings)

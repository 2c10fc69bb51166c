"""Explainers by name, and their settings."""

import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping, Sequence
from typing import cast

from unlir_jax import saliency
from unlir_jax.core import choices, passes
from unlir_jax.core.document_types import Document, Record
from unlir_jax.explanation import method_options
from unlir_jax.features import receptive_field
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.parts import attribution
from unlir_jax.saliency.spec import NONE
from unlir_jax.split import scores
from unlir_jax.types import Explainer

DEFAULT = ("grad_cam", "opti_cam")
PARTS = "parts"
"""The class map of a part network, which no other network has."""
MOST_STEPS = 2**31 - 1
"""What an int32 counts, as the programs do."""


@functools.cache
def load_plugins() -> None:
    """Import the methods and metrics of other packages, so that they register.

    A package lists its modules as entry points of the group `unlir_jax`.

    Raises:
        ValueError: One of them cannot be imported.
    """
    for point in importlib.metadata.entry_points(group="unlir_jax"):
        try:
            point.load()
        except Exception as error:
            raise ValueError(
                f"The entry point `unlir_jax` = {point.value!r} cannot be imported "
                f"({error}); expected a module that registers methods or metrics."
            ) from error


def default(by_parts: bool) -> tuple[str, ...]:
    """List the explainers that are used unless others are asked for."""
    return (PARTS, *DEFAULT) if by_parts else DEFAULT


def check(
    methods: Sequence[str], steps: int | None = None, *, by_parts: bool = True
) -> tuple[str, ...]:
    """Refuse unknown methods, and a setting that none of them has.

    Args:
        methods: Names in `saliency.METHODS`, or "parts"; each may be followed by @ and
            a name in `saliency.REFINEMENTS`.
        steps: Number of passes of methods that have one, such as Opti-CAM.
        by_parts: Whether the network decides by parts.

    Returns:
        The methods, each once, in the order given.

    Raises:
        ValueError: A name is unknown, or none of the methods has a number of passes.
    """
    load_plugins()
    known = (*saliency.METHODS, *([PARTS] if by_parts else []))
    chosen = tuple(dict.fromkeys(meant(name) for name in methods))
    if not chosen:
        raise ValueError(f"`methods` is empty; expected some of: {', '.join(known)}.")
    for full in chosen:
        name, refinement = saliency.parted(full)
        if "@" in full:
            wrong = f"`method`={full!r} has no refinement {refinement!r}"
            choices.pick(refinement, saliency.REFINEMENTS, wrong)
        if name == PARTS and not by_parts:
            raise ValueError(
                "`method`='parts' shows what parts add, but the network does not "
                "decide by parts; expected the workdir of a part network, or some of: "
                f"{', '.join(known)}."
            )
        choices.pick(name, known, f"`method`={name!r} is not an explainer")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"`steps`={steps}; expected 1 to {MOST_STEPS:,}.")
    if steps is not None and not any(passes.setting(defaults(m)) for m in chosen):
        raise ValueError(
            f"`steps`={steps} is a setting of methods such as opti_cam, but those are "
            f"{', '.join(chosen)}."
        )
    return chosen


def meant(name: str) -> str:
    """Call a method as this library does, with its refinement if it has one."""
    plain, _ = saliency.parted(name)
    return saliency.SYNONYMS.get(plain, plain) + name.removeprefix(plain)


def parts_of(name: str) -> tuple[str, ...]:
    """Name a method, and its refinement if it has one: whose settings there are."""
    return tuple(filter(None, saliency.parted(meant(name))))


@functools.cache
def find_score(text: str) -> scores.Score:
    """Give the score that a command names.

    Args:
        text: A name of a score, or `package.module:name` of a `Score` or of a function
            `(logits, labels) -> [batch]`.

    Raises:
        ValueError: There is no such score, or the module cannot be imported.
    """
    place, colon, name = text.partition(":")
    if not colon:
        return scores.resolve(text)
    expected = "expected package.module:name of a function (logits, labels) -> [batch]"
    try:
        found = getattr(importlib.import_module(place), name, None)
    except Exception as error:
        raise ValueError(
            f"`score`={text!r} cannot be imported ({error}); {expected}."
        ) from error
    if isinstance(found, scores.Score):
        return dataclasses.replace(found, name=text)
    if not callable(found):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise ValueError(f"`score`={text!r} is {what}; {expected}.")
    return scores.Score(text, cast(scores.Function, found), f"{text} of the logits")


def settings(
    name: str,
    steps: int | None,
    score: scores.ScoreLike | None = None,
    options: Document = NONE,
) -> Record:
    """List a method's settings: its factory's defaults, and what was asked for.

    Settings of the method alone go before what is asked of all methods.

    Args:
        name: A method, see `check`; the settings of its refinement stand under the
            name of that.
        steps: Number of passes, whatever the method calls it, see `core.passes`.
        score: Score to explain.
        options: Settings of this method alone, see `method_options.checked`.

    Raises:
        ValueError: One of the options is no setting of the method, or of another type.
    """
    found = defaults(name)
    asked = {passes.setting(found): steps, "score": score}
    given = {each: value for each, value in asked.items() if value is not None}
    own = method_options.checked(name, options)
    if isinstance(own.get("score"), str):
        own["score"] = find_score(own["score"])
    found |= {each: given[each] for each in given if each in found} | own
    _, refinement = saliency.parted(name)
    return found | ({refinement: defaults(refinement)} if refinement else {})


def signed(parameters: Mapping[str, Document]) -> list[str]:
    """List the methods whose maps have a sign under their settings, in order."""
    return [name for name, own in parameters.items() if saliency.is_signed(name, own)]


def defaults(name: str) -> Record:
    """List the settings of a method's factory, or of a refinement's; none of others.

    A refined method has the same ones as the method.
    """
    if name in saliency.REFINEMENTS:
        return saliency.refinement_defaults(name)
    plain, _ = saliency.parted(name)
    if plain not in saliency.METHODS:
        return {}
    _, *own = inspect.signature(saliency.METHODS[plain]).parameters.values()
    return {setting.name: setting.default for setting in own}


def make(
    name: str,
    network: Pretrained,
    values: Record,
    centres: receptive_field.Centres | None = None,
) -> Explainer:
    """Make an explainer of a network.

    Args:
        name: A method, see `check`.
        network: What it explains.
        values: Its settings.
        centres: Where the cells of a part network look, see `attribution.class_map`.
    """
    plain, refinement = saliency.parted(name)
    if refinement:
        rest = {each: value for each, value in values.items() if each != refinement}
        made = make(plain, network, rest, centres)
        return saliency.REFINEMENTS[refinement](made, **values[refinement])
    if name == PARTS:
        return attribution.class_map(network, centres)
    return saliency.METHODS[name](network.model, **values)

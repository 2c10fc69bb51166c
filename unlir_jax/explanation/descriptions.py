"""Descriptions of methods and metrics by name, from their specs and docstrings."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unlir_jax import metrics, saliency
from unlir_jax.core import choices, passes
from unlir_jax.core.document_types import Record
from unlir_jax.explanation import explainers
from unlir_jax.metrics import spec
from unlir_jax.parts import attribution

Factory = Callable[..., Any]
NOT_SET = ("order",)
"""Arguments of factories that an evaluation gives, and that are no settings."""

SCORE = "Score to explain, see `scores.resolve`."
_TERMS = ("metric", "settings", "higher_is_better")
_ELSEWHERE = re.compile(r"\b[aA]s\s+(?:in\s+)?`(\w+)`")
_ITEM = re.compile(r"^(\w+): (.*)$")


def factories() -> dict[str, Factory]:
    """List the factories of methods, part networks and plugins included."""
    explainers.load_plugins()
    return {explainers.PARTS: attribution.class_map} | saliency.METHODS


def measures() -> dict[str, Factory]:
    """List the factories of metrics, plugins included."""
    explainers.load_plugins()
    return dict(metrics.FACTORIES)


def first_lines(found: Mapping[str, Factory]) -> dict[str, str]:
    """Give the first line of the documentation of each factory."""
    return {name: _summary(factory) for name, factory in found.items()}


def method(name: str) -> Record:
    """Describe a method.

    Args:
        name: Its name, or a synonym.

    Returns:
        `name`, `title`, `summary`, `family`, `formula`, `signed` under the default
        settings, `signed_with` (settings with which maps have a sign), `head`, `passes`
        in words, `source`, `synonyms`, and `settings`: `default`, `aliases` and
        `meaning` of each.

    Raises:
        ValueError: There is no such method.
    """
    known = factories()
    own = saliency.SYNONYMS.get(name, name)
    wrong = f"`method`={name!r} is not an explainer"
    choices.pick(own, known, wrong)
    if own == explainers.PARTS:
        return {
            "name": own,
            "title": "Parts",
            "summary": _summary(known[own]),
            "family": "parts",
            "formula": "relu of what each location adds, summed over parts",
            "signed": False,
            "signed_with": {},
            "head": "a network that decides by parts",
            "passes": "1 forward",
            "source": "this library",
            "synonyms": [],
            "settings": {},
        }
    told = saliency.SPECS[own]
    signed = told.signed
    return {
        "name": own,
        "title": told.title,
        "summary": _summary(known[own]),
        "family": told.family,
        "formula": told.formula,
        "signed": saliency.is_signed(own),
        "signed_with": {} if isinstance(signed, bool) else _plain(signed),
        "head": told.head,
        "passes": told.passes,
        "source": told.source,
        "synonyms": list(told.synonyms),
        "settings": _settings(known[own], known, former=("target",)),
    }


def metric(name: str) -> Record:
    """Describe a metric.

    Args:
        name: Its name, with a variant or without: `insertion@mean`.

    Returns:
        `name`, `title`, `summary`, `better`, `scale`, `needs`, `family`, `question`,
        `contract` (see `metrics.Contract`), `fooled_by`, `passes` in words, `source`,
        `variants` (the setting behind `@`, or ""), `outputs` (further numbers with
        title and direction), `caution`, and `settings` as in `method`.

    Raises:
        ValueError: There is no such metric, or it has no such variant.
    """
    known, own = measures(), spec.base(name)
    choices.pick(own, known, f"`metric`={name!r} is not a metric")
    told = metrics.SPECS[own]
    # A variant that is none is refused here.
    contract = metrics.contract(name)
    given = spec.variant(name)
    settings = _settings(known[own], known)
    for setting, value in given.items():
        settings[setting]["default"] = value
    return {
        "name": name,
        "title": told.title,
        "summary": _summary(known[own]),
        "better": told.better,
        "scale": told.scale,
        "needs": told.needs,
        "family": told.family,
        "question": told.meaning,
        "contract": {k: v for k, v in contract.items() if k not in _TERMS},
        "fooled_by": told.fooled_by,
        "passes": told.passes,
        "source": told.source,
        "variants": told.variants,
        "outputs": {
            each: {"title": output.title, "better": output.better}
            for each, output in told.outputs.items()
        },
        "caution": told.caution,
        "settings": settings,
    }


def _summary(factory: Factory) -> str:
    return (inspect.getdoc(factory) or "").partition("\n")[0].replace("`", "")


def _settings(
    factory: Factory, known: Mapping[str, Factory], former: Sequence[str] = ()
) -> dict[str, Record]:
    """List default, other names and meaning of each setting of a factory.

    Args:
        factory: The factory.
        known: All factories, to whose docstrings its own may refer.
        former: Other names of the setting `score`.
    """
    parameters = inspect.signature(factory).parameters
    number, others = passes.setting(parameters), passes.aliases(parameters)
    names = {number: list(others), "score": list(former)}
    meanings = {"score": SCORE} | _meanings(factory, known)
    return {
        name: {
            "default": _plain(each.default),
            "aliases": names.get(name, []),
            "meaning": meanings.get(name, ""),
        }
        for name, each in parameters.items()
        if name not in NOT_SET and each.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _meanings(factory: Factory, known: Mapping[str, Factory]) -> Record:
    """Read what a docstring, or the one that it refers to, says of each argument."""
    text = inspect.getdoc(factory) or ""
    found: Record = {}
    for other in _ELSEWHERE.findall(text):
        if other in known and known[other] is not factory:
            found |= _meanings(known[other], known)
    _, _, arguments = text.partition("\nArgs:\n")
    name = ""
    for line in arguments.splitlines():
        if line and not line.startswith(" "):
            break
        item = _ITEM.match(line[4:]) if not line.startswith(" " * 8) else None
        if item:
            name, found[item[1]] = item[1], item[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def _plain(value: object) -> Any:
    """Give a default as JSON knows it."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)

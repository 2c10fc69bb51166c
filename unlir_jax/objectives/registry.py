"""Objectives by name, and their options, read from the signatures of the factories."""

import inspect
from collections.abc import Callable

from unlir_jax.core.document_types import Document, Record
from unlir_jax.objectives.objective import Apply, Objective

Factory = Callable[..., Objective]

OBJECTIVES: dict[str, Factory] = {}
"""Factories by name: `(apply, classes, *, options) -> Objective`."""

USUAL = "classify"


def objective[F: Factory](factory: F) -> F:
    """Register a factory under its name, by which `objective.name` asks for it.

    Raises:
        ValueError: A factory of another module has the name.
    """
    name = factory.__name__
    owner = OBJECTIVES.get(name, factory).__module__
    if owner != factory.__module__:
        raise ValueError(f"`{name}` is an objective of {owner}; expected another name.")
    OBJECTIVES[name] = factory
    return factory


def options(name: str = USUAL) -> Record:
    """Give the options of an objective, each with its default.

    Raises:
        ValueError: There is no such objective.
    """
    if name not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise ValueError(f"`objective.name`={name!r}; expected one of {known}.")
    parameters = inspect.signature(OBJECTIVES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY}


def build(settings: Document, apply: Apply, classes: int) -> Objective:
    """Make the objective that the group `objective` of a config describes.

    An option of the usual objective that has its default there is no option that was
    chosen: another objective need not have it. An option of None is left open.

    Args:
        settings: The `name`, and options of that objective.
        apply: The network.
        classes: Number of classes.

    Raises:
        ValueError: There is no such objective, or it has no such option, or lacks one.
    """
    name, usual = settings["name"], options()
    known = options(name)
    given = {
        option: value
        for option, value in settings.items()
        if option != "name" and value is not None
    }
    for option, value in list(given.items()):
        if option in known:
            continue
        if option not in usual or value != usual[option]:
            raise ValueError(
                f"`objective.{option}`={value!r} is no option of {name!r}; expected "
                f"some of {', '.join(known) or 'none'}."
            )
        del given[option]
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in given:
            raise ValueError(
                f"`objective.{option}` is missing; expected the value that {name!r} "
                "needs."
            )
    return OBJECTIVES[name](apply, classes, **given)

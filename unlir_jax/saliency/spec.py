"""Specs of explainers: all that is said of a method, beside its factory.

A method is one file: a factory under `@explainer(...)`, imported once. Commands,
reports, tables of the documentation and tests read the tables below.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from unlir_jax.types import Explainer

Factory = Callable[..., Explainer]
Head = Literal["any", "affine"]


class ExplainerSpec(NamedTuple):
    """Describe an explainer.

    Attributes:
        name: Name of the factory, by which users ask for the method.
        factory: `(model, *, settings) -> Explainer`.
        title: Name for people.
        family: Family of methods; those of "controls" do not look at the network.
        formula: Formula of the map, or its description in a few words.
        passes: Number of passes through the network.
        source: Authors, venue and year.
        quick: Settings with which a test takes little time.
        degree: Exponent d: logits times c give the map times c^d. None: no such rule.
        head: Networks that the method explains: `any`, or those with an `affine` head.
        representative: Whether the fast tier of the tests has the method.
        synonyms: Names of the method in other libraries.
    """

    name: str
    factory: Factory
    title: str
    family: str
    formula: str
    passes: str
    source: str
    quick: Mapping[str, Any]
    degree: int | None
    head: Head
    representative: bool
    synonyms: tuple[str, ...]


SPECS: dict[str, ExplainerSpec] = {}
"""Specs by name, in the order of the imports."""

METHODS: dict[str, Factory] = {}
"""Factories by name; each takes the cut model and its own hyper-parameters."""

SYNONYMS: dict[str, str] = {}
"""Names in other libraries, with the names in `METHODS`."""

CONTROLS: dict[str, Factory] = {}
"""Factories of the methods that do not look at the network."""


def explainer[F: Factory](
    *,
    title: str,
    family: str,
    formula: str,
    passes: str,
    source: str,
    quick: Mapping[str, Any] | None = None,
    degree: int | None = None,
    head: Head = "any",
    representative: bool = False,
    synonyms: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register the factory below under its name; see `ExplainerSpec` for arguments.

    Returns:
        A decorator that returns the factory as it is.

    Raises:
        ValueError: Another factory has the name, or a synonym.
    """

    def register(factory: F) -> F:
        name = factory.__name__
        for each in (name, *synonyms):
            owner = SPECS.get(SYNONYMS.get(each, each))
            if owner and owner.factory.__module__ != factory.__module__:
                raise ValueError(
                    f"`{each}` is an explainer of {owner.factory.__module__}; expected "
                    "another name."
                )
        SPECS[name] = ExplainerSpec(
            name,
            factory,
            title,
            family,
            formula,
            passes,
            source,
            quick or {},
            degree,
            head,
            representative,
            synonyms,
        )
        METHODS[name] = factory
        SYNONYMS.update(dict.fromkeys(synonyms, name))
        if family == "controls":
            CONTROLS[name] = factory
        return factory

    return register

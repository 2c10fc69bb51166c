"""Specs of explainers: all that is said of a method, next to its factory.

A method is one file: a factory under `@explainer(...)`, imported once. Commands,
reports, tables of the documentation and tests read the tables below.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from unlir_jax.core import memoize, passes
from unlir_jax.types import Explainer

Factory = Callable[..., Explainer]
NONE: Mapping[str, Any] = MappingProxyType({})

METHODS: dict[str, Factory] = {}
"""Factories by name; each takes the cut model and its own hyper-parameters."""

CONTROLS: dict[str, Factory] = {}
"""Factories of the methods that do not look at the network."""

SYNONYMS: dict[str, str] = {}
"""Names in other libraries, with the names in `METHODS`."""


def takes_target[**P, R](factory: Callable[P, R]) -> Callable[P, R]:
    """Let a factory with a setting `score` take `target`, its name in version 0.1.

    Raises:
        ValueError: When called with both.
    """
    own = inspect.signature(factory).parameters
    if "score" not in own or "target" in own:
        return factory

    @functools.wraps(factory)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        given: dict[str, Any] = dict(kwargs)
        if "target" in given:
            if "score" in given:
                raise ValueError(
                    "`target` and `score` are two names of one setting; expected "
                    "`score` alone."
                )
            given["score"] = given.pop("target")
        return factory(*args, **given)  # pyright: ignore[reportCallIssue]

    return called


class ExplainerSpec(NamedTuple):
    """Describe an explainer; as a decorator, register the factory below.

    Attributes:
        title: Name for people.
        family: Family of methods; "controls" do not use the network.
        formula: Formula of the map, or its description in a few words.
        passes: Number of passes through the network, as `passes.count` reads it.
        source: Authors, venue and year.
        quick: Settings with which a test takes little time.
        degree: Exponent d: logits times c give the map times c^d. None: no such rule.
        head: Networks that the method explains: `any`, those with an `affine` head,
            those whose `attention` is known, those that pool by attention (`pooling`),
            or `linen` modules.
        representative: Whether the fast tier of the tests has the method.
        synonyms: Names of the method in other libraries.
        signed: Whether maps have a sign: zero means no effect, and negative values
            count against the score. Or the settings under which they do, with the
            values of each. Reports draw such maps about zero, and metrics mask by
            their rule for signs, see `maps.mask`.
    """

    title: str
    family: str
    formula: str
    passes: str
    source: str
    quick: Mapping[str, Any] = NONE
    degree: int | None = None
    head: Literal["any", "affine", "attention", "pooling", "linen"] = "any"
    representative: bool = False
    synonyms: tuple[str, ...] = ()
    signed: bool | Mapping[str, tuple[Any, ...]] = False

    def __call__[**P](self, factory: Callable[P, Explainer]) -> Callable[P, Explainer]:
        """Register a factory `(model, *, settings) -> Explainer` under its own name.

        Returns:
            The factory, which keeps what it made, see `memoize.remember`.

        Raises:
            ValueError: Another factory has the name, or a synonym.
        """
        name = factory.__name__
        for each in (name, *self.synonyms):
            owner = METHODS.get(SYNONYMS.get(each, each), factory).__module__
            if owner != factory.__module__:
                raise ValueError(
                    f"`{each}` is an explainer of {owner}; expected another name."
                )
        factory = takes_target(passes.takes_steps(memoize.remember(factory)))
        SPECS[name], METHODS[name] = self, factory
        SYNONYMS.update(dict.fromkeys(self.synonyms, name))
        if self.family == "controls":
            CONTROLS[name] = factory
        return factory


explainer = ExplainerSpec

SPECS: dict[str, ExplainerSpec] = {}
"""Specs by name, in the order of the imports."""


def is_signed(name: str, settings: Mapping[str, Any] = NONE) -> bool:
    """Tell whether a method's maps have a sign, see `ExplainerSpec.signed`.

    Args:
        name: A method, or a synonym; what is unknown has no sign.
        settings: Settings that differ from the factory's defaults.
    """
    name = SYNONYMS.get(name, name)
    signed = SPECS[name].signed if name in SPECS else False
    if isinstance(signed, bool):
        return signed
    known = inspect.signature(METHODS[name]).parameters
    given = {each: known[each].default for each in signed} | dict(settings)
    return all(given[each] in values for each, values in signed.items())

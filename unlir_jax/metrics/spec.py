"""Specs of metrics: all that is said of a metric, next to its factory.

A metric is one file: a factory under `@metric(...)`, imported once. Evaluations,
reports, tables of the documentation and tests read the tables below.

A name may be followed by `@` and a variant: `insertion@mean` is insertion from the mean
colour, `cascading_randomization@hog` compares histograms.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from unlir_jax.core import choices, memoize, passes
from unlir_jax.split import scores

Factory = Callable[..., Any]
NONE: Mapping[str, Any] = MappingProxyType({})
Better = Literal["higher", "lower"]
Scale = Literal["fraction", "number"]
Needs = Literal[
    "map", "logits", "explainer", "masks", "boxes", "redrawn", "random_labels"
]
EXPLAINING = ("explainer", "redrawn", "random_labels")
"""Needs of metrics that make new maps: their factory's second argument explains."""

PIXELS = "pixels in [0, 1], before the network's own mean and deviation"
NOTHING = "none"
ENLARGED = "bilinear to the image, half-pixel centres, no antialiasing"
ROW_MAJOR = "of equal values the first in row-major order"
RANGE = "range, (s - min) / (max - min), after enlarging"
ORDER_ONLY = "none: only the order of values matters"
RAW = "none: raw values after enlarging"
SCORE = "{score}"
SIGNS = "{signs} where the method's maps have a sign, else range"
KEPT, RANKED = "kept", "kept: they rank below zero"


class Contract(NamedTuple):
    """State what changes a metric's value and its name does not say.

    Texts may hold settings of the factory in braces.

    Attributes:
        mask_space: Space in which masks act.
        score: Number that is compared.
        baseline: Stand-in for "nothing there".
        ties: Treatment of equal values.
        normalization: Normalisation of the map.
        flat_map: Value of a map without any contrast.
        void: Treatment of pixels without annotation.
        unbounded: Treatment of a score without bounds, of metrics that take `score`.
        signs: Treatment of negative values of the map.
    """

    mask_space: str
    score: str
    baseline: str
    ties: str
    normalization: str
    flat_map: str
    void: str = NOTHING
    unbounded: str = NOTHING
    signs: str = NOTHING


MAP = Contract(
    *(NOTHING, NOTHING, NOTHING, NOTHING, "{scaling}, after enlarging", "0"),
    signs=f"{KEPT}; 0 if the normalisation is max",
)


class Output(NamedTuple):
    """Describe one number that a metric gives.

    Attributes:
        title: Name for people.
        better: Direction, `higher` or `lower`.
        scale: `fraction`, printed per cent, or `number`.
    """

    title: str
    better: Better
    scale: Scale = "fraction"


class MetricSpec(NamedTuple):
    """Describe a metric; as a decorator, register the factory below.

    Attributes:
        title: Name for people.
        better: Direction, `higher` or `lower`.
        needs: Input besides `(variables, images, labels, map, *, key)`. `map`: none;
            `logits`: takes the images' logits as `clean=`; `masks`, `boxes`: the
            object's, as fifth argument; `explainer`: the factory takes it after the
            model; `redrawn`, `random_labels`: the explainer, and variables of such a
            network as fifth argument.
        family: Family of metrics, a row of tables.
        meaning: Question that the metric answers, for people.
        contract: Terms that change the value.
        fooled_by: Map without merit that scores well.
        passes: Number of passes through the network, as `passes.count` reads it.
        source: Authors, venue and year.
        scale: `fraction`, printed per cent, or `number`.
        quick: Settings with which a test takes little time.
        representative: Whether the fast tier of the tests has the metric.
        variants: Setting that the part of a name behind `@` sets, or "".
        shared: Whether one call gives all variants, each under its own name.
        outputs: Further numbers that it gives or that follow from its curves.
        curves: Names of curves in its result.
        at_threshold: Whether the value is read off the curve at the threshold that is
            best for all images, see `thresholds.at_chosen`.
        gives: Other metrics that the result holds: their settings, each with the name
            that this metric has for it.
        together: Factory of this metric and others at once, with the same settings.
        short: Heading of a narrow column.
        caution: Warning next to the metric in reports.
    """

    title: str
    better: Better
    needs: Needs
    family: str
    meaning: str
    contract: Contract
    fooled_by: str
    passes: str
    source: str
    scale: Scale = "fraction"
    quick: Mapping[str, Any] = NONE
    representative: bool = False
    variants: str = ""
    shared: bool = False
    outputs: Mapping[str, Output] = NONE
    curves: tuple[str, ...] = ()
    at_threshold: bool = False
    gives: Mapping[str, Mapping[str, str]] = NONE
    together: Factory | None = None
    short: str = ""
    caution: str = ""

    def __call__[**P, R](self, factory: Callable[P, R]) -> Callable[P, R]:
        """Register a factory `(model, *, settings) -> metric` under its own name.

        Returns:
            The factory, which keeps what it made, see `memoize.remember`.

        Raises:
            ValueError: No such direction or need, or another factory has the name.
        """
        for field, known in (("better", Better), ("needs", Needs)):
            value = getattr(self, field)
            choices.check(field, value, known)
        name = factory.__name__
        owner = FACTORIES.get(name, factory).__module__
        if owner != factory.__module__:
            raise ValueError(f"`{name}` is a metric of {owner}; expected another name.")
        factory = passes.takes_steps(memoize.remember(factory))
        SPECS[name], FACTORIES[name] = self, factory
        OUTPUTS[name] = Output(self.title, self.better, self.scale)
        OUTPUTS.update(self.outputs)
        HIGHER_IS_BETTER.update({k: v.better == "higher" for k, v in OUTPUTS.items()})
        if self.scale == "number":
            NOT_FRACTIONS.add(name)
        _KINDS[self.needs][self.at_threshold][name] = factory
        return factory


metric = MetricSpec

SPECS: dict[str, MetricSpec] = {}
"""Specs by name, in the order of the imports."""

OUTPUTS: dict[str, Output] = {}
"""Titles and directions of all numbers by name."""

FACTORIES: dict[str, Factory] = {}
"""Factories by name."""

METRICS: dict[str, Factory] = {}
"""Factories of metrics that need the map alone."""

EXPLAINER_METRICS: dict[str, Factory] = {}
"""Factories that take the explainer too, after the cut model: they make new maps."""

REGION_METRICS: dict[str, Factory] = {}
"""Factories of metrics whose fifth argument is the object's mask, see `boxes.fill`."""

BOX_METRICS: dict[str, Factory] = {}
"""Factories of metrics whose fifth argument is the object's boxes."""

SANITY_METRICS: dict[str, Factory] = {}
"""Factories that take the explainer too; the fifth argument is another network's."""

OPTIMAL_THRESHOLD_REGION_METRICS: dict[str, Factory] = {}
"""Factories of metrics of masks that give a curve, see `thresholds.at_chosen`."""

OPTIMAL_THRESHOLD_BOX_METRICS: dict[str, Factory] = {}
"""Factories of metrics of boxes that give a curve, see `thresholds.at_chosen`."""

HIGHER_IS_BETTER: dict[str, bool] = {}
"""Directions of all numbers that are evaluated."""

NOT_FRACTIONS: set[str] = set()
"""Metrics whose values are no fractions."""

_KINDS: dict[str, tuple[dict[str, Factory], dict[str, Factory]]] = {
    "map": (METRICS, METRICS),
    "logits": (METRICS, METRICS),
    "explainer": (EXPLAINER_METRICS, EXPLAINER_METRICS),
    "masks": (REGION_METRICS, OPTIMAL_THRESHOLD_REGION_METRICS),
    "boxes": (BOX_METRICS, OPTIMAL_THRESHOLD_BOX_METRICS),
    "redrawn": (SANITY_METRICS, SANITY_METRICS),
    "random_labels": (SANITY_METRICS, SANITY_METRICS),
}


def base(name: str) -> str:
    """Name a metric without its variant."""
    return name.partition("@")[0]


def variant(name: str) -> dict[str, str]:
    """Give the setting that a name's variant sets: `{"baseline": "mean"}`, or nothing.

    Raises:
        ValueError: The metric has no variants.
    """
    plain, _, value = name.partition("@")
    if not value:
        return {}
    known = [each for each, spec in SPECS.items() if spec.variants]
    if plain not in known:
        raise ValueError(
            f"`metrics` has {name!r}, but {plain!r} has no variants; expected one of "
            f"{', '.join(known)}."
        )
    return {SPECS[plain].variants: value}


def output(name: str) -> Output:
    """Give title, direction and scale of a number, with a variant or without.

    Raises:
        ValueError: No metric gives it.
    """
    return _known(name, OUTPUTS)


def higher_is_better(name: str) -> bool:
    """Tell a metric's direction, whatever its variant.

    Raises:
        ValueError: An unknown metric.
    """
    return output(name).better == "higher"


def _known[T](name: str, table: Mapping[str, T]) -> T:
    if base(name) not in table:
        raise ValueError(
            f"`name`={name!r} is no metric; expected one of {', '.join(table)}."
        )
    return table[base(name)]


def contract(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Tell what a metric's value means, to be stored with it.

    Two figures of one name compare only if their contracts are equal.

    Args:
        name: Metric, with a variant or without.
        settings: Settings that differ from the factory's defaults.

    Returns:
        `metric`; the terms of its `Contract`; `resize` of the map; `higher_is_better`;
        and `settings`, all of them. Everything can be written as JSON.

    Raises:
        ValueError: An unknown metric, or a setting that it does not have.
    """
    spec = _known(name, SPECS)
    values = {
        each: list(value) if isinstance(value, tuple) else value
        for each, value in (defaults(base(name)) | variant(name)).items()
    }
    for setting, value in (settings or {}).items():
        if setting not in values:
            raise ValueError(
                f"`settings` has {setting!r}, which {name} does not have; expected "
                f"some of {', '.join(values) or 'none'}."
            )
        values[setting] = list(value) if isinstance(value, tuple) else value
    # Where a loop runs changes no value.
    values.pop("loop", None)
    said = dict(values)
    if "score" in values:
        said["score"] = scores.resolve(values["score"]).meaning
        values["score"] = scores.recorded(values["score"])
    terms = spec.contract._asdict()
    return {
        "metric": name,
        **{term: text.format(**said) for term, text in terms.items()},
        "resize": ENLARGED,
        "higher_is_better": higher_is_better(name),
        "settings": values,
    }


def defaults(name: str) -> dict[str, Any]:
    """List the settings of a metric's factory with their defaults."""
    settings = inspect.signature(FACTORIES[name]).parameters.values()
    return {
        each.name: each.default
        for each in settings
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }

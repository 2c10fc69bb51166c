"""Metrics by name, ready to score; those that look at the same pictures become one."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from unlir_jax import metrics
from unlir_jax.core import loops
from unlir_jax.metrics import registry

AVERAGES = ("average_drop", "average_increase", "average_gain")
CURVES = ("insertion", "deletion")
COUNTS = ("pixels_inside", "pixels_outside")
# Of a setting of a method or metric, whole and broken; none has use for more.
MOST_COUNT, MOST_NUMBER = 10**6, 1e9
CHOSEN = metrics.CHOSEN_REGION_METRICS | metrics.CHOSEN_BOX_METRICS


class Scorer(NamedTuple):
    """Hold a metric, which may give several columns at once.

    Attributes:
        columns: Names of what it gives, with their names in its result; "" for what
            follows from its curve, see `settled`.
        score: The metric.
        curves: Names of the curves that it also gives, with their names in its result.
        takes: What it takes besides: `explain`, where `score` makes the metric of an
            explainer; `regions`, the object's mask; `boxes`; or "".
        other: Whose variables it takes besides: `redrawn`, `random_labels`, or "".
        clean: Whether it takes the logits of the pictures, which are known.
    """

    columns: dict[str, str]
    score: Callable[..., Any]
    curves: dict[str, str]
    takes: str = ""
    other: str = ""
    clean: bool = False


def check(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse metrics that there are not.

    Returns:
        The names, each once.

    Raises:
        ValueError: So it is; the sentence says which are known.
    """
    wanted = tuple(dict.fromkeys(names))
    known = ", ".join(metrics.FACTORIES)
    if not wanted:
        raise ValueError(f"`metrics` is empty; expected some of {known}.")
    for name in wanted:
        plain = registry.base(name)
        if plain not in metrics.FACTORIES:
            near = difflib.get_close_matches(plain, metrics.FACTORIES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"`metrics` has {name!r}, which is no metric; {hint}known: {known}."
            )
        registry.variant(name)
    return wanted


def sanity(names: Sequence[str]) -> bool:
    """Tell whether layers are to be redrawn."""
    return any(registry.base(name).endswith("_randomization") for name in names)


def make(
    model: Any,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    order: tuple[str, ...] = (),
) -> tuple[list[Scorer], dict[str, Any]]:
    """Make metrics, and say what each means.

    Args:
        model: The cut network.
        names: See `check`.
        options: Settings by metric; those of a metric hold for its variants too.
        order: The network's layers, for what redraws them.
    """
    values = _values(names, options, order)
    given = _given(values)
    scorers = []
    averages = {name: name for name in names if name in AVERAGES}
    if averages:
        score = metrics.average_scores(model)
        scorers.append(Scorer(averages, score, {}, clean=True))
    for name in names:
        if name in AVERAGES or name in given:
            continue
        plain = registry.base(name)
        if plain in metrics.SANITY_METRICS:
            _add_sanity(scorers, name, model, values[name])
            continue
        make = functools.partial(metrics.FACTORIES[plain], **values[name])
        all_names = [name, *(other for other, giver in given.items() if giver == name)]
        columns = {
            each: "" if plain in CHOSEN else registry.base(each) for each in all_names
        }
        if plain in metrics.EXPLAINER_METRICS:
            made = functools.partial(make, model)
            scorers.append(Scorer(columns, made, {}, "explain"))
            continue
        curves = dict(item for each in all_names for item in _curves(each).items())
        scorers.append(Scorer(columns, make(model), curves, _takes(plain)))
    return scorers, {name: metrics.contract(name, values[name]) for name in names}


def _given(values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Find the metrics that another one computes anyway: their names, and its.

    Args:
        values: Settings by name, which must be the same for both.
    """
    found = {}
    for giver, settings in values.items():
        for plain, own in _gives(giver, settings).items():
            for name, wanted in values.items():
                if registry.base(name) == plain and wanted == own:
                    found[name] = giver
    return found


def _gives(name: str, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """List what a metric gives besides itself, and the settings that it is under."""
    if name == "insertion_minus_deletion":
        common = {each: settings[each] for each in ("steps", "loop")}
        return {
            each: common | {"baseline": settings[f"{each}_baseline"]} for each in CURVES
        }
    return {"coherency": {}} if name == "adcc" else {}


def _values(
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    order: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    """Give the settings of each metric: defaults, then options, then its variant."""
    plain = dict.fromkeys(registry.base(name) for name in names)
    found = {name: defaults(name) for name in plain}
    merge(found, options, "metric_options", defaults)
    for name, settings in found.items():
        if name.endswith("_randomization"):
            settings["order"] = order
    return {name: found[registry.base(name)] | registry.variant(name) for name in names}


def defaults(name: str) -> dict[str, Any]:
    """List the settings of a metric's factory; none where there is no such metric.

    The order in which layers are redrawn is the network's, and no setting.
    """
    if name not in metrics.FACTORIES:
        return {}
    explaining = metrics.EXPLAINER_METRICS | metrics.SANITY_METRICS
    own = list(inspect.signature(metrics.FACTORIES[name]).parameters.values())
    own = own[2 if name in explaining else 1 :]
    return {each.name: each.default for each in own if each.name != "order"}


def _add_sanity(
    scorers: list[Scorer], name: str, model: Any, values: dict[str, Any]
) -> None:
    """Let the measures of one check share its maps."""
    plain, measure = registry.base(name), values["measure"]
    for scorer in scorers:
        if plain in {registry.base(column) for column in scorer.columns}:
            scorer.columns[name] = measure
            return
    score = functools.partial(metrics.SANITY_METRICS[plain], **values)
    other = "random_labels" if plain == "random_labels" else "redrawn"
    made = functools.partial(score, model)
    scorers.append(Scorer({name: measure}, made, {}, "explain", other))


def _takes(name: str) -> str:
    if name in metrics.REGION_METRICS | metrics.CHOSEN_REGION_METRICS:
        return "regions"
    return "boxes" if name in metrics.BOX_METRICS | metrics.CHOSEN_BOX_METRICS else ""


def _curves(name: str) -> dict[str, str]:
    plain = registry.base(name)
    if plain == "pixel_average_precision":
        return {each: each for each in COUNTS}
    if plain in (*CURVES, *CHOSEN):
        return {f"{name}_curve": f"{plain}_curve"}
    return {}


def merge(
    found: dict[str, dict[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
    what: str,
    defaults: Callable[[str], dict[str, Any]],
) -> None:
    """Change settings as options say.

    Defaults of what is not asked for are passed over: a config lists all of them, and
    its methods or metrics may have been changed since.

    Raises:
        ValueError: An option of something else, or one that there is not.
    """
    for name, changed in options.items():
        if name not in found and changed and dict(changed) == defaults(name):
            continue
        if name not in found:
            raise ValueError(
                f"`{what}.{name}` is about nothing that was asked for; expected some "
                f"of {', '.join(found)}."
            )
        for option, value in changed.items():
            if option not in found[name]:
                raise ValueError(
                    f"`{what}.{name}.{option}` is no setting of {name}; expected some "
                    f"of {', '.join(found[name]) or 'none'}."
                )
            check_option(f"{what}.{name}.{option}", value, found[name][option])
            found[name][option] = value


def check_option(setting: str, value: Any, default: Any) -> None:
    """Refuse a value that makes no sense for any method or metric.

    Args:
        setting: What is changed.
        value: Its new value.
        default: What it is without.

    Raises:
        ValueError: It is of another kind, or absurdly large, or no way to run a loop.
    """
    expected, option = "", setting.rpartition(".")[2]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool) and not isinstance(value, bool):
        expected = "true or false"
    elif isinstance(default, int | float) and not isinstance(default, bool):
        most = MOST_COUNT if isinstance(value, int) else MOST_NUMBER
        if not number or not abs(value) <= most:
            expected = f"a number of at most {most:,}"
        elif option == "batch_size" and value < 1:
            expected = "1 or more"
    elif option == "loop" and value not in get_args(loops.Loop):
        expected = f"one of {get_args(loops.Loop)}"
    if expected:
        raise ValueError(f"`{setting}`={value!r}; expected {expected}.")

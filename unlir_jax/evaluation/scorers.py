"""Metrics by name, ready to score; those that look at the same images become one."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from unlir_jax import metrics
from unlir_jax.core import choices, loops, passes
from unlir_jax.core.document_types import Document, Record
from unlir_jax.explanation.scoring import Scorer
from unlir_jax.metrics import spec
from unlir_jax.split import scores
from unlir_jax.types import SplitModel

# Of a setting of a method or metric, whole and broken; none has use for more.
MOST_COUNT, MOST_NUMBER = 10**6, 1e9
AS_ALL = "score", ""
"""What an option says when the score is that of the whole evaluation."""


def check(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse metrics that there are not.

    Returns:
        The names, each once.

    Raises:
        ValueError: A name is unknown, or there is none.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        known = ", ".join(metrics.FACTORIES)
        raise ValueError(f"`metrics` is empty; expected some of {known}.")
    for name in wanted:
        plain = spec.base(name)
        wrong = f"`metrics` has {name!r}, which is no metric"
        choices.pick(plain, metrics.FACTORIES, wrong)
        spec.variant(name)
    return wanted


def sanity(names: Sequence[str]) -> bool:
    """Tell whether layers are to be redrawn."""
    return any(metrics.SPECS[spec.base(name)].needs == "redrawn" for name in names)


def make(
    model: SplitModel,
    names: Sequence[str],
    options: Mapping[str, Document],
    order: tuple[str, ...] = (),
    score: scores.Score | None = None,
) -> tuple[list[Scorer], Record]:
    """Make metrics, and say what each means.

    Args:
        model: The cut network.
        names: See `check`.
        options: Settings by metric; a metric's settings hold for its variants too.
        order: The network's layers, for what redraws them.
        score: Score of all metrics that have a setting `score`; None for their own.
    """
    values = _values(names, options, order, score)
    given = _given(values)
    scorers: list[Scorer] = []
    for name in names:
        known = metrics.SPECS[spec.base(name)]
        if name in given or _join(scorers, name, values):
            continue
        made, unsigned = _both(model, name, values[name])
        all_names = [name, *(other for other, giver in given.items() if giver == name)]
        columns = {
            each: "" if known.at_threshold else _result(each, values[each])
            for each in all_names
        }
        curves = {
            curve.replace(spec.base(each), each, 1): curve
            for each in all_names
            for curve in metrics.SPECS[spec.base(each)].curves
        }
        scorers.append(Scorer(columns, made, curves, known.needs, unsigned))
    return scorers, {name: metrics.contract(name, values[name]) for name in names}


def _both(
    model: SplitModel, name: str, values: Document
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """Make a metric, and another for maps without a sign where it masks by signs."""
    known = metrics.SPECS[spec.base(name)]

    def make(settings: Document) -> Callable[..., Any]:
        if known.together:
            return known.together(model, **settings)
        factory = metrics.FACTORIES[spec.base(name)]
        made = functools.partial(factory, model, **settings)
        return made if known.needs in spec.EXPLAINING else made()

    signed = "signs" in values
    return make(values), make({**values, "signs": "range"}) if signed else None


def _join(scorers: list[Scorer], name: str, values: Mapping[str, Document]) -> bool:
    """Add a metric to the scorer that computes it anyway, if there is one."""
    known = metrics.SPECS[spec.base(name)]
    for scorer in scorers:
        first = next(iter(scorer.columns))
        other = metrics.SPECS[spec.base(first)]
        same = other.together is not None and other.together == known.together
        same = same and values[first] == values[name]
        if same or (known.shared and other == known):
            scorer.columns[name] = _result(name, values[name])
            return True
    return False


def _result(name: str, values: Document) -> str:
    """Name a metric as its result does."""
    known = metrics.SPECS[spec.base(name)]
    return values[known.variants] if known.shared else spec.base(name)


def _given(values: Mapping[str, Document]) -> dict[str, str]:
    """Map each metric that another requested metric computes to that metric.

    Args:
        values: Settings by name, which must be the same for both.
    """
    found = {}
    for giver, settings in values.items():
        for plain, own in _gives(giver, settings).items():
            for name, wanted in values.items():
                if spec.base(name) == plain and wanted == own:
                    found[name] = giver
    return found


def _gives(name: str, settings: Document) -> dict[str, Record]:
    """List what a metric gives besides itself, and the settings that it is under."""
    return {
        other: {own: settings[theirs] for own, theirs in names.items()}
        for other, names in metrics.SPECS[spec.base(name)].gives.items()
    }


def _values(
    names: Sequence[str],
    options: Mapping[str, Document],
    order: tuple[str, ...],
    score: scores.Score | None = None,
) -> dict[str, Record]:
    """Give the settings of each metric: defaults, then options, then its variant."""
    plain = dict.fromkeys(spec.base(name) for name in names)
    found = {name: defaults(name) for name in plain}
    for settings in found.values():
        if score and "score" in settings:
            settings["score"] = score
    merge(found, options, "metric_options", defaults)
    for name, settings in found.items():
        if metrics.SPECS[name].needs == "redrawn":
            settings["order"] = order
    return {name: found[spec.base(name)] | spec.variant(name) for name in names}


def defaults(name: str) -> Record:
    """List the settings of a metric's factory; none where there is no such metric.

    The order in which layers are redrawn is the network's, and no setting.
    """
    if name not in metrics.FACTORIES:
        return {}
    return {k: v for k, v in spec.defaults(name).items() if k != "order"}


def merge(
    found: dict[str, Record],
    options: Mapping[str, Document],
    what: str,
    defaults: Callable[[str], Record],
) -> None:
    """Change settings as options say.

    Defaults of what is not asked for are passed over: a config lists all of them, and
    its methods or metrics may have been changed since.

    Raises:
        ValueError: An option of something else, or one that there is not.
    """
    for name, given in options.items():
        usual = defaults(name)
        now = passes.renamed(usual, former(given), f"{what}.{name}.")
        changed = {k: v for k, v in now.items() if (k, v) != AS_ALL}
        same = all(k in usual and usual[k] == v for k, v in changed.items())
        if name not in found and given and same:
            continue
        if name not in found:
            raise ValueError(
                f"`{what}.{name}` configures nothing that is evaluated; expected some "
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


def former(options: Document) -> Record:
    """Call settings of methods as they are called now: `target` was `score`."""
    return {("score" if k == "target" else k): v for k, v in options.items()}


def check_option(setting: str, value: Any, default: object) -> None:
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

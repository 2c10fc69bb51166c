"""The words of a report: names of methods and metrics, and what follows from scores."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unlir_jax import metrics, saliency
from unlir_jax.core.document_types import Document


class Column(NamedTuple):
    """Describe one score for people."""

    title: str
    short: str
    meaning: str
    caution: str


def _column(name: str) -> Column:
    spec = metrics.SPECS[name]
    meaning = f"{spec.meaning} {spec.better.capitalize()} is better."
    return Column(spec.title, spec.short, meaning, spec.caution)


COLUMNS = {
    name: _column(name)
    for name in (
        *("average_drop", "average_increase", "average_gain"),
        *("insertion", "deletion"),
    )
}
"""The metrics of `unlir explain`, in the order of its tables."""

SHOWN = "masked_probability"
ENDS = {
    False: ("least important", "most important"),
    True: ("against the class", "for the class"),
}
"""What the ends of colours mean, of maps without a sign and of maps with one."""
CURVES = ("insertion", "deletion")


def method_title(name: str) -> str:
    """Name a method, with its refinement, for people."""
    plain, refinement = saliency.parted(name)
    spec = saliency.SPECS.get(plain)
    title = spec.title if spec else plain.replace("_", " ").capitalize()
    named = saliency.REFINEMENT_TITLES.get(refinement, refinement)
    return f"{title}, {named}" if refinement else title


def metric_title(name: str) -> str:
    """Name a metric, with its variant, for people."""
    plain, _, variant = name.partition("@")
    title = metrics.output(plain).title
    if not variant:
        return title
    known = metrics.SPECS[plain].outputs.get(variant)
    return f"{title} ({known.title if known else variant})"


def number(metric: str, value: float | None) -> str:
    """Print a value: fractions per cent, others as they are with three digits."""
    if metrics.output(metric).scale == "fraction":
        return percent(value)
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def percent(value: float | None) -> str:
    """Print a fraction per cent with one decimal."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}"


def amount(guess: Document) -> str:
    """Print what a network gives a class: a probability per cent, else the number."""
    if "probability" in guess:
        return f"{percent(guess['probability'])} %"
    return f"{guess['value']:.4g}"


def arrow(metric: str) -> str:
    """Point to where a metric is better."""
    return "↑" if metrics.higher_is_better(metric) else "↓"


def better(metric: str, first: float, second: float) -> bool:
    """Tell whether one value is better than another as printed: a tie is not.

    A value that is not finite is worse than any other.
    """
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.isfinite(first)
    first, second = round(1000 * first) / 1000, round(1000 * second) / 1000
    return first > second if metrics.higher_is_better(metric) else first < second


def best(metric: str, rows: Mapping[str, Document]) -> list[str]:
    """Name the rows with the best printed value; none where all are equal."""
    winners = [
        name
        for name, row in rows.items()
        if not any(
            better(metric, other[metric], row[metric]) for other in rows.values()
        )
    ]
    return [] if len(winners) == len(rows) else winners


def warnings(
    methods: Mapping[str, Document],
    controls: Mapping[str, Document],
    probability: float = 1.0,
) -> list[str]:
    """Say in sentences what should make a reader doubt the maps of one image.

    Args:
        methods: Scores by metric, and `flat`, of each method asked for.
        controls: The same of the controls.
        probability: What the network gives to the class on the whole image.
    """
    known = set(saliency.CONTROLS)
    rivals = dict(controls) | {name: methods[name] for name in methods if name in known}
    found = [
        f"{method_title(name)} gave a flat map, in which no pixel stands out: its "
        "scores say nothing."
        for name, row in methods.items()
        if row["flat"]
    ]
    found += [
        f"The mask of {method_title(name)} is nearly flat (deciles less than 0.1 "
        "apart): its average drop and gain say nothing."
        for name, row in methods.items()
        if row["nearly_flat"] and not row["flat"] and name not in known
    ]
    if percent(probability) == "0.0":
        found.append(
            "The network gives this class next to no probability: there is little to "
            "explain, and differences between scores mean nothing."
        )
        return found
    for metric in CURVES:
        rival = _strongest(metric, rivals)
        beaten = [
            f"{method_title(name)} ({percent(row[metric])})"
            for name, row in methods.items()
            if rival is not None
            and not (name in known or row["flat"])
            and not better(metric, row[metric], rivals[rival][metric])
        ]
        if rival is not None and beaten:
            verb = "does" if len(beaten) == 1 else "do"
            control = f"{method_title(rival)} ({percent(rivals[rival][metric])})"
            found.append(
                f"On {metric}, {enumerate_names(beaten)} {verb} not beat {control}, "
                "which is computed without the network."
            )
    return found


def enumerate_names(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def nearly_flat(count: int, images: int, name: str) -> str:
    """Say of how many images a method's masks are nearly flat, and what follows."""
    return (
        f"{method_title(name)} gave nearly flat masks for {count} of {images} images "
        "(deciles less than 0.1 apart): there, average drop and gain say nothing."
    )


def _strongest(metric: str, rows: Mapping[str, Document]) -> str | None:
    if not rows:
        return None
    sign = 1 if metrics.higher_is_better(metric) else -1
    return max(rows, key=lambda name: sign * rows[name][metric])


def verdict(found: Document) -> str:
    """Say whether an image is of a known class, and by what.

    Args:
        found: What `results.json` says of it, see `open_set.known_network`.
    """
    accepted, score = found["known"], found["score"]
    nearest = found["nearest"]["name"]
    says = nearest if accepted else f"unknown: nearest {nearest}"
    than = "at or above" if accepted else "below"
    return (
        f"{says}, {score} {found['value']:.4g} {than} {found['threshold']:.4g}, which "
        f"keeps {100 * found['kept']:.4g} % of known images"
    )


def within(title: str) -> str:
    """Write a title as it stands within a sentence; abbreviations stay.

    Example:
        >>> from unlir_jax.report import words
        >>> words.within("Average drop"), words.within("IoU at its best")
        ('average drop', 'IoU at its best')
    """
    first, _, _ = title.partition(" ")
    return title if first[1:] != first[1:].lower() else title[:1].lower() + title[1:]

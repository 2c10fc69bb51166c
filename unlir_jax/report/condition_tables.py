"""Conditions of an evaluation side by side: tables, and what follows, in sentences."""

from collections.abc import Sequence

from unlir_jax.core.document_types import Document
from unlir_jax.report import words
from unlir_jax.statistics import power


def shown(found: Document) -> dict[str, Document]:
    """Give the conditions that differ from the first in one thing alone."""
    known = found.get("conditions", {})
    first = next(iter(known.values()), {})
    return {
        name: each
        for name, each in known.items()
        if any(each[axis] == first[axis] for axis in ("class", "augmentation"))
    }


def heads(found: Document) -> list[str]:
    """List the titles of these conditions."""
    return [each["title"] for each in shown(found).values()]


def tables(found: Document) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Give a table for each metric: its title, and a row of cells for each method."""
    about, known = found["about"], shown(found)
    every = [*about["methods"], *about["controls"]]
    shared = [
        metric
        for metric in about["metrics"]
        if all(f"{every[0]}/{metric}" in each["means"] for each in known.values())
    ]
    return [
        (
            f"{words.metric_title(metric)} {words.arrow(metric)}",
            [
                (
                    words.method_title(method),
                    [cell(each["means"], method, metric) for each in known.values()],
                )
                for method in every
            ],
        )
        for metric in (shared if known else [])
    ]


def accuracies(found: Document) -> list[str]:
    """Say how often the network is right under each condition where that is known."""
    known = shown(found).values()
    return [
        f"{each['title']}: accuracy {words.percent(each['accuracy'])} %."
        for each in known
        if each["accuracy"] is not None
    ]


def sentences(found: Document) -> list[str]:
    """Say which scores tell a condition from the first, a sentence for each metric."""
    known = shown(found)
    said = []
    for name in [*known][1:]:
        pairs = [
            pair
            for pair in found["differences"]
            if (pair["condition"], pair["reference"]) == (name, next(iter(known)))
        ]
        first = next(iter(known.values()))["title"]
        said += _compared(found, pairs, f"{known[name]['title']} against {first}")
    return said


def _compared(found: Document, pairs: Sequence[Document], which: str) -> list[str]:
    """Say how far two conditions differ, or that too few images cannot tell."""
    statistics, methods = found["about"]["statistics"], found["about"]["methods"]
    level, which = 1 - statistics["confidence"], which[:1].upper() + which[1:]
    if not pairs:
        return []
    able = power.of_comparisons(
        max(pair["n"] for pair in pairs),
        len(pairs),
        level=level,
        resamples=statistics["resamples"],
    )
    if not able.enough:
        remedy = f"{able.needed} images" if able.needed else f"{able.resamples} draws"
        return [
            f"{which}: {able.images} images cannot tell them apart, whatever the "
            f"scores; {remedy} would do."
        ]
    groups: dict[str, list[Document]] = {}
    for pair in pairs:
        if pair["method"] in methods:
            groups.setdefault(pair["metric"], []).append(pair)
    return [
        f"{which}, {words.metric_title(metric)}: {_verdict(own, level)}."
        for metric, own in groups.items()
    ]


def _verdict(pairs: Sequence[Document], level: float) -> str:
    """Tell methods whose scores differ beyond chance from those whose do not."""
    apart = [pair for pair in pairs if pair["holm"] < level]
    alike = [words.method_title(p["method"]) for p in pairs if p["holm"] >= level]
    clauses = []
    if apart:
        told = [f"{words.method_title(p['method'])} ({difference(p)})" for p in apart]
        verb = "differs" if len(told) == 1 else "differ"
        clauses.append(f"{words.enumerate_names(told)} {verb}")
    if alike:
        clauses.append(f"{words.enumerate_names(alike)} cannot be told apart")
    return "; ".join(clauses)


def difference(pair: Document) -> str:
    """Print a difference with its interval."""
    metric = pair["metric"]
    mean, low, high = (
        ("+" if pair[name] > 0 else "") + words.number(metric, pair[name])
        for name in ("difference", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def markdown(found: Document) -> list[str]:
    """Write the tables and sentences as lines of Markdown; none of one condition."""
    lines: list[str] = []
    for title, rows in tables(found):
        lines += ["", f"## {title}", "", f"| method | {' | '.join(heads(found))} |"]
        lines.append("|---|" + "---|" * len(heads(found)))
        lines += [f"| {method} | {' | '.join(cells)} |" for method, cells in rows]
    if lines:
        lines += ["", "## Conditions against each other", ""]
        lines += [f"- {each}" for each in (*accuracies(found), *sentences(found))]
    return lines


def cell(means: Document, method: str, metric: str) -> str:
    """Print a mean with its interval."""
    figure = means.get(f"{method}/{metric}", {"mean": None})
    if figure["mean"] is None:
        return "–"
    mean, low, high = (
        words.number(metric, figure[name]) for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"

"""An evaluation in figures, in words, and as a page."""

import json
from collections.abc import Sequence
from typing import Any

from unlir_jax.core.document_types import Document
from unlir_jax.report import condition_tables, curves, html, overlay, terms, words
from unlir_jax.report.condition_tables import cell

POOLED = ("pxap", "miou", "class_miou")
KINDS = {
    "best": "Explained best",
    "worst": "Explained worst",
    "disputed": "Most disputed",
}


def markdown(found: Document) -> str:
    """Write the table of means, and what to be careful about."""
    about = found["about"]
    confidence = 100 * about["statistics"]["confidence"]
    lines = [
        f"# {about['model']}, {about['images']} images{_under(about)}",
        "",
        f"Mean and {confidence:g} % interval (bootstrap over images), in per cent.",
        "",
        "| method | "
        + " | ".join(
            f"{words.metric_title(name)} {words.arrow(name)}"
            for name in _columns(found)
        )
        + " |",
        "|---|" + "---|" * len(_columns(found)),
    ]
    for method in (*about["methods"], *about["controls"]):
        cells = [cell(found, method, metric) for metric in _columns(found)]
        shown = words.method_title(method)
        shown = f"*{shown}*" if method in about["controls"] else shown
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    lines += ["", "In italics: controls, computed without the network.", ""]
    lines += [f"- {sentence}" for sentence in _sentences(found)]
    lines += condition_tables.markdown(found)
    return "\n".join(lines) + "\n"


def page(found: Document, rows: Any, shown: Sequence[Any]) -> str:
    """Write the report: tables, curves, images, and the contract of each metric."""
    about = found["about"]
    columns = _columns(found)
    titles = [f"{words.metric_title(name)} {words.arrow(name)}" for name in columns]

    def body(names: Sequence[str]) -> list[tuple[str, list[str]]]:
        return [
            (words.method_title(name), [cell(found, name, each) for each in columns])
            for name in names
        ]

    every = {"about": about, "thresholds": found["thresholds"]}
    resize = {each["resize"] for each in found["contract"].values()}
    return html.render(
        "evaluation.html",
        title=f"How well {about['model']} is explained{_under(about)}",
        command="unlir evaluate",
        version=about["versions"]["unlir_jax"],
        about=about,
        heads=["Method", *titles],
        methods=body(about["methods"]),
        controls=body(about["controls"]),
        sentences=_sentences(found),
        charts=_curves(found, rows),
        conditions=found.get("conditions", {}),
        condition_heads=["Method", *condition_tables.heads(found)],
        condition_tables=condition_tables.tables(found),
        condition_sentences=[
            *condition_tables.accuracies(found),
            *condition_tables.sentences(found),
        ],
        differences=found.get("differences", []),
        kinds=KINDS,
        shown=shown,
        framed=any(each.framed for each in shown),
        enlarge=overlay.enlarge,
        rankings=terms.ranking_sentences(found),
        comparisons=found["comparisons"],
        difference=condition_tables.difference,
        terms=terms.TERMS,
        contracts=found["contract"],
        enlarged=words.enumerate_names(sorted(resize)),
        all_settings=json.dumps(every, indent=2, ensure_ascii=False, default=str),
    )


def _under(about: Document) -> str:
    """Name the condition of a summary; "" where there is no other."""
    named = (about.get("class", ""), about.get("augmentation", ""))
    return "".join(f", {name}" for name in named if name)


def _columns(found: Document) -> list[str]:
    """List the metrics of the table, with the ones of all images together."""
    pooled = [
        each for each in POOLED if any(name.endswith(f"/{each}") for name in found)
    ]
    return [*found["about"]["metrics"], *pooled]


def _sentences(found: Document) -> list[str]:
    about = found["about"]
    sentences = [
        f"{words.method_title(name)} gave {count} flat maps of {about['images']}."
        for name, count in about["flat"].items()
        if count
    ]
    sentences += [
        words.nearly_flat(count, about["images"], name)
        for name, count in (about["nearly_flat"] if _masking(found) else {}).items()
        if count and name in about["methods"]
    ]
    for metric, each in about["undefined"].items():
        sentences.append(
            f"{words.metric_title(metric)} is undefined for {each['pictures']} of "
            f"{about['images']} images, which have no object, such as "
            f"{each['first']}: they count for no mean of it, and are nan in the tables."
        )
    if about["unreadable"]:
        sentences.append(
            f"{len(about['unreadable'])} images could not be read, among them "
            f"{about['unreadable'][0]}: {about['unreadable_why']}"
        )
    sentences += about["notices"]
    return [*sentences, *found["cautions"], *terms.ranking_sentences(found)]


def _masking(found: Document) -> bool:
    """Tell whether a metric masks images by maps."""
    return any("signs" in each["settings"] for each in found["contract"].values())


def _curves(found: Document, rows: Any) -> list[html.Markup]:
    """Draw the mean curve of each method."""
    about = found["about"]
    names = [*about["methods"], *about["controls"]]
    stored = list(about["flat"])
    charts = []
    for metric in words.CURVES:
        curve = rows.curves.get(f"{metric}_curve")
        if curve is None:
            continue
        mean = curve.mean(0)
        lines = {
            name: {
                metric: found[f"{name}/{metric}"]["mean"],
                f"{metric}_curve": mean[stored.index(name)].tolist(),
            }
            for name in names
        }
        methods = {name: lines[name] for name in about["methods"]}
        controls = {name: lines[name] for name in about["controls"]}
        charts.append(curves.chart(metric, methods, controls))
    return charts

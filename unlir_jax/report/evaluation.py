"""An evaluation in figures, in words, and as a page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from unlir_jax.data import source
from unlir_jax.models import pretrained
from unlir_jax.report import cautions, curves, html, overlay, terms, words
from unlir_jax.storage import files

KINDS = {
    "best": "Explained best",
    "worst": "Explained worst",
    "disputed": "Most disputed",
}


def document(
    job: Any, rows: Any, names: Sequence[str], figures: Any, facts: Any
) -> dict[str, Any]:
    """Put together what `summary.json` says.

    Args:
        job: The `task.Task`.
        rows: All scores, as `store.read` gives them.
        names: Of the pictures.
        figures: See `comparison.compare`.
        facts: See `settled.settle`.
    """
    found: dict[str, Any] = dict(figures.means) | facts.pooled
    known = job.settings.labels != "predicted"
    wrong = int(np.count_nonzero(rows.predicted != rows.label))
    found["about"] = {
        "model": job.network.name,
        "layer": job.network.layer,
        "weights": pretrained.provenance(job.network),
        "images": len(names),
        "unreadable": [job.data.name(int(place)) for place in rows.unreadable],
        "unreadable_why": _why(job, rows),
        "notices": list(job.data.notices),
        "labels": job.settings.labels,
        "labelled_by": job.labelled_by,
        "duplicates": job.duplicates,
        "undefined": _undefined(job, rows, names),
        "masks": job.data.masks,
        "accuracy": 1 - wrong / len(names) if known else None,
        "methods": [name for name in job.explainers if name not in job.controls],
        "controls": list(job.controls),
        "metrics": list(job.columns),
        "hyper_parameters": job.parameters,
        "flat": {
            name: int(rows.flat[:, place].sum())
            for place, name in enumerate(job.explainers)
        },
        "image_size": job.image_size,
        "crop": job.crop,
        "preprocessing": pretrained.prepared(
            job.network, job.image_size, job.crop, job.interpolation
        ),
        "seed": job.settings.seed,
        "statistics": job.settings.statistics.to_dict(),
        "gallery": job.settings.gallery,
        "versions": files.versions(),
    }
    found["contract"] = {
        scorer_name: job.contracts[scorer_name] for scorer_name in job.columns
    }
    found["comparisons"] = figures.pairs
    found["rankings"] = facts.rankings
    found["thresholds"] = facts.thresholds
    unbeaten = cautions.sentences(figures.unbeaten, job.controls)
    found["cautions"] = [*job.notices, *unbeaten]
    return found


def _why(job: Any, rows: Any) -> str:
    """Say why the first picture that cannot be read cannot."""
    if not len(rows.unreadable):
        return ""
    return source.reason(job.data, int(rows.unreadable[0]), job.annotations)


def _undefined(job: Any, rows: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Count by metric the pictures in which it has nothing to find, and name one."""
    found = {}
    for place, metric in enumerate(job.columns):
        without = np.flatnonzero(~np.isfinite(rows.values[..., place]).all(1))
        if len(without):
            first = files.readable(names[int(without[0])])
            found[metric] = {"pictures": len(without), "first": first}
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """Write the table of means, and what to be careful about."""
    about = found["about"]
    confidence = 100 * about["statistics"]["confidence"]
    lines = [
        f"# {about['model']}, {about['images']} pictures",
        "",
        f"Mean and {confidence:g} % interval (bootstrap over pictures), in per cent.",
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
        cells = [_cell(found, method, metric) for metric in _columns(found)]
        shown = words.method_title(method)
        shown = f"*{shown}*" if method in about["controls"] else shown
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    lines += ["", "In italics: controls, which know nothing of the network.", ""]
    lines += [f"- {sentence}" for sentence in _sentences(found)]
    return "\n".join(lines) + "\n"


def page(found: Mapping[str, Any], rows: Any, shown: Sequence[Any]) -> str:
    """Write the report: tables, curves, pictures, and the contract of each metric."""
    about = found["about"]
    title = f"How well {about['model']} is explained"
    doubts = "".join(f"<li>{escape(text)}</li>" for text in _sentences(found))
    return (
        f"{html.head(title)}<body><header class='masthead'>"
        f'<p class="eyebrow">unlir evaluate</p><h1>{escape(title)}</h1>'
        f'<p class="lede">{about["images"]} pictures, '
        f"{len(about['methods'])} methods, {len(about['metrics'])} metrics. Layer "
        f"{escape(about['layer'])}.</p></header><main>"
        f'<section id="mean"><h2>Means with intervals</h2>{_table(found)}'
        f'<ul class="warnings" role="note">{doubts}</ul></section>'
        f"{_curves(found, rows)}{_gallery(shown)}{terms.rankings(found)}"
        f"{_pairs(found)}{terms.contracts(found)}"
        f"</main><footer>Made by unlir_jax {escape(about['versions']['unlir_jax'])}. "
        "All scores are in per_image.parquet.</footer></body></html>\n"
    )


def _columns(found: Mapping[str, Any]) -> list[str]:
    """List the metrics of the table, those of all pictures together among them."""
    pooled = any(name.endswith("/pxap") for name in found)
    return [*found["about"]["metrics"], *(["pxap"] if pooled else [])]


def _cell(found: Mapping[str, Any], method: str, metric: str) -> str:
    figure = found.get(f"{method}/{metric}", {"mean": None})
    if figure["mean"] is None:
        return "–"
    mean, low, high = (
        words.number(metric, figure[name]) for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _sentences(found: Mapping[str, Any]) -> list[str]:
    about = found["about"]
    sentences = [
        f"{words.method_title(name)} gave {count} flat maps of {about['images']}."
        for name, count in about["flat"].items()
        if count
    ]
    for metric, each in about["undefined"].items():
        sentences.append(
            f"{words.metric_title(metric)} is undefined for {each['pictures']} of "
            f"{about['images']} pictures, which have no object, such as "
            f"{each['first']}: they count for no mean of it, and are nan in the tables."
        )
    if about["unreadable"]:
        sentences.append(
            f"{len(about['unreadable'])} pictures could not be read, among them "
            f"{about['unreadable'][0]}: {about['unreadable_why']}"
        )
    sentences += about["notices"]
    return [*sentences, *found["cautions"], *terms.ranking_sentences(found)]


def _table(found: Mapping[str, Any]) -> str:
    about = found["about"]
    titles = "".join(
        f'<th scope="col">{escape(words.metric_title(name))} {words.arrow(name)}</th>'
        for name in _columns(found)
    )

    def body(names: Sequence[str]) -> str:
        return "".join(
            f'<tr><th scope="row">{escape(words.method_title(name))}</th>'
            + "".join(
                f"<td>{_cell(found, name, metric)}</td>" for metric in _columns(found)
            )
            + "</tr>"
            for name in names
        )

    controls = body(about["controls"])
    confidence = 100 * about["statistics"]["confidence"]
    return (
        '<div class="scroll"><table><caption>Fractions in per cent, with intervals '
        f"of {confidence:g} %</caption><thead><tr>"
        f'<th scope="col">Method</th>{titles}</tr></thead>'
        f"<tbody>{body(about['methods'])}</tbody>"
        + (f'<tbody class="controls">{controls}</tbody>' if controls else "")
        + '</table></div><p class="note">Below the rule: controls, which know nothing '
        "of the network.</p>"
    )


def _curves(found: Mapping[str, Any], rows: Any) -> str:
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
    if not charts:
        return ""
    return (
        '<section id="curves"><h2>Mean curves</h2>'
        f'<div class="charts">{"".join(charts)}</div></section>'
    )


def _gallery(shown: Sequence[Any]) -> str:
    parts = []
    for kind, title in KINDS.items():
        articles = [_article(each) for each in shown if each.kind == kind]
        if articles:
            judge = words.metric_title(shown[0].judge).lower()
            parts.append(f"<h2>{title}, by {judge}</h2>{''.join(articles)}")
    return f'<section id="gallery">{"".join(parts)}</section>' if parts else ""


def _article(each: Any) -> str:
    picture = html.image(overlay.enlarge(each.picture), f"The picture {each.name}")
    panels = [
        f"<div><figure>{picture}<figcaption>{escape(each.name)}</figcaption></figure>"
        "</div>"
    ]
    for name, view in each.views.items():
        title = escape(words.method_title(name))
        drawn = html.image(view.overlay, f"{title} map over {each.name}")
        score = words.number(each.judge, each.scores[name])
        panels.append(
            f"<div><figure>{drawn}<figcaption><strong>{title}</strong> {score}"
            "</figcaption></figure></div>"
        )
    return f'<article><div class="panels">{"".join(panels)}</div></article>'


def _difference(pair: Mapping[str, Any]) -> str:
    metric = pair["metric"]
    mean, low, high = (
        ("+" if pair[name] > 0 else "") + words.number(metric, pair[name])
        for name in ("difference", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _pairs(found: Mapping[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{escape(words.metric_title(pair['metric']))}</td>"
        f"<td>{escape(words.method_title(pair['first']))}</td>"
        f"<td>{escape(words.method_title(pair['second']))}</td>"
        f"<td>{_difference(pair)}</td><td>{pair['holm']:.3f}</td>"
        f"<td>{words.percent(pair['win_rate'])}</td></tr>"
        for pair in found["comparisons"]
    )
    heads = ("Metric", "First", "Second", "Difference", "p (Holm)", "First wins")
    titles = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        "<details><summary>All paired comparisons</summary>"
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></details>"
    )

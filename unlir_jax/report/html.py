"""The report as one self-contained page."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from unlir_jax.report import curves, overlay, words

QUALITY = 86
"""Of WebP: no loss that an eye finds, at a tenth of PNG's size."""

Rows = Mapping[str, Mapping[str, Any]]


def article(
    name: str,
    picture: Image.Image,
    entry: Mapping[str, Any],
    views: Mapping[str, overlay.View],
    account: str = "",
) -> str:
    """Write the part of the page about one picture.

    Args:
        name: Of the picture, different from all others on the page.
        picture: The square that the network sees.
        entry: What `results.json` says of it.
        views: By method, its map over the picture and the picture seen through it.
        account: What parts have added, see `part_panel.panel`.
    """
    methods, controls = entry["methods"], entry["controls"]
    label = escape(entry["label"]["name"])
    blocky = ' class="blocky"' if picture.width < overlay.BLOCKY else ""
    size = f"{picture.width} × {picture.height}"
    shown = image(overlay.enlarge(picture), f"The picture {name}")
    panels = [
        f"<div><figure{blocky}>{shown}"
        f"<figcaption>What the network sees: {size} pixels</figcaption></figure>"
        f"{_guesses(entry)}</div>"
    ]
    for method, view in views.items():
        title = escape(words.method_title(method))
        row = methods[method]
        flag = '<span class="flag">flat map</span>' if row["flat"] else ""
        seen = words.percent(row[words.SHOWN])
        whole = words.percent(entry["label"]["probability"])
        panels.append(
            f"<div><figure>{image(view.overlay, f'{title} map over {name}')}"
            f"<figcaption><strong>{title}</strong>{flag}</figcaption></figure>"
            f"<figure>{image(view.masked, f'{name} seen through the {title} map')}"
            f"<figcaption>Seen through the map: {label} <strong>{seen}&nbsp;%</strong> "
            f"(whole picture {whole}&nbsp;%)</figcaption></figure></div>"
        )
    table = _table("Scores of this picture, per cent", methods, controls)
    cautions = words.warnings(methods, controls, entry["label"]["probability"])
    charts = "".join(curves.chart(metric, methods, controls) for metric in words.CURVES)
    return (
        f'<article id="{_anchor(name)}"><h2>{escape(_base(entry["file"]))}</h2>'
        f"{_subject(entry)}"
        f'<div class="panels">{"".join(panels)}</div>{_legend()}'
        f"{account}{_warnings(cautions)}"
        f'<div class="numbers">{table}</div>'
        f'<div class="charts">{charts}</div></article>'
    )


def page(document: Mapping[str, Any], articles: Sequence[str]) -> str:
    """Put the page together.

    Args:
        document: All that `results.json` says.
        articles: One `article` for each of its images, in the same order.

    Returns:
        HTML that loads nothing from elsewhere and runs no script.
    """
    settings = document["settings"]
    many = len(document["images"]) > 1
    summary = _summary(document, settings) if many else ""
    return (
        f"{head(f'What {document["model"]} looked at')}<body>"
        f'<header class="masthead">{_masthead(document)}'
        f"{_index(document) if many else ''}</header>"
        f"<main>{_failures(document)}{''.join(articles)}{summary}{_reading()}"
        f"{_details(document)}</main><footer>Made by unlir_jax "
        f"{escape(document['versions']['unlir_jax'])}. All numbers are in "
        '<a href="results.json">results.json</a>.</footer></body></html>\n'
    )


def _masthead(document: Mapping[str, Any]) -> str:
    settings, versions = document["settings"], document["versions"]
    count = len(document["images"])
    titles = words.enumerate_names([words.method_title(m) for m in settings["methods"]])
    against = (
        " Beside them stand controls: maps that know nothing of the network, and that "
        "an explanation worth its name has to beat."
        if settings["controls"]
        else ""
    )
    weights = document["weights"]
    facts = {
        "Network": document["model"],
        "Explained layer": document["layer"],
        "Weights": f"{_base(weights['source'])} · {weights['sha256'][:12]}",
        "Made": document["created"].replace("T", " ").replace("+00:00", " UTC"),
        "Software": f"unlir_jax {versions['unlir_jax']}, jax {versions['jax']}, "
        f"Python {versions['python']}",
        "Run on": " · ".join(dict.fromkeys((versions["backend"], versions["device"]))),
    }
    rows = "".join(
        f"<div><dt>{title}</dt><dd>{escape(str(fact))}</dd></div>"
        for title, fact in facts.items()
    )
    pictures = "one picture" if count == 1 else f"{count} pictures"
    return (
        '<p class="eyebrow">unlir explain</p>'
        f"<h1>What {escape(document['model'])} looked at</h1>"
        f'<p class="lede">{escape(titles)} on {pictures}.{against}</p>'
        f'<dl class="facts">{rows}</dl>'
    )


def _index(document: Mapping[str, Any]) -> str:
    names = [_name(entry) for entry in document["images"]]
    links = "".join(
        f'<li><a href="#{_anchor(name)}">{escape(_base(entry["file"]))}</a></li>'
        for name, entry in zip(names, document["images"], strict=True)
    )
    return f'<nav aria-label="Pictures"><ul class="index">{links}</ul></nav>'


def _subject(entry: Mapping[str, Any]) -> str:
    label, first = entry["label"], entry["top5"][0]
    name = f"<strong>{escape(label['name'])}</strong>"
    amount = f"<strong>{words.percent(label['probability'])}&nbsp;%</strong>"
    if label["source"] == "predicted":
        return (
            f'<p class="subject">Explained: {name}, the predicted class, {amount}</p>'
        )
    guess = f"{escape(first['name'])}, {words.percent(first['probability'])} %"
    return (
        f'<p class="subject">Explained: {name}, as asked for, {amount}. '
        f"Predicted: {guess}</p>"
    )


def _guesses(entry: Mapping[str, Any]) -> str:
    items = []
    for guess in entry["top5"]:
        chosen = guess["index"] == entry["label"]["index"]
        kind = ' class="chosen"' if chosen else ""
        width = 100 * (guess["probability"] or 0)
        items.append(
            f"<li{kind}><span>{escape(guess['name'])}</span>"
            f"<span>{words.percent(guess['probability'])} %</span>"
            f'<span class="bar"><i style="width:{width:.1f}%"></i></span></li>'
        )
    return (
        '<div><h3>Predicted classes</h3><ol class="guesses">'
        f"{''.join(items)}</ol></div>"
    )


def _legend() -> str:
    stops = ",".join(overlay.legend())
    return (
        '<p class="legend"><span>least important</span>'
        f'<i style="background:linear-gradient(to right,{stops})"></i>'
        "<span>most important</span></p>"
    )


def _warnings(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="warnings" role="note" aria-label="Caution">{items}</ul>'


def _failures(document: Mapping[str, Any]) -> str:
    sentences = [item["error"] for item in document["failed"]]
    if not sentences:
        return ""
    return f"<section><h2>Not explained</h2>{_warnings(sentences)}</section>"


def _table(title: str, methods: Rows, controls: Rows) -> str:
    head = "".join(
        f'<th scope="col">{column.short} {words.arrow(metric)}</th>'
        for metric, column in words.COLUMNS.items()
    )
    best = {metric: words.best(metric, methods) for metric in words.COLUMNS}
    body = "".join(_row(name, row, best, None) for name, row in methods.items())
    rest = "".join(_row(name, row, None, methods) for name, row in controls.items())
    note = (
        "↑ higher is better, ↓ lower is better. Masked: the class's probability on the "
        "picture times the map. "
    )
    if len(methods) > 1:
        note += "The best method is in colour. "
    if controls:
        note += "Below the rule: controls; dotted where one beats every method."
    return (
        f'<div class="scroll"><table><caption>{title}</caption><thead><tr>'
        f'<th scope="col">Method</th>{head}<th scope="col">Masked</th></tr></thead>'
        f"<tbody>{body}</tbody>"
        + (f'<tbody class="controls">{rest}</tbody>' if rest else "")
        + f'</table></div><p class="note">{note}</p>'
    )


def _row(
    name: str,
    row: Mapping[str, Any],
    best: Mapping[str, Sequence[str]] | None,
    rivals: Rows | None,
) -> str:
    """Write one row; `best` marks a method's, `rivals` a control's values."""
    cells = [f'<th scope="row">{escape(words.method_title(name))}</th>']
    for metric in words.COLUMNS:
        value = words.percent(row[metric])
        if best and name in best[metric]:
            value = f'<strong class="best">{value}</strong>'
        if rivals and all(
            words.better(metric, row[metric], other[metric])
            for other in rivals.values()
        ):
            value = f'<span class="rival">{value}</span>'
        cells.append(f"<td>{value}</td>")
    cells.append(f"<td>{words.percent(row[words.SHOWN])}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _summary(document: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    mean = document["mean"]
    methods = {name: mean[name] for name in settings["methods"]}
    controls = {name: mean[name] for name in settings["controls"]}
    count = len(document["images"])
    flat = [
        f"{words.method_title(name)} gave {number} flat maps of {count}."
        for name, number in document["flat"].items()
        if number
    ]
    few = (
        " A mean over so few pictures says little; hundreds are needed to rank methods."
        if count < 100
        else ""
    )
    return (
        f'<section id="mean"><h2>Mean of {count} pictures</h2>'
        f'<p class="subject">Every picture counts the same.{few}</p>'
        f"{_table('Mean scores, per cent', methods, controls)}{_warnings(flat)}"
        "</section>"
    )


def _reading() -> str:
    items = "".join(
        f"<div><dt>{column.title} {words.arrow(metric)}</dt><dd><p>{column.meaning}</p>"
        f'<p class="caution">{column.caution}</p></dd></div>'
        for metric, column in words.COLUMNS.items()
    )
    return (
        '<section id="reading"><h2>How to read the numbers</h2>'
        '<p class="subject">A map shows which pixels this network uses for this class. '
        "It does not show that the network is right, nor that it is right for a good "
        "reason.</p>"
        f'<dl class="reading">{items}<div><dt>Controls</dt><dd><p>Fake-CAM marks all '
        "pixels but one, Centre a blob in the middle, Edges whatever has contrast, "
        "Random cells anything. None of them looks at the network.</p>"
        '<p class="caution">Where a control scores as well as a method, either the '
        "score cannot tell an explanation from a guess, or the map is no better than "
        "a guess.</p>"
        "</dd></div></dl></section>"
    )


def _details(document: Mapping[str, Any]) -> str:
    settings = document["settings"] | {
        "weights": document["weights"],
        "versions": document["versions"],
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    return (
        f"<details><summary>All settings</summary><pre>{escape(text)}</pre></details>"
    )


def head(title: str) -> str:
    """Begin a page that loads nothing from elsewhere, in the house's style."""
    here = Path(__file__)
    styles = [here.with_name(f"{name}.css") for name in ("page", "parts")]
    style = "".join(path.read_text("utf-8") for path in styles)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
    )


def image(image: Image.Image, text: str) -> str:
    """Write a picture into the page; `text` says what is to be seen."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/webp;base64,{data}" width="{image.width}" '
        f'height="{image.height}" alt="{escape(text)}">'
    )


def _name(entry: Mapping[str, Any]) -> str:
    return entry["sheet"].removesuffix("__sheet.png")


def _anchor(name: str) -> str:
    """Make a name that is safe in an address; distinct names stay distinct."""
    return "p-" + "".join(
        c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name
    )


def _base(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path

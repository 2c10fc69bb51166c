"""Which filters a task uses, as one self-contained page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from unlir_jax.report import filter_sheet, html, overlay, part_page, words

Crops = Sequence[tuple[str, Image.Image]]


def page(document: Mapping[str, Any], sections: Sequence[str]) -> str:
    """Put the page together.

    Args:
        document: What `results.json` says.
        sections: Of the page, in order.
    """
    title = f"Which filters {document['adapter']['file']} uses"
    weights, versions = document["weights"], document["versions"]
    facts = {
        "Network": document["model"],
        "Filters with a weight": f"{document['count']:,}",
        "Weights": f"{weights['least']:.3f} to {weights['largest']:.3f}",
        "Raised by 5 % or more": f"{words.percent(weights['raised'])} %",
        "Lowered by 5 % or more": f"{words.percent(weights['lowered'])} %",
        "Pictures": str(document["pictures"]),
        "Made": document["created"].replace("T", " ").replace("+00:00", " UTC"),
    }
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
        for name, fact in facts.items()
    )
    failed = "".join(f"<li>{escape(each['error'])}</li>" for each in document["failed"])
    caution = f'<ul class="warnings" role="note">{failed}</ul>' if failed else ""
    return (
        f'{html.head(title)}<body><header class="masthead">'
        f'<p class="eyebrow">unlir adapters explain</p><h1>{escape(title)}</h1>'
        '<p class="lede">Every filter of the frozen network is kept; one number says '
        "how much it counts for the task. Here are those numbers, what the filters "
        "that gained or lost most respond to, and what changes in where the network "
        f'looks.</p><dl class="facts">{rows}</dl>{caution}</header>'
        f"<main>{''.join(sections)}{_reading()}</main><footer>Made by unlir_jax "
        f"{escape(versions['unlir_jax'])}. All numbers are in "
        '<a href="results.json">results.json</a>.</footer></body></html>\n'
    )


def layers(drawn: Image.Image) -> str:
    """Write the section of all weights."""
    shown = html.image(drawn, "The weights of each layer, in order of depth")
    return (
        '<section id="layers"><h2>Weights by layer</h2><p class="subject">In order of '
        "depth. A dot for each filter: blue where it counts more than before, red "
        "where less; the bar covers the middle half, the stroke is the median.</p>"
        f"<figure>{shown}</figure></section>"
    )


def filters(title: str, rows: Sequence[tuple[Mapping[str, Any], Crops]]) -> str:
    """Write the section of the most raised, or the most lowered, filters.

    Args:
        title: Of the section.
        rows: For each filter what `results.json` says of it, and regions with names.
    """
    if not rows:
        return (
            f'<section><h2>{title}</h2><p class="subject">There are none.</p></section>'
        )
    return (
        f'<section><h2>{title}</h2><p class="subject">The regions of the pictures '
        "to which each responds most, the strongest first; one of each picture.</p>"
        f'<div class="rows">{"".join(_row(*row) for row in rows)}</div></section>'
    )


def _row(entry: Mapping[str, Any], crops: Crops) -> str:
    name = filter_sheet.filter_title(entry)
    shown = "".join(html.image(crop, f"{name} in {file}") for file, crop in crops)
    least, largest = entry["regions"][-1]["value"], entry["regions"][0]["value"]
    return (
        f'<div class="row"><div><h3>{escape(name)}</h3>'
        f"<p>{escape(filter_sheet.weight_title(entry))}</p>"
        f"<p>responses {largest:.1f} to {least:.1f}</p></div>"
        f'<div class="crops">{shown}</div></div>'
    )


def saliency(
    rows: Sequence[tuple[Mapping[str, Any], Image.Image, Sequence[Image.Image]]],
    own: bool,
) -> str:
    """Write the section of saliency before and after.

    Args:
        rows: See `filter_sheet.draw_saliency`.
        own: Whether the head is the adapter's.
    """
    whose = "the adapter's own head" if own else "the network's own classifier"
    return (
        '<section id="saliency"><h2>Where it looks, before and after</h2>'
        '<p class="subject">Grad-CAM of the last maps for the class that the adapted '
        f"network predicts, both times by {whose}: only the weights of the filters "
        "differ. Each map is brought to its own range. The pictures lie evenly over "
        f"the list.</p>{''.join(_pair(*row) for row in rows)}</section>"
    )


def _pair(
    entry: Mapping[str, Any], picture: Image.Image, views: Sequence[Image.Image]
) -> str:
    name = escape(entry["file"])
    label = escape(part_page.plain(entry["label"]["name"]))
    figures = [
        f"<div><figure>{html.image(overlay.enlarge(picture), entry['file'])}"
        f"<figcaption>{name}, in {escape(entry['folder'])}</figcaption></figure></div>"
    ]
    for when, view in zip(("before", "after"), views, strict=True):
        share = words.percent(entry[when]["probability"])
        first = entry[when]["first"]["name"]
        others = first != entry["label"]["name"]
        more = f"; first is {escape(part_page.plain(first))}" if others else ""
        figures.append(
            f"<div><figure>{html.image(view, f'Grad-CAM {when} over {name}')}"
            f"<figcaption><strong>{when}</strong>: {label} {share}&nbsp;%{more}"
            "</figcaption></figure></div>"
        )
    return f'<div class="panels">{"".join(figures)}</div>'


def _reading() -> str:
    return (
        '<section id="reading"><h2>How to read this</h2><dl class="reading"><div>'
        "<dt>A weight</dt><dd><p>What a filter's output is multiplied by. Those near 1 "
        "are as they were.</p>"
        '<p class="caution">Later layers can make up for a weight, so a large one '
        "alone does not show that the task needs the filter.</p></dd></div><div>"
        "<dt>A region</dt><dd><p>A square round the place where the frozen network's "
        "filter responds most, before its activation. The filter sees more than is "
        'shown.</p><p class="caution">What excites a filter most need not be what it '
        "is used for; look at several pictures.</p></dd></div><div>"
        "<dt>Before and after</dt><dd><p>The same picture, class and head.</p>"
        '<p class="caution">The head was learnt together with the weights, so before '
        "is not how well the frozen network could do.</p></dd></div></dl></section>"
    )

"""Page of the filters that a task uses, self-contained."""

from collections.abc import Sequence

from PIL import Image

from unlir_jax.core.document_types import Document
from unlir_jax.report import filter_sheet, html, overlay, part_page, words

Crops = Sequence[tuple[str, Image.Image]]


def page(document: Document, sections: Sequence[html.Markup]) -> str:
    """Put the page together.

    Args:
        document: What `results.json` says.
        sections: Sections of the page, in order.
    """
    weights = document["weights"]
    return html.render(
        "filters.html",
        title=f"Which filters {document['adapter']['file']} uses",
        command="unlir adapters explain",
        version=document["versions"]["unlir_jax"],
        document=document,
        sections=sections,
        facts={
            "Network": document["model"],
            "Filters with a weight": f"{document['count']:,}",
            "Weights": f"{weights['least']:.3f} to {weights['largest']:.3f}",
            "Raised by 5 % or more": f"{words.percent(weights['raised'])} %",
            "Lowered by 5 % or more": f"{words.percent(weights['lowered'])} %",
            "Pictures": str(document["pictures"]),
            "Made": html.made(document["created"]),
        },
    )


def layers(drawn: Image.Image) -> html.Markup:
    """Write the section of all weights."""
    return html.render("filters_layers.html", drawn=drawn)


def filters(title: str, rows: Sequence[tuple[Document, Crops]]) -> html.Markup:
    """Write the section of the most raised, or the most lowered, filters.

    Args:
        title: Title of the section.
        rows: For each filter what `results.json` says of it, and regions with names.
    """
    described = []
    for entry, crops in rows:
        name = filter_sheet.filter_title(entry)
        shown = [(crop, f"{name} in {file}") for file, crop in crops]
        weight = filter_sheet.weight_title(entry)
        described.append({**entry, "name": name, "weight": weight, "crops": shown})
    return html.render("filters_regions.html", title=title, rows=described)


def saliency(
    rows: Sequence[tuple[Document, Image.Image, Sequence[Image.Image]]],
    own: bool,
) -> html.Markup:
    """Write the section of saliency before and after.

    Args:
        rows: See `filter_sheet.draw_saliency`.
        own: Whether the head is the adapter's.
    """
    return html.render(
        "filters_saliency.html",
        rows=rows,
        whose="the adapter's own head" if own else "the network's own classifier",
        enlarge=overlay.enlarge,
        plain=part_page.plain,
    )

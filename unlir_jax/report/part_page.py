"""The gallery of the parts of a network, as one self-contained page."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from unlir_jax.core.document_types import Document
from unlir_jax.report import html, part_panel, words

Crops = Sequence[tuple[Document, Image.Image]]
FIGURES = {
    "test/accuracy": "Accuracy on the test",
    "test/keypoint_share_top30": "Top-30 keypoint share",
    "test/nmi": "NMI with keypoints",
}


def page(
    document: Document,
    gallery: Document,
    sections: Sequence[html.Markup],
) -> str:
    """Put the page together.

    Args:
        document: What `results.json` says.
        gallery: What `parts.json` says.
        sections: Sections of the page, in order.
    """
    facts = {
        "Network": document["model"],
        "Parts": len(gallery["parts"]),
        "Classes": len(gallery["classes"]),
        "Training images": gallery["pictures"],
    }
    for name, value in document["figures"].items():
        facts[FIGURES[name]] = f"{words.percent(value)} %"
    return html.render(
        "parts.html",
        title=f"The parts of {document['workdir']}",
        command="unlir parts",
        version=document["versions"]["unlir_jax"],
        document=document,
        classes=gallery["classes"],
        sections=sections,
        facts=facts | {"Made": html.made(document["created"])},
        notes=[note for note in (*document["left_out"], document["missing"]) if note],
        plain=plain,
    )


def summary(document: Document, gallery: Document) -> str:
    """Say in a line what the gallery is of."""
    found = [
        f"{FIGURES[name]} {words.percent(value)} %"
        for name, value in document["figures"].items()
    ]
    pictures = f"{gallery['pictures']} training images"
    count = f"{len(gallery['classes'])} classes"
    return "  ·  ".join([document["model"], count, pictures, *found])


def parts(rows: Sequence[tuple[Document, Crops]], names: Sequence[str]) -> html.Markup:
    """Write the section of all parts, one row each."""
    return _section("parts_rows.html", rows=rows, names=names, about=about)


def about(entry: Document, names: Sequence[str]) -> list[str]:
    """Say which classes a part supports, how much it adds, and where it usually is."""
    speaks = [
        f"{plain(names[int(found['class'])])} "
        f"{part_panel.signed(found['contribution'])}"
        for found in entry["classes"][:3]
        if found["contribution"] > 0
    ]
    said = [f"Speaks for {', '.join(speaks)}"] if speaks else []
    said.append(
        f"Adds or takes {entry['strength']:.2f} on average; has "
        f"{words.percent(entry['share'])} % of all cells"
    )
    known = entry["keypoint"]
    if known:
        share = round(100 * known["share"])
        said.append(f"Nearest keypoint: {known['name']}, in {share} % of its regions")
    return said


def brief(entry: Document, names: Sequence[str]) -> list[str]:
    """Say the same in lines that are short."""
    speaks = [
        f"{cut(plain(names[int(found['class'])]), 22)} "
        f"{part_panel.signed(found['contribution'])}"
        for found in entry["classes"][:2]
        if found["contribution"] > 0
    ]
    share = words.percent(entry["share"])
    return [*speaks, f"adds or takes {entry['strength']:.2f}; {share} % of cells"]


def cut(text: str, length: int) -> str:
    """Keep the beginning of a long text."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def categories(
    rows: Sequence[tuple[Document, Sequence[tuple[Document, Crops]]]],
    names: Sequence[str],
    known: Sequence[Document],
    linked: Sequence[int],
) -> html.Markup:
    """Write the section of the categories: their first parts, as seen in them.

    Args:
        rows: For each category its entry, and its parts with crops.
        names: Names of all classes.
        known: All parts.
        linked: Those that have a row on the page.
    """
    described = []
    for entry, found in rows:
        amounts = [abs(line["contribution"]) for line, _ in found]
        name = plain(names[int(entry["class"])])
        described.append((entry, name, max(amounts, default=0.0) or 1.0, found))
    return _section("parts_categories.html", rows=described, known=known, linked=linked)


def contrast(
    found: Document, crops: Sequence[Sequence[Sequence[Image.Image]]]
) -> html.Markup:
    """Write why one category and not another, with regions of both for each part."""
    sides = [plain(found[side]["name"]) for side in ("class", "rival")]
    *_, others, bias, total = part_panel.lines(found)
    return _section(
        "parts_contrast.html",
        found=found,
        **dict(zip(("own", "rival"), sides, strict=True)),
        rows=[
            (
                line,
                *(
                    [(image, f"in {title}") for image in strip]
                    for title, strip in zip(sides, strips, strict=True)
                ),
            )
            for line, strips in zip(found["shown"], crops, strict=True)
        ],
        most=part_panel.largest(found),
        others=others,
        bias=bias,
        total=total,
    )


def plain(name: str) -> str:
    """Make a class's name readable: without its number and underscores."""
    bare = name.lstrip("0123456789")
    bare = bare[1:] if bare[:1] in (".", "_", "-") and bare != name else name
    return bare.replace("_", " ").strip() or name


def _section(template: str, **values: Any) -> html.Markup:
    return html.render(
        template,
        **values,
        part_title=part_panel.part_title,
        signed=part_panel.signed,
        titled=lambda crops, title: [
            (image, f"{title}, in {region['picture']}") for region, image in crops
        ],
    )

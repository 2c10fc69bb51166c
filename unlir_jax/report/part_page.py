"""The gallery of the parts of a network, as one self-contained page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from unlir_jax.report import html, part_panel, words

Crops = Sequence[tuple[Mapping[str, Any], Image.Image]]
FIGURES = {
    "test/accuracy": "Accuracy on the test",
    "test/keypoint_share_top30": "Top-30 keypoint share",
    "test/nmi": "NMI with keypoints",
}


def page(
    document: Mapping[str, Any], gallery: Mapping[str, Any], sections: Sequence[str]
) -> str:
    """Put the page together.

    Args:
        document: What `results.json` says.
        gallery: What `parts.json` says.
        sections: Of the page, in order.
    """
    title = f"The parts of {document['workdir']}"
    facts = {
        "Network": document["model"],
        "Parts": str(len(gallery["parts"])),
        "Classes": str(len(gallery["classes"])),
        "Training pictures": str(gallery["pictures"]),
    }
    facts |= {
        FIGURES[name]: f"{words.percent(value)} %"
        for name, value in document["figures"].items()
    }
    facts["Made"] = document["created"].replace("T", " ").replace("+00:00", " UTC")
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
        for name, fact in facts.items()
    )
    notes = [*document["left_out"], document["missing"]]
    sentences = "".join(f"<li>{escape(note)}</li>" for note in notes if note)
    cautions = f'<ul class="warnings" role="note">{sentences}</ul>' if sentences else ""
    return (
        f"{html.head(title)}<body>"
        '<header class="masthead"><p class="eyebrow">unlir parts</p>'
        f"<h1>{escape(title)}</h1>"
        '<p class="lede">What the network takes pictures apart into, and what each '
        "part speaks for. All regions are of training pictures, at most one of each."
        f'</p><dl class="facts">{rows}</dl>{_index(document, gallery)}{cautions}'
        f"</header><main>{''.join(sections)}{_reading()}</main>"
        f"<footer>Made by unlir_jax {escape(document['versions']['unlir_jax'])}. All "
        'numbers are in <a href="results.json">results.json</a>.</footer>'
        "</body></html>\n"
    )


def summary(document: Mapping[str, Any], gallery: Mapping[str, Any]) -> str:
    """Say in a line what the gallery is of."""
    found = [
        f"{FIGURES[name]} {words.percent(value)} %"
        for name, value in document["figures"].items()
    ]
    pictures = f"{gallery['pictures']} training pictures"
    count = f"{len(gallery['classes'])} classes"
    return "  ·  ".join([document["model"], count, pictures, *found])


def parts(rows: Sequence[tuple[Mapping[str, Any], Crops]], names: Sequence[str]) -> str:
    """Write the section of all parts, one row each."""
    body = "".join(
        f'<div class="row" id="part-{entry["part"]}"><div>'
        f"<h3>{escape(part_panel.part_title(entry))}</h3>"
        f"{''.join(f'<p>{escape(line)}</p>' for line in about(entry, names))}</div>"
        f'<div class="crops">{_crops(crops, part_panel.part_title(entry))}</div></div>'
        for entry, crops in rows
    )
    return (
        '<section id="parts"><h2>All parts</h2><p class="subject">Those that add most '
        "to the right class first. Each row: where the part is found best.</p>"
        f'<div class="rows">{body}</div></section>'
    )


def about(entry: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Say what a part speaks for, how much it adds, and where it usually is."""
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


def brief(entry: Mapping[str, Any], names: Sequence[str]) -> list[str]:
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
    rows: Sequence[tuple[Mapping[str, Any], Sequence[tuple[Mapping[str, Any], Crops]]]],
    names: Sequence[str],
    known: Sequence[Mapping[str, Any]],
    linked: Sequence[int],
) -> str:
    """Write the section of the categories: their first parts, as seen in them.

    Args:
        rows: For each category its entry, and its parts with crops.
        names: Of all classes.
        known: All parts.
        linked: Those that have a row on the page.
    """
    targets = {part: f' href="#part-{part}"' for part in linked}
    body = "".join(
        _category(entry, found, names, known, targets) for entry, found in rows
    )
    return (
        '<section id="categories"><h2>Categories</h2><p class="subject">The parts that '
        "add most to the logit of a category, on average over its training pictures, "
        f"and where they are found best in these.</p>{body}</section>"
    )


def contrast(
    found: Mapping[str, Any], crops: Sequence[Sequence[Sequence[Image.Image]]]
) -> str:
    """Write why one category and not another, with regions of both for each part."""
    own, rival = plain(found["class"]["name"]), plain(found["rival"]["name"])
    most = part_panel.largest(found)
    rows = "".join(
        f'<li class="pair"><span>{escape(part_panel.part_title(line))}</span>'
        f"{_strip(own_crops, own)}{_strip(rival_crops, rival)}"
        f"{part_panel.bar(line['contribution'], most)}"
        f"<strong>{part_panel.signed(line['contribution'])}</strong></li>"
        for line, (own_crops, rival_crops) in zip(found["shown"], crops, strict=True)
    )
    *_, others, bias, total = part_panel.lines(found)
    first, second = (part_panel.signed(value) for value in found["logits"])
    signed = part_panel.signed
    return (
        f'<section id="contrast"><h2>Why {escape(own)} and not {escape(rival)}</h2>'
        f'<p class="subject">The mean over {found["pictures"]} training pictures of '
        f"{escape(own)}: how much more each part adds to it than to {escape(rival)}."
        '</p><ol class="contrast wide"><li class="pair heads"><span>Part</span>'
        f"<span>in {escape(own)}</span><span>in {escape(rival)}</span>"
        f"<span>difference</span><span></span></li>{rows}</ol>"
        f'<p class="note">With {escape(others[0])} ({signed(others[1])}) and the '
        f"difference of the biases ({signed(bias[1])}) that is "
        f"<strong>{signed(total[1])}</strong>: logits {first} against {second}.</p>"
        "</section>"
    )


def plain(name: str) -> str:
    """Make a class's name readable: without its number and underscores."""
    bare = name.lstrip("0123456789")
    bare = bare[1:] if bare[:1] in (".", "_", "-") and bare != name else name
    return bare.replace("_", " ").strip() or name


def _index(document: Mapping[str, Any], gallery: Mapping[str, Any]) -> str:
    links = "".join(
        f'<li><a href="#category-{label}">{escape(plain(gallery["classes"][label]))}'
        "</a></li>"
        for label in document["shown"]["categories"]
    )
    more = '<li><a href="#parts">All parts</a></li>'
    if "contrast" in document:
        more += '<li><a href="#contrast">Contrast</a></li>'
    return f'<nav aria-label="Categories"><ul class="index">{more}{links}</ul></nav>'


def _category(
    entry: Mapping[str, Any],
    found: Sequence[tuple[Mapping[str, Any], Crops]],
    names: Sequence[str],
    known: Sequence[Mapping[str, Any]],
    targets: Mapping[int, str],
) -> str:
    name = plain(names[int(entry["class"])])
    most = max([abs(line["contribution"]) for line, _ in found], default=0.0) or 1.0
    titles = [f"{name}, part {line['part']}" for line, _ in found]
    cards = "".join(
        f'<div class="card"><p class="amount"><a{targets.get(line["part"], "")}>'
        f"{escape(part_panel.part_title(known[line['part']]))}</a>"
        f"<span>{part_panel.signed(line['contribution'])}</span></p>"
        f"{part_panel.bar(line['contribution'], most)}"
        f'<div class="crops">{_crops(crops, title)}</div></div>'
        for title, (line, crops) in zip(titles, found, strict=True)
    )
    return (
        f'<div class="category" id="category-{entry["class"]}"><h3>{escape(name)}</h3>'
        f'<p class="note">{entry["pictures"]} training pictures</p>'
        f'<div class="cards">{cards}</div></div>'
    )


def _crops(crops: Crops, title: str) -> str:
    return "".join(
        html.image(image, f"{title}, in {region['picture']}") for region, image in crops
    )


def _strip(images: Sequence[Image.Image], title: str) -> str:
    shown = "".join(html.image(image, f"in {title}") for image in images)
    return f'<div class="crops">{shown}</div>'


def _reading() -> str:
    return (
        '<section id="reading"><h2>How to read this</h2><dl class="reading"><div>'
        "<dt>A contribution</dt><dd><p>The logit of a class is the sum of what all "
        "parts add to it, and a bias. What is printed here is the mean over the "
        "training pictures of the class.</p></dd></div><div><dt>A region</dt><dd>"
        "<p>The cell where a part scores highest in a picture, with what is round it. "
        "The network sees more than is shown: its cells look at a wide surrounding.</p>"
        "</dd></div><div><dt>A keypoint</dt><dd><p>Where people have marked some, the "
        "one that is most often nearest to the part's best regions. The network has "
        'not seen them.</p><p class="caution">That a part looks like something to you '
        "does not show that the network uses it for that.</p></dd></div></dl></section>"
    )

"""The report of `unlir explain`: what a network looked at, image by image."""

import inspect
import json
from collections.abc import Mapping, Sequence

from PIL import Image

from unlir_jax import saliency
from unlir_jax.core.document_types import Document, Record
from unlir_jax.report import curves, html, overlay, words

WIDEST = 4, 5, 3
"""Numbers of panels in a row, the preferred one first."""


def article(
    name: str,
    picture: Image.Image,
    entry: Document,
    views: Mapping[str, overlay.View],
    small: Mapping[str, Image.Image],
    account: html.Markup | str = "",
    network: str = "",
) -> html.Markup:
    """Write the part of the page about one image.

    Args:
        name: Name of the image, different from all others on the page.
        picture: The square that the network sees.
        entry: What `results.json` says of it.
        views: By method, its map over the image and the image seen through it.
        small: By control, its map over the image, see `overlay.small`.
        account: What parts have added, see `part_panel.panel`.
        network: Network and layer, on a page with several.
    """
    methods, controls = entry["methods"], entry["controls"]
    probability = entry["label"].get("probability", 1.0)
    bounded = "probability" in entry["label"]
    shown = "probability of the class" if bounded else "share of the score"
    return html.render(
        "article.html",
        name=name,
        anchor=anchor(name),
        network=network,
        title=base(entry["file"]),
        picture=picture,
        enlarged=overlay.enlarge(picture),
        blocky=picture.width < overlay.BLOCKY,
        entry=entry,
        views=views,
        columns=columns(1 + len(methods)),
        explained=saliency.SPECS,
        small=small,
        account=account,
        legends=[
            (*words.ENDS[signed], ",".join(overlay.legend(signed=signed)))
            for signed in sorted({view.signed for view in views.values()})
        ],
        rivals=_rivals,
        cautions=words.warnings(methods, controls, probability),
        charts=[
            curves.chart(metric, methods, controls, shown) for metric in words.CURVES
        ],
    )


def page(document: Document, articles: Sequence[html.Markup]) -> str:
    """Put the page together.

    Args:
        document: All that `results.json` says.
        articles: One `article` for each of its images, in the same order.

    Returns:
        HTML that loads nothing from elsewhere. Its one script enlarges panels and
        changes the opacity of maps; the browser refuses any other.
    """
    settings = document["settings"]
    names = [entry["sheet"].removesuffix("__sheet.png") for entry in document["images"]]
    return html.render(
        "explanation.html",
        title=f"What {document['model']} looked at",
        document=document,
        articles=articles,
        links=[
            (anchor(name), base(entry["file"]))
            for name, entry in zip(names, document["images"], strict=True)
        ],
        facts={
            "Network": document["model"],
            "Explained layer": document["layer"],
            "Weights": weights(document["weights"]),
            **made(document),
        },
        means=document["mean"] if len(names) > 1 else {},
        flat=flat(document),
        **about(document, settings["methods"], settings["controls"], len(names)),
        all_settings=settings_text(document),
    )


def about(
    document: Document, methods: Sequence[str], controls: Sequence[str], count: int
) -> Record:
    """Give what a page says of methods and numbers, whatever the network.

    Args:
        document: All that `results.json` says.
        methods: Names of the methods that are shown.
        controls: Names of the maps that they are compared with.
        count: Number of images.
    """
    return {
        "command": "unlir explain",
        "version": document["versions"]["unlir_jax"],
        "count": count,
        "methods": methods,
        "controls": controls,
        "titles": words.enumerate_names([words.method_title(name) for name in methods]),
        "rows": lambda means, names: {name: means[name] for name in names},
        "rivals": _rivals,
        "specs": _specs((*methods, *controls)),
        "script": html.script("panels.js"),
    }


def made(document: Document) -> dict[str, str]:
    """Say when, with what software and on what device a report was made."""
    versions = document["versions"]
    return {
        "Made": html.made(document["created"]),
        "Software": f"unlir_jax {versions['unlir_jax']}, jax {versions['jax']}, "
        f"Python {versions['python']}",
        "Run on": " · ".join(dict.fromkeys((versions["backend"], versions["device"]))),
    }


def weights(found: Document) -> str:
    """Name weights by their file and the beginning of their hash."""
    return f"{base(found['source'])} · {found['sha256'][:12]}"


def flat(document: Document) -> list[str]:
    """Say which methods gave flat maps, and nearly flat masks."""
    count = len(document["images"])
    return [
        f"{words.method_title(name)} gave {number} flat maps of {count}."
        for name, number in document["flat"].items()
        if number
    ] + [
        words.nearly_flat(number, count, name)
        for name, number in document["nearly_flat"].items()
        if number and name in document["settings"]["methods"]
    ]


def settings_text(document: Document) -> str:
    """Write down all settings for people."""
    about = {"weights": document["weights"]}
    if "versions" in document:
        about["versions"] = document["versions"]
    return json.dumps(document["settings"] | about, indent=2, ensure_ascii=False)


def columns(panels: int) -> int:
    """Count the panels of a row such that none is left alone in the last one."""
    if panels <= max(WIDEST):
        return panels
    return min(WIDEST, key=lambda each: (panels % each == 1, panels % each > 0))


def _specs(names: Sequence[str]) -> list[Record]:
    """List what is said of methods: help, formula, cost and source."""
    return [
        {
            **{"name": name, "spec": saliency.SPECS[name]},
            "help": (inspect.getdoc(saliency.METHODS[name]) or "").partition("\n")[0],
        }
        for name in names
        if name in saliency.SPECS
    ]


def _rivals(metric: str, methods: Document, controls: Document):
    """Name the controls that are better than every method, as printed."""
    return [
        name
        for name, row in controls.items()
        if methods
        and all(words.better(metric, row[metric], m[metric]) for m in methods.values())
    ]


def anchor(name: str) -> str:
    """Make a name that is safe in an address; distinct names stay distinct."""
    return "p-" + "".join(
        c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name
    )


def base(path: str) -> str:
    """Give the last name of a path."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path

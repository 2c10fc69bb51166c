"""The report of a study: images side by side, and each arm next to the baseline."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from unlir_jax import metrics
from unlir_jax.core.document_types import Document, Record
from unlir_jax.report import html, words

SIDE = 144
"""Side in pixels of images that stand next to each other."""
FEW_SEEDS = 5
CONDITIONS = {
    "as_trained": "As trained",
    "calibrated": "At the fitted temperature",
    "both_right": "At the fitted temperature, images that both classify rightly",
}
TITLES = {
    "network/accuracy": "Accuracy",
    "network/nll": "Negative log-likelihood",
    "network/nll_calibrated": "Negative log-likelihood, at the fitted temperature",
    "loss/gradient_cosine": "Cosine of plain and guided gradient",
    "loss/gradient_total_variation": "Total variation of the input gradient",
    "loss/gradient_gini": "Gini index of the input gradient",
    "logit/alignment": "Alignment of image and gradient of the predicted logit",
    "apgd/robust_accuracy": "Accuracy under APGD",
    "boundary_projection/least_distance": "Least distance by boundary projection",
}
FRACTIONS = ("network/accuracy", "apgd/robust_accuracy")
FACTS = (
    *("accuracy", "nll", "ece", "temperature"),
    *("nll_calibrated", "ece_calibrated"),
)


class Row(NamedTuple):
    """Hold one image of the page.

    Attributes:
        title: Name of its class.
        picture: The image as networks see it.
        maps: By arm and kind of map, the map over the image.
    """

    title: str
    picture: Image.Image
    maps: dict[str, dict[str, Image.Image]]


def page(summary: Document, rows: Sequence[Row]) -> str:
    """Put the page together.

    Args:
        summary: All that `summary.json` says, see `study.comparison.compare`.
        rows: Images with the maps of each arm.
    """
    about = summary["about"]
    others = [arm for arm in about["arms"] if arm != about["baseline"]]
    kinds = list(next(iter(rows[0].maps.values()))) if rows else []
    return html.render(
        "study.html",
        title=_title(about),
        command="unlir evaluate",
        version=about["versions"]["unlir_jax"],
        about=about,
        kinds=kinds,
        images=[_image(row, about["arms"]) for row in rows],
        networks=[_network(each) for each in summary["networks"]],
        others=others,
        overview=_overview(summary, others),
        arms=[_arm(summary, arm) for arm in others],
        cautions=_cautions(about, summary["networks"]),
    )


def _title(about: Document) -> str:
    count = len(about["arms"])
    if about["given"]:
        return f"{count} networks, and how they are explained"
    return f"{count} ways to train {about['model']}"


def number(cell: str, value: float | None, *, signed: bool = False) -> str:
    """Print a value of a cell: fractions per cent, others with three decimals."""
    if value is None:
        return "–"
    sign = "+" if signed and value > 0 else ""
    name = cell.rpartition("/")[2]
    known = name.partition("@")[0] in metrics.SPECS
    if known:
        return sign + words.number(name, value)
    fraction = cell.partition("@")[0] in FRACTIONS
    return sign + (words.percent(value) if fraction else f"{value:.3f}")


def _image(row: Row, arms: Sequence[str]) -> Record:
    def shown(picture: Image.Image, text: str) -> html.Markup:
        small = picture.copy()
        resample = Image.Resampling.LANCZOS
        if max(small.size) < SIDE:
            resample = Image.Resampling.NEAREST
        return html.image(small.resize((SIDE, SIDE), resample), text)

    return {
        "title": row.title,
        "picture": shown(row.picture, row.title),
        "cells": [
            [
                shown(drawn, f"{kind} of {arm} on {row.title}")
                for kind, drawn in row.maps[arm].items()
            ]
            for arm in arms
        ],
    }


def _network(facts: Document) -> tuple[str, list[str]]:
    cells = [number(f"network/{name}", facts[name]) for name in FACTS]
    seed = "given" if facts["seed"] is None else f"seed {facts['seed']}"
    return f"{facts['arm']}, {seed}", cells


def _overview(
    summary: Document, arms: Sequence[str]
) -> list[tuple[str, list[Record | None]]]:
    """Put what was measured of networks as trained into rows, and arms into columns."""
    rows: dict[str, dict[str, Document]] = {}
    for each in summary["cells"]:
        if each["condition"] == "as_trained":
            rows.setdefault(each["cell"], {})[each["arm"]] = each
    return [
        (_measure(name), [_said(row.get(arm)) for arm in arms])
        for name, row in rows.items()
    ]


def _columns(about: Document, cells: Sequence[Document]) -> list[str]:
    """List the metrics of the methods: the study's, and localisation where it is."""
    located = about.get("localization")
    there = any(each["cell"].endswith(f"/{located}") for each in cells)
    return [*about["metrics"], *([located] if located and there else [])]


def _arm(summary: Document, arm: str) -> Record:
    """Give the tables of one arm."""
    about, cells = summary["about"], summary["cells"]
    own = [each for each in cells if each["arm"] == arm]
    columns = _columns(about, own)
    tables = []
    for condition, title in CONDITIONS.items():
        here = {e["cell"]: e for e in own if e["condition"] == condition}
        rows = [
            (words.method_title(method), found)
            for method in about["methods"]
            if any(found := [_said(here.get(f"{method}/{m}")) for m in columns])
        ]
        tables.append({"title": title, "rows": rows})
    grid = {f"{m}/{n}" for m in about["methods"] for n in columns}
    return {
        "name": arm,
        "origin": _origin(about, arm),
        "heads": [
            f"{words.metric_title(name)} {words.arrow(name)}" for name in columns
        ],
        "tables": tables,
        "others": [_other(each) for each in own if each["cell"] not in grid],
        "signs": [
            _sign(each)
            for each in summary["signs"]
            if each["arm"] == arm and each["metric"] == "all"
        ],
    }


def _origin(about: Document, arm: str) -> str:
    said = ", ".join(about["sets"][arm])
    if arm in about["given"]:
        return f"This network is given: {said}."
    return f"This arm sets {said or 'nothing'}."


def _said(cell: Document | None) -> Record | None:
    if cell is None or cell["difference"] is None:
        return None
    name = cell["cell"]
    low, high, mean = (
        number(name, cell[key], signed=True) for key in ("low", "high", "difference")
    )
    return {"text": f"{mean} [{low}, {high}]", "verdict": cell["verdict"]}


def _measure(name: str) -> str:
    """Give the title of a cell, with an arrow where it is a metric of maps."""
    method, _, metric = name.partition("/")
    known, _, budget = name.partition("@")
    title = TITLES.get(known)
    if title is None:
        of = f"{words.method_title(method)}: {words.metric_title(metric)}"
        return f"{of} {words.arrow(metric)}"
    return f"{title} within {budget.replace('=', ' ')}" if budget else title


def _other(cell: Document) -> tuple[str, list[object]]:
    """Give the row of a cell that is no score of the methods that are compared."""
    name = cell["cell"]
    values = [number(name, cell[key]) for key in ("baseline", "mean")]
    condition = CONDITIONS[cell["condition"]]
    return _measure(name), [condition, *values, _said(cell)]


def _sign(found: Document) -> tuple[str, list[str]]:
    return CONDITIONS[found["condition"]], [
        f"{found['improved']} of {found['changed']}",
        f"{found['p_value']:.2g}",
        str(found["better"]),
        str(found["worse"]),
    ]


def _cautions(about: Document, networks: Sequence[Document]) -> list[str]:
    seeded = any(each["seed"] is not None for each in networks)
    seeds = about["seeds"] if seeded else FEW_SEEDS
    found = [
        "Sign tests take cells to be independent, which cells of the same images are "
        "not: their p-values are too small."
    ]
    if isinstance(seeds, int) and seeds < FEW_SEEDS:
        found.append(
            f"{'One seed says' if seeds == 1 else f'{seeds} seeds say'} little about "
            f"further ones; take {FEW_SEEDS} or more."
        )
    if about["given"]:
        found.append(
            "Given networks were trained elsewhere: what parts them from other arms "
            "may be their size, recipe or data."
        )
    return found

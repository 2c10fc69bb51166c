"""The report of an evaluation of open sets: table, histograms, curves and images."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.report import html
from unlir_jax.statistics import separation

with extras.needed("report"):
    from matplotlib import figure as figures
    from matplotlib.backends import backend_agg

KNOWN, UNKNOWN = "#2f55c7", "#d1495b"
LINES = ("#2f55c7", "#d1495b", "#1f8a70", "#9a5bbf", "#c77d0a", "#646873")
TURNS = ("-", "--", ":", "-.")
BINS, COLUMNS = 40, 3
FEW_SPLITS = 5
HEADS = {
    "auroc": "AUROC ↑",
    "fpr95": "FPR95 ↓",
    "aupr_in": "AUPR in ↑",
    "aupr_out": "AUPR out ↑",
    "oscr": "OSCR ↑",
}


def page(
    summary: Document, found: Sequence[Document], shown: Sequence[Any] = ()
) -> str:
    """Put the page together.

    Args:
        summary: All that `summary.json` says, see `open_set.comparison.compare`.
        found: Splits, see `open_set.trial.run`; the first one is drawn.
        shown: Most confusing images, see `open_set.confusions.draw`.
    """
    names = summary["scores"]
    best = {
        key: (min if key == "fpr95" else max)(
            summary[f"{name}/{key}"]["mean"] for name in names
        )
        for key in HEADS
    }
    return html.render(
        "open_set.html",
        title=f"Known and unknown classes with {summary['model']}",
        command="unlir evaluate",
        version=summary["versions"]["unlir_jax"],
        summary=summary,
        heads=HEADS,
        best=best,
        histograms=_encoded(histograms(found[0])),
        curves=_encoded(curves(found[0])),
        sets={
            key: max(summary[f"{key}/{name}/auroc"]["mean"] for name in names)
            for key in summary["sets"]
        },
        halves=[
            half for half in ("hard", "easy") if f"{names[0]}/auroc_{half}" in summary
        ],
        listed="hard" in found[0],
        shown=[
            (known, [each for each in shown if each.known == known])
            for known in (False, True)
        ],
        cautions=[
            *_cautions(summary["splits"]),
            *filter(None, [summary.get("notice", "")]),
        ],
    )


def histograms(split: Document) -> bytes:
    """Draw how the scores of known and unknown images are distributed, as a PNG."""
    names = list(split["scores"])
    rows = -(-len(names) // COLUMNS)
    figure = figures.Figure((12.5, 2.5 * rows + 0.5), dpi=100, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for name, panel in zip(names, panels, strict=False):
        known, unknown = sides(split, name)
        # A few outliers would press all others into one bar.
        low, high = np.quantile(np.concatenate([known, unknown]), [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        for values, colour, label in (
            (known, KNOWN, "known"),
            (unknown, UNKNOWN, "unknown"),
        ):
            clipped = np.clip(values, edges[0], edges[-1])
            weights = np.full(len(values), 1 / len(values))
            panel.hist(
                clipped, edges, weights=weights, color=colour, alpha=0.55, label=label
            )
        panel.set_title(name, fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].legend(frameon=False, fontsize=9)
    return _png(figure)


def curves(split: Document) -> bytes:
    """Draw known images kept, and kept and right, against unknown ones, as a PNG."""
    figure = figures.Figure((12.5, 5), dpi=100, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    is_known = np.asarray(split["is_known"]) > 0
    correct = np.asarray(split["right"])[is_known] > 0
    for index, name in enumerate(split["scores"]):
        known, unknown = sides(split, name)
        style = {
            "color": LINES[index % len(LINES)],
            "linestyle": TURNS[index // len(LINES) % len(TURNS)],
        }
        every = np.ones(len(known), bool)
        left.plot(*separation.correct_classification(known, every, unknown), **style)
        right.plot(
            *separation.correct_classification(known, correct, unknown),
            label=name,
            **style,
        )
    for panel, what in ((left, "known images kept"), (right, "known, kept and right")):
        panel.set_xlabel("share of unknown images kept", fontsize=9)
        panel.set_ylabel(f"share of {what}", fontsize=9)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.01)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8.5)
        panel.grid(color="#e2e4ea", linewidth=0.8)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _png(figure)


def sides(split: Mapping[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Give a score of the known and of the unknown images of a split.

    Without unknown classes in the data, these are the images of all further sets.
    """
    scores, known = np.asarray(split["scores"][name]), np.asarray(split["is_known"]) > 0
    if known.all():
        others = [np.asarray(each["scores"][name]) for each in split["sets"].values()]
        return scores, np.concatenate(others)
    return scores[known], scores[~known]


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _encoded(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _cautions(splits: int) -> list[str]:
    if splits == 1:
        return ["One split has no interval: `low` and `high` are the figure itself."]
    if splits < FEW_SPLITS:
        return [
            f"Intervals over {splits} splits are too narrow; take {FEW_SPLITS} or more."
        ]
    return []

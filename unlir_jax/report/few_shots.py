"""Methods that learn from few images, side by side: curves and a page."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.report import html

with extras.needed("report"):
    from matplotlib import figure as figures
    from matplotlib import ticker, transforms
    from matplotlib.backends import backend_agg

COLOURS = ("#2f55c7", "#d1495b", "#1f8a70", "#9a5bbf", "#c77d0a")
TURNS = ("-", "--", ":", "-.")
COSTS = ("trained_parameters", "seconds_per_draw")
LEAST = 1e-3
FEW_DRAWS = 5
# In points: over which methods spread at one k, between those of one size; and how many
# have k written at their points.
WIDE, APART, NAMED = 14.0, 11.0, 5


def draw(summary: Document) -> bytes:
    """Draw accuracy against shots, numbers that learn, and seconds, as a PNG.

    Args:
        summary: See `comparison.compare`.
    """
    names, shots = summary["methods"], summary["k"]
    height = max(4.4, 0.24 * len(names) + 1.6)
    figure = figures.Figure((13.5, height), dpi=110, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, sharey=True)
    for index in range(len(names)):
        _lines(summary, index, left, middle, right)
    _axes(left, "images of each class, k", shots)
    left.set_xticks(shots, [str(k) for k in shots])
    ends = [
        100 * summary[f"{name}/{k}/test/accuracy_{end}"]
        for name in names
        for k in shots
        for end in ("low", "high")
    ]
    left.set_ylim(min(ends) - 2, max(ends) + 2)
    left.set_ylabel("accuracy on the test, %", fontsize=9)
    titles = ("numbers that learn", "seconds of learning, a draw")
    for panel, title, what in zip((middle, right), titles, COSTS, strict=True):
        every = [summary[f"{name}/{k}/{what}"] for name in names for k in shots]
        _axes(panel, title, every)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside right upper",
        frameon=False,
        fontsize=9,
    )
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _lines(summary: Document, index: int, left: Any, middle: Any, right: Any) -> None:
    """Draw one method on all panels."""
    names, shots = summary["methods"], summary["k"]
    name = names[index]
    style = {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": TURNS[index // len(COLOURS) % len(TURNS)],
        "marker": "o",
        "markersize": 4.5,
    }
    accuracy, low, high = (
        [100 * summary[f"{name}/{k}/test/accuracy{end}"] for k in shots]
        for end in ("", "_low", "_high")
    )
    left.errorbar(
        shots,
        accuracy,
        [np.subtract(accuracy, low), np.subtract(high, accuracy)],
        label=name,
        capsize=2.5,
        elinewidth=1,
        transform=_aside(left, WIDE * (index - (len(names) - 1) / 2) / len(names)),
        **style,
    )
    beside = _beside(summary)[name]
    for panel, what, aside in zip((middle, right), COSTS, (beside, 0.0), strict=True):
        values = [max(summary[f"{name}/{k}/{what}"], LEAST) for k in shots]
        panel.plot(values, accuracy, transform=_aside(panel, aside), **style)
        _say_shots(panel, values, accuracy, summary, aside)


def page(summary: Document, png: bytes) -> str:
    """Write the page: the curves, and tables of accuracy, differences and costs.

    Args:
        summary: See `comparison.compare`.
        png: See `draw`.
    """
    names = summary["methods"]
    return html.render(
        "few_shots.html",
        title=f"{summary['model']} from few images",
        command="unlir train",
        version=summary["versions"]["unlir_jax"],
        summary=summary,
        png=base64.b64encode(png).decode("ascii"),
        best={
            k: max(summary[f"{name}/{k}/test/accuracy"] for name in names)
            for k in summary["k"]
        },
        cautions=_cautions(summary["draws"]),
    )


def _cautions(draws: int) -> list[str]:
    if draws == 1:
        return ["One draw has no interval: the ends are the figure itself."]
    if draws < FEW_DRAWS:
        return [
            f"Intervals over {draws} draws are too narrow; take {FEW_DRAWS} or more."
        ]
    return []


def _axes(panel: Any, name: str, values: Sequence[float | int]) -> None:
    """Set up an axis of amounts; offsets keep matplotlib from finding its ends."""
    panel.set_xscale("log")
    low, high = max(min(values), LEAST), max(*values, LEAST)
    margin = max((high / low) ** 0.08, 1.15)
    panel.set_xlim(low / margin, high * margin)
    panel.set_xticks(_ticks(low / margin, high * margin))
    panel.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _amount(x)))
    panel.xaxis.set_minor_formatter(ticker.NullFormatter())
    panel.set_xlabel(name, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8.5, labelleft=True)
    panel.grid(axis="y", color="#e2e4ea", linewidth=0.8)
    panel.set_axisbelow(True)


def _ticks(low: float, high: float) -> list[float]:
    """Choose round numbers, more of a decade where there are few decades."""
    first, last = (int(np.floor(np.log10(end))) for end in (low, high))
    found: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [
            step * 10.0**power for power in range(first, last + 1) for step in steps
        ]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) > 2:
            break
    return found


def _amount(number: float) -> str:
    """Write a number of any size shortly."""
    for size, sign in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"


def _aside(panel: Any, points: float) -> Any:
    """Move what is drawn to the right by some points."""
    return transforms.offset_copy(
        panel.transData, panel.figure, x=points, units="points"
    )


def _beside(summary: Document) -> dict[str, float]:
    """Say how far to move methods, so that equal ones do not hide each other."""
    names, first = summary["methods"], summary["k"][0]
    sizes = {name: summary[f"{name}/{first}/trained_parameters"] for name in names}
    found = {}
    for size in set(sizes.values()):
        same = [name for name in names if sizes[name] == size]
        middle = (len(same) - 1) / 2
        found |= {name: APART * (i - middle) for i, name in enumerate(same)}
    return found


def _say_shots(
    panel: Any,
    values: Sequence[float | int],
    accuracy: Sequence[float | int],
    summary: Document,
    aside: float,
) -> None:
    """Write k at the points, where there are few enough of them."""
    if len(summary["methods"]) > NAMED:
        return
    for k, x, y in zip(summary["k"], values, accuracy, strict=True):
        panel.annotate(
            str(k),
            (x, y),
            (aside + 5, -3),
            textcoords="offset points",
            fontsize=7.5,
            color="#646873",
        )

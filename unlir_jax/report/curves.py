"""Curves of insertion and deletion as inline SVG."""

import math
from collections.abc import Mapping, Sequence

from unlir_jax.core.document_types import Document
from unlir_jax.report import html, words

WIDTH, HEIGHT = 400, 200
LEFT, BOTTOM, TOP, RIGHT = 34, 30, 8, 8
TURNS = ("", "6 4", "2 4")
LINES = 5
TITLES = {
    "insertion": ("Insertion", "pixels made sharp"),
    "deletion": ("Deletion", "pixels made black"),
}


def chart(
    metric: str,
    methods: Mapping[str, Document],
    controls: Mapping[str, Document],
    shown: str = "probability of the class",
) -> html.Markup:
    """Draw the curves of one metric for one image.

    Args:
        metric: `insertion` or `deletion`.
        methods: Scores by method, with the values of `{metric}_curve` among them.
        controls: The same of the controls, drawn thin and grey.
        shown: What the curves show.

    Returns:
        A `figure` with the chart and a key that names areas.
    """
    title, axis = TITLES[metric]

    def lines(rows: Mapping[str, Document]) -> list[dict[str, str]]:
        return [
            {
                "title": words.method_title(name),
                "points": _points(row[f"{metric}_curve"]),
                "area": words.percent(row[metric]),
                # Told apart by colour, and after five of them by dashes.
                "colour": f"line{index % LINES}",
                "dashes": TURNS[index // LINES % len(TURNS)],
            }
            for index, (name, row) in enumerate(rows.items())
        ]

    own, beside = lines(methods), lines(controls)
    anchors = {0.0: "start", 0.5: "middle", 1.0: "end"}
    return html.render(
        "chart.html",
        title=title,
        shown=shown,
        axis=axis,
        width=WIDTH,
        height=HEIGHT,
        methods=own,
        controls=beside,
        spoken=", ".join(f"{e['title']} {e['area']} per cent" for e in own + beside),
        ticks=[
            {
                **{"x": _x(share), "y": _y(share), "anchor": anchor},
                **{"left": LEFT, "right": WIDTH - RIGHT, "amount": f"{100 * share:g}"},
            }
            for share, anchor in anchors.items()
        ],
    )


def _points(values: Sequence[float]) -> str:
    last = max(len(values) - 1, 1)
    return " ".join(
        f"{_x(index / last):g},{_y(value):g}"
        for index, value in enumerate(values)
        if value is not None and math.isfinite(value)
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

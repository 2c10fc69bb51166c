"""Curves of insertion and deletion as inline SVG."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unlir_jax.report import words

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
    methods: Mapping[str, Mapping[str, Any]],
    controls: Mapping[str, Mapping[str, Any]],
) -> str:
    """Draw the curves of one metric for one picture.

    Args:
        metric: `insertion` or `deletion`.
        methods: Scores by method, with the values of `{metric}_curve` among them.
        controls: The same of the controls, drawn thin and grey.

    Returns:
        A `figure` with the chart and a key that names areas.
    """
    title, axis = TITLES[metric]
    lines = [
        f'<polyline class="control" points="{_points(row[f"{metric}_curve"])}">'
        f"<title>{html.escape(words.method_title(name))}</title></polyline>"
        for name, row in controls.items()
    ]
    keys = []
    for index, (name, row) in enumerate(methods.items()):
        style = _style(index)
        label = html.escape(words.method_title(name))
        points = _points(row[f"{metric}_curve"])
        lines.append(
            f'<polyline {style} points="{points}"><title>{label}</title></polyline>'
        )
        keys.append(
            _key(f'{style} stroke-width="3"', f"{label} {words.percent(row[metric])}")
        )
    if controls:
        keys.append(_key('stroke="var(--control)" stroke-width="1.5"', "controls"))
    spoken = ", ".join(
        f"{words.method_title(name)} {words.percent(row[metric])} per cent"
        for name, row in (*methods.items(), *controls.items())
    )
    return (
        f"<figure><h3>{title}: probability of the class</h3>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title} curves; areas: {html.escape(spoken)}">'
        f"{_axes(axis)}{''.join(lines)}</svg>"
        f'<ul class="keys">{"".join(keys)}</ul></figure>'
    )


def _axes(name: str) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y, x, amount = _y(share), _x(share), f"{100 * share:.0f}"
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{amount}</text>'
        )
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        text = f"{name}, %" if share == 0.5 else amount
        parts.append(
            f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>'
        )
    return "".join(parts)


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


def _style(index: int) -> str:
    """Tell lines apart by colour, and after five of them by dashes."""
    turn = TURNS[index // LINES % len(TURNS)]
    dashes = f' stroke-dasharray="{turn}"' if turn else ""
    return f'stroke="var(--line{index % LINES})"{dashes}'


def _key(style: str, text: str) -> str:
    line = f'<line x2="22" y1="4" y2="4" {style}/>'
    return f'<li><svg viewBox="0 0 22 8" aria-hidden="true">{line}</svg>{text}</li>'

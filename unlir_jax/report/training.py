"""The curves of a training: loss, accuracy and what else was measured, over steps."""

import io
from collections.abc import Iterable, Mapping

# What is said of the machine is no curve of what is learnt.
from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.storage import documents

with extras.needed("report"):
    from matplotlib import figure as figures
    from matplotlib.backends import backend_agg

OMITTED = ("data_wait",)
TRAIN, TEST = "#aebbe6", "#2f55c7"


def read(lines: Iterable[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Sort the lines of `metrics.jsonl` into curves.

    Returns:
        `{metric: {"train" or "test" or "": [(step, value), …]}}`.
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        row = documents.parse_json(line, "A line of the metrics", "an object")
        for name, value in row.items():
            if name == "step" or name in OMITTED or not isinstance(value, int | float):
                continue
            split, _, metric = name.rpartition("/")
            curve = found.setdefault(metric, {}).setdefault(split, [])
            curve.append((row["step"], value))
    return found


def draw(curves: Mapping[str, Document]) -> bytes:
    """Draw all curves, a panel for each metric, as a PNG."""
    # What is also tested comes first.
    names = sorted(curves, key=lambda name: ("test" not in curves[name], name))
    columns = min(len(names), 3) or 1
    rows = -(-len(names) // columns) or 1
    figure = figures.Figure((4.2 * columns, 2.8 * rows), dpi=100, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel in panels:
        panel.set_visible(False)
    for name, panel in zip(names, figure.axes, strict=False):
        panel.set_visible(True)
        panel.set_title(name.replace("_", " "), loc="left", fontsize=10)
        for split, points in curves[name].items():
            steps, values = zip(*points, strict=True)
            tested = split == "test"
            panel.plot(
                steps,
                values,
                color=TEST if tested else TRAIN,
                marker="o" if tested or len(points) < 2 else None,
                markersize=3,
                label=split or None,
            )
        if len(curves[name]) > 1:
            panel.legend(frameon=False, fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.set_xlabel("step", fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()

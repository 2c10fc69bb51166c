"""Weights of filters by layer, and saliency before and after them, as images."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.report import overlay, part_panel, sheet, words
from unlir_jax.report.sheet import ACCENT, MARGIN, MUTED, RULE, Page
from unlir_jax.types import Array

with extras.needed("report"):
    from matplotlib import figure as figures
    from matplotlib.backends import backend_agg

SIDE, GAP = 224, 20
LOWERED = "#d1495b"


def draw_weights(weights: Mapping[str, Array]) -> Image.Image:
    """Draw the distribution of the weights, one row for each layer.

    A dot for each weight, a bar from the lower to the upper quartile, and a stroke at
    the median.

    Args:
        weights: Filter weights of one adapter, in the order of the rows.
    """
    height = 0.25 * len(weights) + 1.3
    figure = figures.Figure((9.2, height), dpi=120, layout="constrained")
    canvas = backend_agg.FigureCanvasAgg(figure)
    panel = figure.subplots()
    random = np.random.default_rng(0)
    for row, leaf in enumerate(weights.values()):
        values = np.asarray(leaf).ravel()
        apart = row + random.uniform(-0.3, 0.3, len(values))
        colours = np.where(values >= 1, ACCENT, LOWERED)
        dots = {"s": 2.5, "linewidths": 0, "alpha": 0.35}
        panel.scatter(values, apart, c=colours, rasterized=True, **dots)
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        panel.plot([low, high], [row, row], color="#1c1d21", linewidth=3, alpha=0.75)
        panel.plot([middle] * 2, [row - 0.34, row + 0.34], color="#1c1d21", lw=1.2)
    panel.axvline(1, color="#6c6f7a", linewidth=0.8, zorder=0)
    panel.set_yticks(range(len(weights)), map(layer_title, weights), fontsize=8)
    panel.set_ylim(len(weights) - 0.4, -0.6)
    panel.set_xlabel("weight (1: the filter counts as before)", fontsize=9)
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.grid(axis="x", color=RULE, linewidth=0.6)
    panel.set_axisbelow(True)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def layer_title(name: str) -> str:
    """Name a layer for people: without the norm, and what is usual left out.

    `block7/expand/norm/output` is `block7 expand`.
    """
    module, _, kind = name.rpartition("/")
    for ending in ("/norm", "/conv"):
        module = module.removesuffix(ending)
    usual = {"output": "", "gain": "", "input": ", inputs", "filter": ", pairs"}
    return module.replace("/", " ") + usual.get(kind, f", {kind}")


def filter_title(entry: Document) -> str:
    """Name a filter for people: its layer, and its number there."""
    place = " to ".join(map(str, entry["place"]))
    return f"{layer_title(entry['name'])} {place}"


def weight_title(entry: Document) -> str:
    """Print a weight as what it adds or takes: in per cent, or shifts as they are."""
    if entry["name"].endswith("/shift"):
        return f"shifted by {entry['weight'] - 1:+.3f}"
    change = 100 * (entry["weight"] - 1)
    return f"× {entry['weight']:.3f} ({part_panel.signed(change)[:-1]} %)"


def draw_saliency(
    title: str,
    subtitle: str,
    rows: Sequence[tuple[Document, Image.Image, Sequence[Image.Image]]],
) -> Image.Image:
    """Draw images next to their saliency maps before and after adapting.

    Args:
        title: Whose maps.
        subtitle: Further information.
        rows: For each image what `results.json` says of it, the square that the
            network sees, and its two overlays.
    """
    step = SIDE + 58
    width = 2 * MARGIN + 3 * SIDE + 2 * GAP
    page = Page(width, 130 + step * len(rows) + 20)
    page.text(MARGIN, 46, sheet.short(title, 60), 17, weight="bold")
    page.text(MARGIN, 82, subtitle, 10.5, color=MUTED)
    for number, (entry, picture, views) in enumerate(rows):
        top = 120 + number * step
        said = [f"explained: {entry['label']['name']}", *saliency_titles(entry)]
        for place, (image, text) in enumerate(
            zip((overlay.enlarge(picture), *views), said, strict=True)
        ):
            left = MARGIN + place * (SIDE + GAP)
            small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            page.image(left, top, small)
            page.text(left, top + SIDE + 18, _cut(text, 33), 9.5)
    return page.render()


def saliency_titles(entry: Document) -> tuple[str, str]:
    """Say what share the class has before and after."""
    before, after = (
        f"{when}: {words.percent(entry[when]['probability'])} %"
        for when in ("before", "after")
    )
    return before, after


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"

"""The report of an evaluation of robustness: accuracies, distances and curves."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from unlir_jax.core import extras
from unlir_jax.core.document_types import Document, Record
from unlir_jax.report import html

with extras.needed("report"):
    from matplotlib import figure as figures
    from matplotlib.backends import backend_agg

COLOURS = ("#2f55c7", "#d1495b", "#1f8a70", "#9a5bbf", "#c77d0a")
TURNS = ("-", "--", ":", "-.")
EVERY = "all"
NORMS = {"linf": "l∞", "l2": "l2", "l1": "l1", "l0": "pixels"}
FEW = 100
"""Fewest images whose intervals are narrower than 20 points."""


def draw(summary: Document) -> bytes:
    """Draw the operating characteristics, as a PNG.

    Args:
        summary: See `robustness.summary.summarise`.
    """
    figure = figures.Figure((8.6, 4.6), dpi=110, layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    panel: Any = figure.subplots()
    about = summary["about"]
    farthest = [
        curve["distance"][-1]
        for curve in summary["curves"].values()
        if curve["distance"]
    ]
    end = 1.02 * max([*about["epsilons"], *farthest, 1e-6])
    for number, (name, curve) in enumerate(summary["curves"].items()):
        # Nobody has looked beyond the largest budget.
        last = max(about["epsilons"]) if name in about["budgeted"] else end
        x = [0.0, *curve["distance"], max([last, *curve["distance"]])]
        y = [0.0, *curve["share"], *(curve["share"][-1:] or [0.0])]
        panel.step(
            x,
            100 * np.asarray(y),
            where="post",
            label=name,
            color="#646873" if name == EVERY else COLOURS[number % len(COLOURS)],
            linestyle=TURNS[number // len(COLOURS) % len(TURNS)],
            linewidth=1 if name == EVERY else 1.6,
        )
    for epsilon in about["epsilons"]:
        panel.axvline(epsilon, color="#c9ccd6", linewidth=0.8, zorder=0)
    panel.set_xlim(0, end)
    panel.set_ylim(0, 102)
    panel.set_xlabel(f"distance D, {NORMS[about['norm']]}", fontsize=9)
    panel.set_ylabel("P(D): images with an error within D, %", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8.5)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def page(summary: Document) -> str:
    """Put the page together.

    Args:
        summary: All that `summary.json` says.
    """
    about = summary["about"]
    names = list(summary.get("curves", {}))
    png = base64.b64encode(draw(summary)).decode("ascii") if names else ""
    return html.render(
        "robustness.html",
        title=f"Robustness of {about['model']}",
        command="unlir evaluate",
        version=about["versions"]["unlir_jax"],
        about=about,
        norm=NORMS[about["norm"]],
        clean=share(summary["accuracy"]),
        heads=[f"ε = {epsilon:.4g}" for epsilon in about["epsilons"]],
        robust=[(name, _robust(summary, name)) for name in names],
        minimal=[(name, _minimal(summary, name)) for name in names],
        corrupted=_corrupted(summary),
        errors=_errors(summary),
        png=png,
        cautions=_cautions(summary),
    )


def share(figure: Document) -> str:
    """Print a share and its interval, per cent."""
    mean, low, high = (100 * figure[end] for end in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _robust(summary: Document, name: str) -> list[str]:
    epsilons = summary["about"]["epsilons"]
    return [
        share(summary[f"{name}/robust_accuracy@{epsilon:.6g}"]) for epsilon in epsilons
    ]


def _minimal(summary: Document, name: str) -> list[str]:
    """Give success, failures, mean and median, optimality and passes of an attack."""
    success, failures = summary.get(f"{name}/success"), summary[f"{name}/failures"]
    figures = [
        "–" if found is None else f"{found['mean']:.4g}"
        for found in (summary.get(f"{name}/{key}") for key in ("mean", "median"))
    ]
    optimal = summary.get(f"{name}/optimality")
    passes = [summary.get(f"{name}/{key}") for key in ("gradients", "forwards")]
    return [
        "–" if success is None else f"{100 * success['mean']:.1f}",
        str(failures),
        *figures,
        "–" if optimal is None else f"{100 * optimal:.1f}",
        *("–" if each is None else f"{each:.0f}" for each in passes),
    ]


def _corrupted(summary: Document) -> list[tuple[str, list[str]]]:
    return [
        (
            name.replace("_", " "),
            [f"{100 * each['mean']:.1f}" for each in shares],
        )
        for name, shares in summary.get("corruptions", {}).items()
    ]


def _errors(summary: Document) -> Record:
    """Name the means over corruptions, and say of which kind they are."""
    titles = {
        "mean_corruption_error": "mean error under corruptions, without a reference",
        "mce": "mCE, divided by the errors of the reference",
        "relative_mce": "relative mCE, divided by the rise of the reference",
    }
    return {
        title: f"{100 * summary[key]:.1f} %"
        for key, title in titles.items()
        if summary.get(key) is not None
    }


def _cautions(summary: Document) -> Sequence[str]:
    about, found = summary["about"], []
    if about["images"] < FEW:
        found.append(
            f"{about['images']} images give wide intervals; take {FEW} or more."
        )
    if about["attacks"] and "ensemble" not in about["attacks"]:
        found.append(
            "Robust accuracy is an upper bound: a stronger attack may find more. "
            "AutoAttack is `attacks=ensemble`."
        )
    if about["unreadable"]:
        found.append(f"{about['unreadable']} images could not be read.")
    return found

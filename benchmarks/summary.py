"""From measured seconds to the tables that a person reads."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

OURS, TORCH = "unlir_jax", "torch"

Seconds = Mapping[str, Mapping[str, Sequence[float]]]
"""Variant -> method -> one median a round."""


class Method(NamedTuple):
    """Name what is timed.

    Attributes:
        title: What tables call it.
        slow: Whether one call a round is enough.
        peers: Names of the peer's ways to do the same, if it has one.
    """

    title: str
    slow: bool = False
    peers: Mapping[str, str] = {}


METHODS = {
    "forward": Method("forward", peers={"forward": ""}),
    "gradient": Method("value and gradient", peers={"gradient": ""}),
    "grad_cam": Method("Grad-CAM, raw map"),
    "grad_cam_mask": Method(
        "Grad-CAM, mask of the image's size",
        peers={
            "grad_cam_mask": "",
            "grad_cam_frozen": ", torch's trunk frozen by hand",
        },
    ),
    "opti_cam": Method("Opti-CAM", slow=True, peers={"opti_cam": ""}),
    "insertion_deletion": Method(
        "insertion + deletion", slow=True, peers={"insertion_deletion": ""}
    ),
}


def minima(settings: Mapping[str, Any]) -> dict[str, tuple[str, int, str]]:
    """Say what each method must do at least: `(method, how often, in words)`."""
    steps, points = settings["steps"], 2 * (settings["curve_steps"] + 1)
    return {
        "grad_cam": ("forward", 1, "1 forward"),
        "grad_cam_mask": ("forward", 1, "1 forward"),
        "opti_cam": ("gradient", steps, f"{steps} values and gradients"),
        "insertion_deletion": ("forward", points, f"{points} forwards"),
    }


TITLES = {name: method.title for name, method in METHODS.items()} | {
    "grad_cam_frozen": "Grad-CAM, mask, trunk frozen by hand"
}


class Spread(NamedTuple):
    """Hold the spread of one number over the rounds."""

    minimum: float
    median: float
    maximum: float


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    return Spread(min(values), statistics.median(values), max(values))


def summarise(
    seconds: Seconds, settings: Mapping[str, Any], peers: Sequence[str]
) -> dict[str, Any]:
    """Compute ratios round by round, so that what slows a round slows both sides.

    Args:
        seconds: All that was timed.
        settings: Settings of the run.
        peers: The variants that are torch.

    Returns:
        `ratios`, by our variant and row; `multiples`, by variant and method.
    """
    ratios = {
        variant: _ratios(times, seconds, peers)
        for variant, times in seconds.items()
        if variant not in peers
    }
    multiples: dict[str, dict[str, dict[str, float]]] = {}
    for variant, times in seconds.items():
        multiples[variant] = {}
        for method, (unit, count, _) in minima(settings).items():
            if method in times:
                pairs = zip(times[method], times[unit], strict=False)
                found = spread(whole / (count * one) for whole, one in pairs)
                multiples[variant][method] = found._asdict()
    return {"ratios": ratios, "multiples": multiples}


def _ratios(
    ours: Mapping[str, Sequence[float]], seconds: Seconds, peers: Sequence[str]
) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    if not peers:
        return rows
    for name, method in METHODS.items():
        for way, remark in method.peers.items():
            against = {
                peer: spread(
                    theirs / own
                    for theirs, own in zip(seconds[peer][way], ours[name], strict=True)
                )
                for peer in peers
            }
            fastest = min(peers, key=lambda peer: statistics.median(seconds[peer][way]))
            rows[method.title + remark] = {
                "against": {peer: found._asdict() for peer, found in against.items()},
                "fastest": fastest,
            }
    return rows


def differences(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Compare what both sides computed: largest difference, and largest value."""
    return {
        name: {
            "largest_difference": float(np.max(np.abs(ours[name] - theirs[name]))),
            "largest_value": float(np.max(np.abs(ours[name]))),
        }
        for name in ours
        if name in theirs
    }


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    sections = [_heading(document), _times(document)]
    if document["peers"]:
        sections += [
            _ratio_table(document, name) for name in document["summary"]["ratios"]
        ]
    sections += [_multiples(document), _first_calls(document)]
    if document["peak_memory"]:
        sections.append(_memory(document))
    sections += [_agreement(document), _versions(document)]
    return "\n\n".join(sections) + "\n"


def _heading(document: Mapping[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    size, dtype = settings["size"], settings["dtype"] or "float32"
    lines = [
        f"# Benchmark of {document['created'][:10]}, {machine['device']}",
        f"{settings['model']}, batch {settings['batch']}, {size}x{size}, {dtype}, "
        f"Opti-CAM with {settings['steps']} steps, curves of "
        f"{settings['curve_steps'] + 1} points. {machine['processor']}, "
        f"{machine['threads']} of {machine['cores']} cores used by each side. Load "
        f"average (1, 5, 15 minutes) {machine['load_before']} before and "
        f"{machine['load_after']} after: our own load is about {machine['threads']}, "
        "more is other people's.",
        "The sides took turns in one run; a ratio is taken round by round and shown as "
        "**median** (least to most).",
    ]
    return "\n\n".join(lines + document["notes"])


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"## {title}\n\n{body}"


def _times(document: Mapping[str, Any]) -> str:
    seconds = document["seconds"]

    def cell(variant: str, method: str) -> str:
        if method not in seconds[variant]:
            return "–"
        low, middle, high = (1000 * x for x in spread(seconds[variant][method]))
        digits = 0 if high >= 1000 else 1
        return f"**{middle:.{digits}f}** ({low:.{digits}f} to {high:.{digits}f})"

    rows = _rows(TITLES, seconds, cell)
    return _table("Milliseconds for the batch", ["", *seconds], rows)


def _rows(
    titles: Mapping[str, str],
    columns: Iterable[str],
    cell: Callable[[str, str], str],
) -> list[list[str]]:
    columns = list(columns)
    rows = [
        [title, *(cell(column, name) for column in columns)]
        for name, title in titles.items()
    ]
    return [row for row in rows if any(text != "–" for text in row[1:])]


def _times_faster(found: Mapping[str, float]) -> str:
    return (
        f"**{found['median']:.2f}** ({found['minimum']:.2f} to {found['maximum']:.2f})"
    )


def _ratio_table(document: Mapping[str, Any], ours: str) -> str:
    table = document["summary"]["ratios"][ours]
    rows = []
    for title, row in table.items():
        against = row["against"]
        cells = [_times_faster(against[peer]) for peer in document["peers"]]
        rows.append([title, *cells, row["fastest"]])
    columns = ["", *document["peers"], "fastest of these"]
    return _table(f"How many times faster than torch: {ours}", columns, rows)


def _multiples(document: Mapping[str, Any]) -> str:
    found = document["summary"]["multiples"]
    titles = {
        name: f"{METHODS[name].title} / {words}"
        for name, (_, _, words) in minima(document["settings"]).items()
    }

    def cell(variant: str, method: str) -> str:
        multiple = found[variant].get(method)
        return "–" if multiple is None else _times_faster(multiple)

    rows = _rows(titles, found, cell)
    return _table("Multiple of what the method must do at least", ["", *found], rows)


def _first_calls(document: Mapping[str, Any]) -> str:
    found = document["first_call_seconds"]

    def cell(variant: str, method: str) -> str:
        return f"{found[variant][method]:.1f}" if method in found[variant] else "–"

    columns = ["", *found]
    return _table("Seconds of the first call", columns, _rows(TITLES, found, cell)) + (
        "\n\nOurs compile in it, and share what they can with the rows above; torch's "
        "Opti-CAM does 2 steps in it."
    )


def _memory(document: Mapping[str, Any]) -> str:
    found = document["peak_memory"]

    def cell(variant: str, method: str) -> str:
        peak = found[variant].get(method)
        if peak is None:
            return "–"
        text = f"{peak['process_mebibytes']:.0f}"
        device = peak.get("device_mebibytes")
        return text if device is None else f"{text}, device {device:.0f}"

    table = _table("Peak memory in MiB", ["", *found], _rows(TITLES, found, cell))
    return table + (
        "\n\nOf the whole of a fresh process that loads the network and does only this "
        "method, twice; Opti-CAM with 2 steps, as more take no more memory."
    )


def _agreement(document: Mapping[str, Any]) -> str:
    found = document["differences"]
    if not found:
        return "No other side was there to compare results with."
    rows = []
    for name, values in next(iter(found.values())).items():
        others = (
            f"{table[name]['largest_difference']:.1e}" for table in found.values()
        )
        rows.append([name, f"{values['largest_value']:.3g}", *others])
    columns = ["", "largest value", *found]
    return _table(f"Largest difference from what {OURS} computes", columns, rows)


def _versions(document: Mapping[str, Any]) -> str:
    lines = ["## What ran", ""]
    for name, about in document["variants"].items():
        packages = ", ".join(
            f"{key} {value}" for key, value in about["versions"].items()
        )
        extras = "; ".join(
            f"{key.replace('_', ' ')}: {value}"
            for key, value in about.items()
            if key not in ("versions", "environment")
        )
        given = "".join(
            f"; {key}={value}" for key, value in about["environment"].items()
        )
        lines.append(f"* **{name}**: {packages}; {extras}{given}")
    return "\n".join(lines)

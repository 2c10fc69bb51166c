"""Cautions about an evaluation, in sentences: one for each metric."""

from collections.abc import Sequence

from unlir_jax import metrics
from unlir_jax.core.document_types import Document
from unlir_jax.report import words


def sentences(
    unbeaten: Sequence[Document],
    controls: Sequence[str],
    power: Sequence[Document] = (),
) -> list[str]:
    """Say which methods do not beat which controls, a sentence for each metric.

    Where too few images could show any difference, that is said instead, in a sentence
    for all metrics of as many images.

    Args:
        unbeaten: See `comparison.Figures`.
        controls: All there are.
        power: See `comparison.Figures`.
    """
    weak = [each for each in power if not each["enough"]]
    found = _too_few(weak)
    silent = {each["metric"] for each in weak}
    for metric in dict.fromkeys(each["metric"] for each in unbeaten):
        if metric in silent:
            continue
        own = [each for each in unbeaten if each["metric"] == metric]
        clauses = [
            *_groups(own, controls, metric, worse=False),
            *_groups(own, controls, metric, worse=True),
        ]
        found.append(f"{words.metric_title(metric)}: {'; '.join(clauses)}.")
    return found


def _too_few(weak: Sequence[Document]) -> list[str]:
    """Say that images cannot tell any method from a control, and how many would."""
    groups: dict[tuple[int, int], list[Document]] = {}
    for each in weak:
        groups.setdefault((each["images"], each["comparisons"]), []).append(each)
    found = []
    for (images, comparisons), metrics_of in groups.items():
        first = metrics_of[0]
        names = [words.metric_title(each["metric"]) for each in metrics_of]
        if first["needed"] is None:
            remedy = f"statistics.resamples={first['resamples']} would do"
        else:
            remedy = f"{first['needed']} images would do"
        one = images == 1
        found.append(
            f"{words.enumerate_names(names)}: {images} image{'' if one else 's'} "
            f"cannot tell any method from a control, whatever the scores; after Holm's "
            f"correction for {comparisons} comparisons the smallest possible p-value "
            f"is {first['smallest']:.2g}, and {remedy}."
        )
    return found


def _groups(
    own: Sequence[Document],
    controls: Sequence[str],
    metric: str,
    *,
    worse: bool,
) -> list[str]:
    """Put methods together that fail to beat the same controls in the same way."""
    rivals: dict[str, list[Document]] = {}
    for each in own:
        if each["worse"] == worse:
            rivals.setdefault(each["method"], []).append(each)
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, entries in rivals.items():
        named = {entry["control"] for entry in entries}
        key = tuple(name for name in controls if name in named)
        groups.setdefault(key, []).append(method)
    clauses = []
    for named, methods in groups.items():
        who = words.enumerate_names([words.method_title(name) for name in methods])
        whom = words.enumerate_names([words.method_title(name) for name in named])
        whom = "any control" if len(named) == len(controls) > 1 else whom
        one = len(methods) == 1
        if not worse:
            clauses.append(f"{who} cannot be told from {whom}")
            continue
        behind = [e["behind"] for m in methods for e in rivals[m]]
        clauses.append(
            f"{who} {'is' if one else 'are'} worse than "
            f"{'every control' if whom == 'any control' else whom} "
            f"(by {_range(behind, metric)})"
        )
    return clauses


def _range(values: Sequence[float], metric: str) -> str:
    """Print one number, or the least and the most."""
    plain = metrics.output(metric).scale == "number"
    low, high = (words.number(metric, value) for value in (min(values), max(values)))
    shown = low if low == high else f"{low} to {high}"
    return shown if plain else f"{shown} points"

"""What can only be said once all pictures are scored."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unlir_jax import metrics
from unlir_jax.evaluation import store
from unlir_jax.metrics import spec

COUNTS = metrics.SPECS["pixel_average_precision"].curves
RESAMPLES = 1000
"""Of PxAP: each adds up the pixels of all pictures again."""


class Facts(NamedTuple):
    """Hold what is said of all pictures together.

    Attributes:
        thresholds: `method/metric` to where its map is cut, see `at_chosen`.
        pooled: `method/pxap` to `mean`, `low`, `high` and `n`.
        rankings: By metric, how the order of methods changes between its baselines.
    """

    thresholds: dict[str, Any]
    pooled: dict[str, dict[str, Any]]
    rankings: dict[str, dict[str, Any]]


def settle(job: Any, rows: store.Rows) -> tuple[store.Rows, Facts]:
    """Choose thresholds, pool pixels, and compare rankings.

    Args:
        job: The `task.Task`.
        rows: Of all pictures.

    Returns:
        The rows with the values that were missing, and what else there is to say.
    """
    values, methods = rows.values.copy(), list(job.explainers)
    thresholds = {}
    for at, column in enumerate(job.columns):
        if not metrics.SPECS[spec.base(column)].at_threshold:
            continue
        options = job.contracts[column]["settings"]
        for place, method in enumerate(methods):
            found = metrics.at_chosen(
                rows.curves[f"{column}_curve"][:, place],
                options["chosen_on"],
                options.get("overlaps"),
            )
            values[:, place, at] = found.values
            thresholds[f"{method}/{column}"] = [
                [index / options["thresholds"] for index in places]
                for places in found.thresholds
            ]
    rows = rows._replace(values=values)
    return rows, Facts(
        thresholds,
        _pooled(job, rows, methods),
        rankings(rows.values, methods, job.controls, job.columns),
    )


def _pooled(
    job: Any, rows: store.Rows, methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Give PxAP with its interval over pictures."""
    if COUNTS[0] not in rows.curves:
        return {}
    inside, outside = (rows.curves[name].astype(np.int64) for name in COUNTS)
    kept = inside[:, 0, 0] > 0
    inside, outside, count = inside[kept], outside[kept], int(kept.sum())
    if not count:
        return {}
    random = np.random.default_rng(job.settings.seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    tail = 50 * (1 - job.settings.statistics.confidence)
    found = {}
    for place, method in enumerate(methods):
        one, other = inside[:, place], outside[:, place]
        again = _average_precisions(drawn @ one, drawn @ other)
        low, high = np.percentile(again, [tail, 100 - tail])
        found[f"{method}/pxap"] = {
            "mean": metrics.pooled_average_precision(one, other),
            "low": float(low),
            "high": float(high),
            "n": count,
        }
    return found


def _average_precisions(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Give PxAP of each row of added-up counts."""
    pairs = zip(inside[:, None], outside[:, None], strict=True)
    return np.asarray([metrics.pooled_average_precision(*pair) for pair in pairs])


def rankings(
    values: np.ndarray,
    methods: Sequence[str],
    controls: Sequence[str],
    columns: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Compare the order of methods between the baselines of one metric.

    Controls are left out, unless there are fewer than two methods.
    """
    own = [name for name in methods if name not in controls]
    own = own if len(own) > 1 else list(methods)
    found: dict[str, dict[str, Any]] = {}
    for plain in dict.fromkeys(spec.base(column) for column in columns):
        family = [column for column in columns if spec.base(column) == plain]
        if (
            metrics.SPECS[plain].variants != "baseline"
            or len(family) < 2
            or len(own) < 2
        ):
            continue
        places = [list(columns).index(column) for column in family]
        kept = np.isfinite(values[:, :, places]).all((1, 2))
        if not kept.any():
            continue
        scores = {
            column: {
                name: values[kept, list(methods).index(name), place] for name in own
            }
            for column, place in zip(family, places, strict=True)
        }
        higher = metrics.higher_is_better(plain)
        facts = metrics.baseline_sensitivity(scores, higher_is_better=higher)
        found[plain] = {
            "metrics": family,
            "methods": own,
            "agreement": facts.agreement.tolist(),
            "lowest": facts.lowest,
            "reversals": facts.reversals,
            "always_first": facts.always_first,
        }
    return found

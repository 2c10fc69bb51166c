"""Results of the whole data set, and the summary of an evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Record
from unlir_jax.data import source
from unlir_jax.evaluation import batch_files, conditions, store
from unlir_jax.evaluation.comparison import Figures
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.explanation import results as results_of
from unlir_jax.metrics import spec
from unlir_jax.models import pretrained
from unlir_jax.report import cautions
from unlir_jax.storage import files, paths

COUNTS = metrics.SPECS["pixel_average_precision"].curves
MEAN_IOU = metrics.SPECS["mean_iou"].curves[1:]
RESAMPLES = 1000
"""Of PxAP: each adds up the pixels of all images again."""


class DatasetResults(NamedTuple):
    """Hold results that need the scores of all images.

    Attributes:
        thresholds: Thresholds of maps by `method/metric`, see `at_chosen`.
        pooled: PxAP by `method/pxap`, mIoU by `method/miou`, and that of classes by
            `method/class_miou`.
        rankings: Changes of the order of methods between the baselines of a metric.
    """

    thresholds: dict[str, list[list[float]]]
    pooled: dict[str, Record]
    rankings: dict[str, Record]


def aggregate(
    setup: EvaluationSetup, rows: store.Rows
) -> tuple[store.Rows, DatasetResults]:
    """Choose thresholds, pool pixels, and compare rankings.

    Args:
        setup: The evaluation.
        rows: Scores of all images.

    Returns:
        The rows with the values that were missing, and the other results.
    """
    values, methods = rows.values.copy(), list(setup.explainers)
    thresholds: dict[str, list[list[float]]] = {}
    pooled: dict[str, Record] = {}
    for at, column in enumerate(setup.columns):
        if not metrics.SPECS[spec.base(column)].at_threshold:
            continue
        options = setup.contracts[column]["settings"]
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
            if spec.base(column) == "mean_iou":
                pooled |= _mean_iou(setup, rows, method, place, found)
    rows = rows._replace(values=values)
    return rows, DatasetResults(
        thresholds,
        _pooled(setup, rows, methods) | pooled,
        rankings(rows.values, methods, setup.controls, setup.columns),
    )


def _pooled(
    setup: EvaluationSetup, rows: store.Rows, methods: Sequence[str]
) -> dict[str, Record]:
    """Give PxAP with its interval over images."""
    if COUNTS[0] not in rows.curves:
        return {}
    inside, outside = (rows.curves[name].astype(np.int64) for name in COUNTS)
    kept = inside[:, 0, 0] > 0
    inside, outside, count = inside[kept], outside[kept], int(kept.sum())
    if not count:
        return {}
    random = np.random.default_rng(setup.settings.seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    tail = 50 * (1 - setup.settings.statistics.confidence)
    found: dict[str, Record] = {}
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


def _mean_iou(
    setup: EvaluationSetup,
    rows: store.Rows,
    method: str,
    place: int,
    found: metrics.AtChosen,
) -> dict[str, Record]:
    """Give mIoU of all pixels with its interval over images, and that of classes."""
    counts = (rows.curves[name][:, place].astype(np.int64) for name in MEAN_IOU)
    inside, outside = counts
    kept = np.flatnonzero(inside[:, 0] > 0)
    if not len(kept):
        return {}
    chosen = found.places(len(inside))[kept]
    inside, outside, labels = inside[kept], outside[kept], rows.label[kept]
    pooled = {
        "miou": lambda each: metrics.pooled_mean_iou(
            inside[each], outside[each], chosen[each]
        )
    }
    if setup.settings.labels == "true" and len(np.unique(labels)) > 1:
        # Only classes of these images: others have no pixel anywhere.
        present, own = np.unique(labels, return_inverse=True)
        pooled["class_miou"] = lambda each: (
            metrics.pooled_class_overlaps(
                *(inside[each], outside[each], chosen[each], own[each], len(present))
            ).mean
        )
    random = np.random.default_rng(setup.settings.seed)
    drawn = random.integers(0, len(kept), (RESAMPLES, len(kept)))
    tail = 50 * (1 - setup.settings.statistics.confidence)
    figures = {}
    for name, pool in pooled.items():
        low, high = np.percentile(list(map(pool, drawn)), [tail, 100 - tail])
        mean = pool(np.arange(len(kept)))
        figures[f"{method}/{name}"] = {
            **{"mean": mean, "low": float(low), "high": float(high)},
            "n": len(kept),
        }
    return figures


def _average_precisions(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Give PxAP of each row of added-up counts."""
    pairs = zip(inside[:, None], outside[:, None], strict=True)
    return np.asarray([metrics.pooled_average_precision(*pair) for pair in pairs])


def rankings(
    values: np.ndarray,
    methods: Sequence[str],
    controls: Sequence[str],
    columns: Sequence[str],
) -> dict[str, Record]:
    """Compare the order of methods between the baselines of one metric.

    Controls are left out, unless there are fewer than two methods.
    """
    own = [name for name in methods if name not in controls]
    own = own if len(own) > 1 else list(methods)
    found: dict[str, Record] = {}
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


def document(
    setup: EvaluationSetup,
    rows: store.Rows,
    names: Sequence[str],
    figures: Figures,
    results: DatasetResults,
) -> Record:
    """Put together what `summary.json` says.

    Args:
        setup: The evaluation.
        rows: All scores, as `aggregate` gives them.
        names: Names of the images.
        figures: Intervals and comparisons.
        results: Results of the whole data set.
    """
    about = {
        "model": setup.network.name,
        "layer": setup.network.layer,
        "weights": pretrained.provenance(setup.network),
        "images": len(names),
        "unreadable": [setup.data.name(int(place)) for place in rows.unreadable],
        "unreadable_why": paths.without_folders(_why(setup, rows)),
        "notices": paths.without_folders(setup.data.notices),
        "labels": setup.settings.labels,
        "labelled_by": setup.labelled_by,
        **_condition(setup),
        "duplicates": setup.duplicates,
        "undefined": _undefined(setup, rows, names),
        "masks": setup.data.masks,
        "accuracy": _accuracy(setup, rows),
        "methods": [name for name in setup.explainers if name not in setup.controls],
        "controls": list(setup.controls),
        "score": setup.score.name,
        "metrics": list(setup.columns),
        "hyper_parameters": results_of.recorded(setup.parameters),
        **_flat(setup, rows),
        "image_size": setup.image_size,
        "crop": setup.crop,
        "preprocessing": pretrained.prepared(
            setup.network, setup.image_size, setup.crop, setup.interpolation
        ),
        "seed": setup.settings.seed,
        "statistics": setup.settings.statistics.to_dict(),
        "gallery": setup.settings.gallery,
        "versions": files.versions(),
    }
    unbeaten = cautions.sentences(figures.unbeaten, setup.controls, figures.power)
    return {
        **figures.means,
        **results.pooled,
        "about": about,
        "contract": {name: setup.contracts[name] for name in setup.columns},
        "comparisons": figures.pairs,
        "power": figures.power,
        "rankings": results.rankings,
        "thresholds": results.thresholds,
        "cautions": paths.without_folders([*setup.notices, *unbeaten]),
    }


def _condition(setup: EvaluationSetup) -> Record:
    """Say under which condition it is; nothing where there is no other."""
    own = setup.condition
    explained = {"class": own.explained} if own.explained else {}
    return explained | ({} if own.plain else {"augmentation": own.augmentation})


def _accuracy(setup: EvaluationSetup, rows: store.Rows) -> float | None:
    """Count how often the network predicts the label; None where that is not known."""
    labelled = conditions.labelling(setup.settings) != "predicted"
    if not labelled or setup.condition.explained not in ("", "label"):
        return None
    wrong = int(np.count_nonzero(rows.predicted != rows.label))
    return 1 - wrong / len(rows.label)


def _flat(setup: EvaluationSetup, rows: store.Rows) -> Record:
    """Count flat maps and nearly flat masks; None where an earlier version did not."""
    flat = dict(zip(setup.explainers, rows.flat.sum(0).tolist(), strict=True))
    counts: list[int | None] = rows.nearly_flat.sum(0).tolist()
    if (rows.nearly_flat == batch_files.UNKNOWN).any():
        counts = [None] * len(counts)
    nearly_flat = dict(zip(flat, counts, strict=True))
    return {"flat": flat, "nearly_flat": nearly_flat, "signed": list(setup.signed)}


def _why(setup: EvaluationSetup, rows: store.Rows) -> str:
    """Say why the first image that cannot be read cannot."""
    if not len(rows.unreadable):
        return ""
    return source.reason(setup.data, int(rows.unreadable[0]), setup.annotations)


def _undefined(
    setup: EvaluationSetup, rows: store.Rows, names: Sequence[str]
) -> dict[str, Record]:
    """Count by metric the images in which it has nothing to find, and name one."""
    found = {}
    for place, metric in enumerate(setup.columns):
        without = np.flatnonzero(~np.isfinite(rows.values[..., place]).all(1))
        if len(without):
            first = files.readable(names[int(without[0])])
            found[metric] = {"pictures": len(without), "first": first}
    return found

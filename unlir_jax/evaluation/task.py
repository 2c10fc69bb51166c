"""What the config of an evaluation stands for: data, network, methods and metrics."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import explainers, mesh, metrics, part_panels, pretrained, saliency
from unlir_jax.data import registry, source
from unlir_jax.data.splits import PLACE
from unlir_jax.evaluation import labels
from unlir_jax.models.parts import PartNet
from unlir_jax.types import Explainer

LABELS = ("true", "predicted")
FACTORIES: dict[str, Callable[..., Any]] = (
    metrics.METRICS
    | metrics.EXPLAINER_METRICS
    | metrics.REGION_METRICS
    | metrics.BOX_METRICS
)
AVERAGES = ("average_drop", "average_increase", "average_gain")
CURVES = ("insertion", "deletion")
SPLITS = ("test", "validation", "val")


class Scorer(NamedTuple):
    """Hold a metric, which may give several columns at once.

    Attributes:
        columns: Names of what it gives.
        score: The metric.
        curve: Name of the curve that it also gives, or "".
        takes: What it takes besides: `explain`, where `score` makes the metric of an
            explainer; `regions`, the object's mask; `boxes`; or "".
    """

    columns: tuple[str, ...]
    score: Callable[..., Any]
    curve: str = ""
    takes: str = ""


class Task(NamedTuple):
    """Hold what a config stands for, before the first picture."""

    settings: Any
    network: pretrained.Pretrained
    data: source.Source
    labels: np.ndarray
    labelled_by: str
    explainers: dict[str, Explainer]
    controls: tuple[str, ...]
    parameters: dict[str, Any]
    scorers: list[Scorer]
    contracts: dict[str, Any]
    annotations: tuple[str, ...]
    image_size: int
    crop: float
    laid: mesh.Layout

    @property
    def columns(self) -> tuple[str, ...]:
        """List the metrics in the order asked for."""
        return tuple(dict.fromkeys(self.settings.metrics))


def prepare(settings: Any) -> Task:
    """Open the data, load the network and make methods and metrics.

    Raises:
        ValueError: A setting that makes no sense, or data that the network does not
            fit; the sentence says what would.
    """
    chosen = explainers.check(tuple(settings.methods))
    wanted = _check_metrics(tuple(settings.metrics))
    if settings.labels not in LABELS:
        raise ValueError(f"`labels`={settings.labels!r}; expected one of {LABELS}.")
    devices = jax.local_devices()
    if not 0 <= settings.devices <= len(devices):
        raise ValueError(
            f"`devices`={settings.devices}; expected 0 for all, or 1 to {len(devices)}."
        )
    laid = mesh.layout(devices=devices[: settings.devices or len(devices)])
    mesh.check_batch_size(laid, settings.batch_size)
    data, model = _open(settings.data), settings.model
    network = pretrained.load(
        model.name, model.weights, model.layer or None, fold=True, seed=settings.seed
    )
    found, labelled_by = _labels(settings.labels, data, network)
    chosen = explainers.check(chosen, by_parts=isinstance(network.module, PartNet))
    controls = tuple(
        name for name in saliency.CONTROLS if settings.controls and name not in chosen
    )
    parameters = _parameters((*chosen, *controls), settings.method_options.to_dict())
    known = part_panels.teller(network, model.name) if "parts" in chosen else None
    made = {
        name: explainers.make(name, network, values, known and known.centres)
        for name, values in parameters.items()
    }
    scorers, contracts = _scorers(
        network.model, wanted, settings.metric_options.to_dict()
    )
    annotations = _annotations(scorers, data)
    return Task(
        settings=settings,
        network=network,
        data=data,
        labels=found,
        labelled_by=labelled_by,
        explainers=made,
        controls=controls + tuple(c for c in saliency.CONTROLS if c in chosen),
        parameters=parameters,
        scorers=scorers,
        contracts=contracts,
        annotations=annotations,
        image_size=settings.data.image_size or network.image_size,
        crop=settings.data.crop or network.crop,
        laid=laid,
    )


def _labels(
    which: str, data: source.Source, network: pretrained.Pretrained
) -> tuple[np.ndarray, str]:
    """Give the class that is explained of each picture, -1 for the predicted one."""
    if which == "predicted":
        return np.full(data.size, -1, np.int32), "prediction"
    count = network.module.num_classes
    found, how = labels.of_source(data, network.class_names, count)
    if (found < 0).any():
        raise ValueError(
            f"{int((found < 0).sum())} of {data.size} pictures have no class; expected "
            "class folders, file names such as 281_cat.jpg, a table index.csv, or "
            "--config.labels=predicted."
        )
    return found, how


def _open(settings: Any) -> source.Source:
    options = settings.options.to_dict()
    if settings.source in ("folder", "npz") and not settings.path:
        raise ValueError(
            f"`data.path` is missing, where the {settings.source} lies; expected "
            "--config.data.path=…"
        )
    if settings.path:
        options[PLACE.get(settings.source, "path")] = settings.path
    splits = SPLITS if settings.split == "auto" else (settings.split,)
    found, refused = None, None
    for split in (*splits, *(["all"] if settings.split == "auto" else [])):
        try:
            found = registry.open_source(settings.source, split, **options)
            break
        except ValueError as error:
            # What is said of "all" is about the data, not about the name of a split.
            refused = error
    if found is None:
        raise refused or ValueError(f"`data.source`={settings.source!r} has no split.")
    if settings.limit < 0:
        raise ValueError(f"`data.limit`={settings.limit}; expected 0 for all, or more.")
    if settings.limit:
        count = min(settings.limit, found.size)
        spread = np.linspace(0, found.size, count, endpoint=False).astype(int)
        found = source.subset(found, spread)
    if not found.size:
        raise ValueError("The data has no pictures; expected some.")
    return found


def _check_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        raise ValueError(
            f"`metrics` is empty; expected some of {', '.join(FACTORIES)}."
        )
    for name in wanted:
        if name not in FACTORIES:
            near = difflib.get_close_matches(name, FACTORIES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"`metrics` has {name!r}, which is no metric; {hint}known: "
                f"{', '.join(FACTORIES)}."
            )
    return wanted


def _parameters(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Give the settings of every method, as changed by `method_options`."""
    found = {name: explainers.settings(name, None) for name in names}
    _merge(found, options, "method_options")
    return found


def _merge(
    found: dict[str, dict[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
    what: str,
) -> None:
    for name, changed in options.items():
        if name not in found:
            raise ValueError(
                f"`{what}.{name}` is about nothing that was asked for; expected some "
                f"of {', '.join(found)}."
            )
        for option, value in changed.items():
            if option not in found[name]:
                raise ValueError(
                    f"`{what}.{name}.{option}` is no setting of {name}; expected some "
                    f"of {', '.join(found[name]) or 'none'}."
                )
            found[name][option] = value


def _annotations(scorers: Sequence[Scorer], data: source.Source) -> tuple[str, ...]:
    """List what has to be known of the pictures: masks, boxes or nothing.

    Where a region is wanted and there are only boxes, they are filled.
    """
    taken = {scorer.takes for scorer in scorers}
    wanted = ["boxes"] if "boxes" in taken else []
    if "regions" in taken:
        wanted.append("mask" if "mask" in data.annotations else "boxes")
    missing = set(wanted) - set(data.annotations)
    if missing:
        names = [s.columns[0] for s in scorers if s.takes in ("regions", "boxes")]
        raise ValueError(
            f"`metrics` has {', '.join(names)}, which need {' and '.join(missing)}, "
            f"but the data has {', '.join(data.annotations) or 'no annotations'}; "
            "expected a table index.csv with x0, y0, x1, y1, or a folder of masks."
        )
    return tuple(dict.fromkeys(wanted))


def _defaults(factory: Callable[..., Any], skipped: int) -> dict[str, Any]:
    own = list(inspect.signature(factory).parameters.values())[skipped:]
    return {setting.name: setting.default for setting in own}


def _scorers(
    model: Any, names: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Scorer], dict[str, Any]]:
    """Make metrics; those that look at the same pictures become one."""
    values = {
        name: _defaults(factory, 2 if name in metrics.EXPLAINER_METRICS else 1)
        for name, factory in FACTORIES.items()
        if name in names
    }
    _merge(values, options, "metric_options")
    scorers = []
    averages = tuple(name for name in names if name in AVERAGES)
    if averages:
        scorers.append(Scorer(averages, metrics.average_scores(model)))
    for name in names:
        if name in AVERAGES:
            continue
        make = functools.partial(FACTORIES[name], **values[name])
        if name in metrics.EXPLAINER_METRICS:
            made = functools.partial(make, model)
            scorers.append(Scorer((name,), made, takes="explain"))
            continue
        regions, boxes = name in metrics.REGION_METRICS, name in metrics.BOX_METRICS
        takes = "regions" if regions else "boxes" if boxes else ""
        curve = f"{name}_curve" if name in CURVES else ""
        scorers.append(Scorer((name,), make(model), curve, takes))
    return scorers, {name: metrics.contract(name, values[name]) for name in names}

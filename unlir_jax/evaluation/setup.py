"""Setup of an evaluation from its config: data, network, methods and metrics."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax import maps, saliency, tree
from unlir_jax.core.document_types import Document
from unlir_jax.data import duplicates, source
from unlir_jax.evaluation import batch_files, conditions, given_maps, images, labels
from unlir_jax.evaluation import scorers as metrics
from unlir_jax.explanation import explainers
from unlir_jax.explanation.scoring import Scorer
from unlir_jax.metrics import spec
from unlir_jax.metrics.sanity.redrawn import redraw
from unlir_jax.metrics.spec import EXPLAINING
from unlir_jax.models import (
    factories,
    pretrained,
    reading_order,
    temperature,
    wrapping,
)
from unlir_jax.models.part_network import PartNet
from unlir_jax.part_report import panels
from unlir_jax.runs import origins, workdir
from unlir_jax.runtime import mesh, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.split import module_paths, scores
from unlir_jax.storage import paths
from unlir_jax.types import Explainer, Variables

LABELS = ("true", "predicted", "numbers")


class EvaluationSetup(NamedTuple):
    """Hold what a config stands for, before the first image.

    `notices` are sentences for people about what was taken for granted, `further` are
    hashes of weights besides the network's own, by their setting, `signed` are the
    methods whose maps have a sign, and `given` those from elsewhere.
    """

    settings: Settings
    network: pretrained.Pretrained
    data: source.Source
    labels: np.ndarray
    labelled_by: str
    notices: tuple[str, ...]
    duplicates: Mapping[str, object] | None
    explainers: Mapping[str, Explainer]
    controls: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, object]]
    scorers: Sequence[Scorer]
    contracts: Mapping[str, Document]
    others: Mapping[str, Variables]
    further: dict[str, str]
    annotations: tuple[str, ...]
    signed: tuple[str, ...]
    given: Mapping[str, given_maps.GivenMethod]
    image_size: int
    crop: float
    interpolation: str
    laid: mesh.Layout
    condition: conditions.Condition = conditions.Condition()

    @property
    def score(self) -> scores.Score:
        """Give the score that says which class is predicted."""
        return explainers.find_score(self.settings.score or "softmax")

    @property
    def columns(self) -> tuple[str, ...]:
        """List the metrics in the order asked for."""
        return tuple(self.contracts)

    @property
    def curves(self) -> tuple[str, ...]:
        """List the curves that metrics give."""
        return tuple(curve for scorer in self.scorers for curve in scorer.curves)

    @property
    def signs(self) -> maps.Signs:
        """Tell what the first metric that masks makes of the signs of maps."""
        rules = self._rules()
        return rules[0] if rules else "relu"

    def _rules(self) -> list[maps.Signs]:
        """List the rules for signs of the metrics that mask."""
        every = (each["settings"] for each in self.contracts.values())
        return [own["signs"] for own in every if "signs" in own]

    def whose(self) -> batch_files.Whose:
        """Say what its batches have to be of."""
        # Of an augmented image, the class is that of the image as it was.
        unseen = (self.labels < 0) & (not self.condition.plain)
        return batch_files.Whose(
            {"model": self.network.sha256} | self.further,
            tuple(self.explainers),
            self.columns,
            self.curves,
            tuple(self.data.name(index) for index in range(self.data.size)),
            np.where(unseen, batch_files.UNSEEN, self.labels),
            self.settings.batch_size,
            "+".join(sorted({*self._rules()} - {"range"})) if self.signed else "",
            self.condition.name,
        )


def prepare(settings: Settings) -> EvaluationSetup:
    """Open the data, load the network and make methods and metrics.

    Raises:
        ValueError: A setting that makes no sense, or data that the network does not
            fit; the sentence says what would.
    """
    _check(settings)
    chosen = _methods(settings, by_parts=True)
    wanted = metrics.check((*settings.metrics, *conditions.agreement(settings)))
    laid = _layout(settings)
    data, model = images.open_source(settings), settings.model
    network = _load(settings, model.weights)
    found, labelled_by = _labels(settings, data, network)
    chosen = _methods(settings, by_parts=isinstance(network.module, PartNet))
    given = _given(settings, data, wanted)
    controls = tuple(
        name for name in saliency.CONTROLS if settings.controls and name not in chosen
    )
    score = explainers.find_score(settings.score) if settings.score else None
    options = settings.method_options.to_dict()
    parameters = _parameters((*chosen, *controls), options, score)
    made = _explainers(network, model.name, parameters)
    made |= dict.fromkeys(given, given_maps.refuse)
    signed = [*explainers.signed(parameters), *(n for n in given if given[n].signed)]
    options = settings.metric_options.to_dict()
    order = _order(network, metrics.sanity(wanted))
    scorers, contracts = metrics.make(network.model, wanted, options, order, score)
    for scorer in (each for each in scorers if each.needs in EXPLAINING):
        # So that its settings are looked at now, not at the first batch.
        scorer.score(next(iter(made.values())))
    annotations = images.annotations(scorers, data, network)
    others, further = _others(scorers, settings, network)
    network, others = _spread(laid, network, others)
    return EvaluationSetup(
        settings=settings,
        network=network,
        data=data,
        labels=found,
        labelled_by=labelled_by,
        notices=tuple(filter(None, [labels.said(labelled_by)])),
        duplicates=None,
        explainers=made,
        controls=controls + _chosen_controls(chosen),
        parameters=parameters | {n: each.about() for n, each in given.items()},
        scorers=scorers,
        contracts=contracts,
        others=others,
        further=further | {f"maps.{n}": given[n].sha256 for n in given},
        annotations=annotations,
        signed=tuple(signed),
        given=given,
        image_size=settings.data.image_size or network.image_size,
        crop=settings.data.crop or network.crop,
        interpolation=settings.data.interpolation or network.interpolation,
        laid=laid,
    )


def _check(settings: Settings) -> None:
    ranges.check(settings)
    explainers.find_score(settings.score or "softmax")
    if settings.labels not in LABELS:
        raise ValueError(f"`labels`={settings.labels!r}; expected one of {LABELS}.")
    conditions.check(settings)


def _labels(
    settings: Settings, data: source.Source, network: pretrained.Pretrained
) -> tuple[np.ndarray, str]:
    score = explainers.find_score(settings.score or "softmax")
    count = score.labels or network.module.num_classes
    which = conditions.labelling(settings)
    return labels.explained(which, data, network.class_names, count)


def _methods(settings: Settings, *, by_parts: bool) -> tuple[str, ...]:
    """Check the methods' names; there may be none where maps are given."""
    if settings.maps and not settings.methods:
        return ()
    return explainers.check(tuple(settings.methods), by_parts=by_parts)


def _chosen_controls(chosen: Sequence[str]) -> tuple[str, ...]:
    """List the controls among the methods, those that are refined last."""
    plain = [name for name in saliency.CONTROLS if name in chosen]
    refined = [name for name in chosen if "@" in name]
    known = [n for n in refined if saliency.parted(n)[0] in saliency.CONTROLS]
    return (*plain, *known)


def _given(
    settings: Settings, data: source.Source, wanted: Sequence[str]
) -> dict[str, given_maps.GivenMethod]:
    """Find the methods from elsewhere, which no metric can ask again."""
    if not settings.maps:
        return {}
    asking = [n for n in wanted if spec.SPECS[spec.base(n)].needs in EXPLAINING]
    if asking:
        raise ValueError(
            f"`metrics` has {', '.join(asking)}, which explain other images, but "
            f"`maps`={settings.maps!r} has maps of these alone; expected other metrics."
        )
    return given_maps.find(settings.maps, data, {*saliency.METHODS, explainers.PARTS})


def _explainers(
    network: pretrained.Pretrained,
    model: str,
    parameters: Mapping[str, dict[str, object]],
) -> dict[str, Explainer]:
    """Make the methods of this library."""
    wanted = explainers.PARTS in parameters
    known = panels.part_explainer(network, model) if wanted else None
    return {
        name: explainers.make(name, network, values, known and known.centres)
        for name, values in parameters.items()
    }


def _layout(settings: Settings) -> mesh.Layout:
    devices = jax.local_devices()
    if not 0 <= settings.devices <= len(devices):
        raise ValueError(
            f"`devices`={settings.devices}; expected 0 for all, or 1 to {len(devices)}."
        )
    laid = mesh.layout(devices=devices[: settings.devices or len(devices)])
    mesh.check_batch_size(laid, settings.batch_size)
    return laid


def _spread(
    laid: mesh.Layout, network: pretrained.Pretrained, others: Mapping[str, Variables]
) -> tuple[pretrained.Pretrained, Mapping[str, Variables]]:
    """Lay variables out on several devices."""
    if laid.mesh.size == 1:
        return network, others
    variables = mesh.put_state(laid, network.variables)
    others = {name: mesh.put_state(laid, other) for name, other in others.items()}
    return network._replace(variables=variables), others


def compared(given: EvaluationSetup) -> EvaluationSetup:
    """Look for images that the network in a workdir was trained on.

    Returns:
        The task with what was found, as it was where that is not known.
    """
    model = given.settings.model.name
    # One process says it for all.
    if not paths.is_folder(model) or not mesh.is_first():
        return given
    try:
        train = workdir.training_pictures(model)
    except ValueError:
        return given  # A network can be tested where its training pictures are not.
    seen = duplicates.between(train, given.data)
    return given._replace(
        notices=(*given.notices, *seen.sentences("pictures")),
        duplicates=seen.document(),
    )


def _load(settings: Settings, weights: str | None) -> pretrained.Pretrained:
    model, data = settings.model, settings.data
    network = factories.load(
        model.name,
        weights,
        model.layer or None,
        weights_key=model.weights_key if weights == model.weights else "",
        crop=data.crop or None,
        interpolation=data.interpolation or None,
        texts=model.get("texts") or None,
        fold=True,
        seed=settings.seed,
    )
    if network.code and data.image_size not in (0, network.image_size):
        raise ValueError(
            f"`data.image_size`={data.image_size}, but the network of `model.name`="
            f"{model.name!r} takes {network.image_size}; expected 0 or that."
        )
    return temperature.divided(network, model.get("temperature", 1.0))


def _order(network: pretrained.Pretrained, wanted: bool) -> tuple[str, ...]:
    """List the network's layers from the image to the head, where that is wanted."""
    if not wanted:
        return ()
    size = network.image_size
    if isinstance(network.module, wrapping.Outline):
        return reading_order.layers(network.model, network.variables, size)
    example = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    called = [path.split("/")[0] for path in module_paths(network.module, example)]
    own = [path.split("/")[1] for path in tree.flatten(network.variables)]
    # What is used without being called, such as a parameter of the module's own, last.
    return tuple(dict.fromkeys([*(c for c in called if c in own), *own]))


def _others(
    scorers: Sequence[Scorer], settings: Settings, network: pretrained.Pretrained
) -> tuple[dict[str, Variables], dict[str, str]]:
    """Give the variables of networks that have learned nothing, where metrics ask.

    Returns:
        They, and the hashes of those that come from a file, and of the user's code.
    """
    wanted, found, further = {scorer.needs for scorer in scorers}, {}, {}
    if network.code:
        further[origins.CODE] = network.code
    if "redrawn" in wanted:
        key = jax.random.key(settings.seed)
        drawn = redraw(network.variables, key)
        found["redrawn"] = temperature.restored(drawn, network.variables)
    if "random_labels" in wanted:
        model = settings.model
        if not model.random_labels:
            raise ValueError(
                "`model.random_labels` is missing, the weights of the same network "
                "trained on random labels; expected --config.model.random_labels=FILE."
            )
        other = _load(settings, model.random_labels)
        found["random_labels"] = other.variables
        further["model.random_labels"] = other.sha256
    return found, further


def _parameters(
    names: Sequence[str],
    options: Mapping[str, Mapping[str, object]],
    score: scores.Score | None = None,
) -> dict[str, dict[str, object]]:
    """Give the settings of every method, as changed by `method_options`."""
    found = {name: explainers.settings(name, None, score) for name in names}
    refined = {name: saliency.parted(name) for name in names if "@" in name}
    used = {refinement for _, refinement in refined.values()}
    found |= {each: explainers.defaults(each) for each in used}
    # What is set for a method holds for it with a refinement too.
    alike = {
        group: [n for n in found if n == group or saliency.parted(n)[0] == group]
        for group in options
    }
    given = {n: own for g, own in options.items() for n in alike[g] or [g]}
    metrics.merge(found, given, "method_options", explainers.defaults)
    shared = {each: found.pop(each) for each in used}
    for name, (_, refinement) in refined.items():
        found[name][refinement] = shared[refinement]
    return found

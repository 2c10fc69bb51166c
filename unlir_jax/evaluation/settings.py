"""Every setting of an evaluation, with its default; configs change some of them."""

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from unlir_jax import saliency
from unlir_jax.core import choices, passes
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import presets
from unlir_jax.evaluation import scorers
from unlir_jax.explanation import explainers
from unlir_jax.metrics import spec
from unlir_jax.runtime import config, config_values
from unlir_jax.split import scores

OPTION = re.compile(
    r"(?P<where>(?:--config\.)?(?P<group>method_options|metric_options)\.(?P<name>\w+))"
    r"(?:\.(?P<option>\w+)(?P<value>=.*)?|=(?P<whole>\s*\{.*))",
    re.DOTALL,
)
CENTER = "center"
OPTIONS: Mapping[str, Callable[[str], Record]] = {
    "method_options": explainers.defaults,
    "metric_options": scorers.defaults,
}
"""Groups of settings of single methods and metrics, with their defaults by name."""


def choose(
    argument: str,
    *,
    model: str,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    data: str = "folder",
    method_options: Mapping[str, Document] | None = None,
    metric_options: Mapping[str, Document] | None = None,
    **more: object,
) -> tuple[ConfigDict, types.SimpleNamespace]:
    """Give the settings for a config file, as its argument changes them.

    Args:
        argument: Argument of the config file: `model=…,methods=…+…,metrics=…+…,data=…`.
        model: What is evaluated unless the argument says so.
        methods: Default methods; the methods of `evaluation` if None.
        metrics: Default metrics.
        data: Default data, see `presets.choose_data`.
        method_options: Settings of methods that are not their defaults.
        metric_options: Settings of metrics, without their variants.
        **more: Further arguments of the config file, with their defaults.

    Returns:
        The settings, and all arguments as they were given. Every setting of each method
        and metric that is asked for is there, to be changed on the command line.
    """
    explainers.load_plugins()
    found: Any = evaluation()
    given = config.parse_arguments(
        argument,
        model=model,
        methods="+".join(methods or found.methods),
        metrics="+".join(metrics or found.metrics),
        data=data,
        **more,
    )
    presets.choose_data(found, given.data)
    if given.data == "folder":
        found.data.options = presets.folder_options()
    found.model.name = given.model
    asked: list[str] = given.methods.split("+")
    found.methods = tuple(asked)
    found.metrics = tuple(given.metrics.split("+"))
    plain = dict.fromkeys(p for n in asked for p in explainers.parts_of(n))
    found.method_options = _whole(plain, explainers.defaults, method_options or {})
    plain = (spec.base(name) for name in found.metrics)
    found.metric_options = _whole(plain, scorers.defaults, metric_options or {})
    return found, given


def locating(
    argument: str, methods: Sequence[str], metrics: Sequence[str], *, refine: str
) -> ConfigDict:
    """Give the settings for a config file that asks where objects are.

    Args:
        argument: As in `choose`, with `refine` besides: names in
            `saliency.REFINEMENTS` joined by +, or `none`.
        methods: Default methods.
        metrics: Default metrics.
        refine: Default refinements.

    Returns:
        The settings. Each method is there without and with every refinement, and so is
        the centre, which is a control.

    Raises:
        ValueError: There is no such refinement.
    """
    found: Any
    found, given = choose(
        argument,
        model="efficientnet_lite0",
        methods=methods,
        metrics=metrics,
        refine=refine,
    )
    wanted = [] if given.refine == "none" else given.refine.split("+")
    for name in wanted:
        wrong = f"`refine`={given.refine!r} has {name!r}, which is no refinement"
        choices.pick(name, saliency.REFINEMENTS, wrong)
    plain = [name for name in found.methods if "@" not in name]
    every = (f"{n}@{each}" for n in (*plain, CENTER) for each in wanted)
    found.methods = tuple(dict.fromkeys((*found.methods, *every)))
    for name in wanted:
        found.method_options[name] = explainers.defaults(name)
    found.labels = "predicted"
    return found


def _whole(
    names: Iterable[str],
    defaults: Callable[[str], Record],
    changed: Mapping[str, Document],
) -> dict[str, Record]:
    """Give all settings of what is asked for, and nothing for what is not known."""
    found = {}
    for name in names:
        own = defaults(name)
        whole = dict([scorers.AS_ALL]) if "score" in own else {}
        given = scorers.former(changed.get(name, {}))
        found[name] = own | whole | passes.renamed(own, given, f"{name}.")
    return {name: settings for name, settings in found.items() if settings}


def known(settings: Document) -> Record:
    """Give what each setting meant before there was it, see `workdir.check`."""
    scored = {
        group: {name: dict([scorers.AS_ALL]) for name in settings.get(group, {})}
        for group in OPTIONS
    }
    return config.to_dict(evaluation()) | scored


def renamed(overrides: Sequence[str]) -> list[str]:
    """Call the settings of methods and metrics as their factories do.

    `target` was `score`, and a number of passes has several names, see `core.passes`.

    Raises:
        ValueError: A number of passes is given under two names.
    """
    explainers.load_plugins()
    used: dict[str, Record] = {}
    found = []
    for override in overrides:
        option = OPTION.fullmatch(override)
        if not option:
            found.append(override)
            continue
        where, whole = option["where"], option["whole"]
        known = OPTIONS[option["group"]](option["name"])
        place = f"{where.removeprefix('--config.')}."
        if whole:
            given = _named(config_values.group(where, whole), known)
            found.append(f"{where}={passes.renamed(known, given, place)}")
            continue
        (name,) = _named({option["option"]: None}, known)
        own = used.setdefault(where.removeprefix("--config."), {})
        own[name] = None
        passes.renamed(known, own, place)
        (name,) = passes.renamed(known, {name: None})
        found.append(f"{where}.{name}{option['value'] or ''}")
    return found


def _named(given: Document, known: Document) -> Record:
    return scorers.former(given) if "score" in known else dict(given)


def renewed(settings: Record) -> Record:
    """Bring the settings of an evaluation of an earlier version to today's.

    Before there was `score`, methods had `target`, and configs wrote defaults out.
    """
    found = dict(settings)
    for group, defaults in {} if "score" in settings else OPTIONS.items():
        options = settings.get(group)
        if isinstance(options, Mapping):
            found[group] = {
                name: _renewed(own, defaults(name)) for name, own in options.items()
            }
    return found


def _renewed(options: Any, usual: Document) -> Any:
    if not isinstance(options, Mapping) or "score" not in usual:
        return options
    found = scorers.former(options)
    if isinstance(found.get("score"), str):
        name = scores.SYNONYMS.get(found["score"], found["score"])
        found["score"] = "" if name == usual["score"] else name
    return found


def evaluation() -> ConfigDict:
    """Give the settings of an evaluation, for a config file to fill in."""
    return ConfigDict(
        {
            # Of random maps, baselines, intervals and tests.
            "seed": 0,
            # Over all devices of a process; memory grows with it.
            "batch_size": 16,
            # Of each process; 0: all there are.
            "devices": 0,
            "model": _model(),
            "data": _data(),
            # Which class is explained: the data's own ("true"), the "predicted" one, or
            # the "numbers" with which the names of images begin.
            "labels": "true",
            **_conditions(),
            # What is explained and measured, a name of docs/guides/scores.md; "": each
            # method's and metric's own. Options of single ones go before.
            "score": "",
            # Names of `unlir methods`, and settings of single ones.
            "methods": ("grad_cam", "opti_cam"),
            "method_options": {},
            # Folder of methods from elsewhere, a map for each image, see `given_maps`.
            "maps": "",
            "metrics": (
                "average_drop",
                "average_increase",
                "average_gain",
                "insertion",
                "deletion",
            ),
            "metric_options": {},
            # Scores maps computed without the network as well as all methods.
            "controls": True,
            "statistics": {"confidence": 0.95, "resamples": 10_000},
            # Images of each kind (best, worst, most disputed) in the report.
            "gallery": 3,
        }
    )


def _model() -> dict:
    return {
        # A name of `unlir models`, or the workdir of a training; where it is cut, ""
        # for its last maps. `random_labels` are the weights of the same network
        # trained on random labels, for the sanity check of that name.
        "name": "efficientnet_lite0",
        "weights": config_dict.placeholder(str),
        # Of a file with several: what stands before their names.
        "weights_key": "",
        "layer": "",
        # Divisor of the logits, see `models.temperature`.
        "temperature": 1.0,
        # Of CLIP and SigLIP: a file of texts, which are the classes.
        "texts": "",
        "random_labels": config_dict.placeholder(str),
    }


def _conditions() -> dict:
    return {
        # Classes that are explained one after another, joined by +: label (what
        # `labels` says), predicted, second, least, random; "": by `labels` alone.
        "classes": "",
        # Changes of the images under which all is scored again, joined by +, "none"
        # among them, see docs/guides/evaluate.md; "": none.
        "augmentations": "",
    }


def _data() -> dict:
    return {
        # folder, npz, tfds, elpv or synthetic_parts.
        "source": "folder",
        "path": "",
        # "auto": test, validation or val where there is one, else all.
        "split": "auto",
        # What else the source takes.
        "options": {},
        # Number of images, evenly spread; 0: all.
        "limit": 0,
        # 0: as the network was trained.
        "image_size": 0,
        "crop": 0.0,
        "interpolation": "",
        # Stop at an image that cannot be read, instead of counting it.
        "strict": False,
        # By what a later start tells that the files of the data are those that it began
        # with: times (and sizes), or sizes.
        "compare": "times",
        "workers": 0,
        "threads": 0,
    }

"""Setup of an evaluation of robustness: data, network and attacks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import attacks
from unlir_jax.core import choices
from unlir_jax.core.document_types import Record
from unlir_jax.data import corruptions, source
from unlir_jax.evaluation import images, labels
from unlir_jax.evaluation.robustness import settings as names
from unlir_jax.models import factories, pretrained, temperature
from unlir_jax.runtime import config, ranges
from unlir_jax.runtime.config import Settings

LABELS = ("true", "numbers")


class Task(NamedTuple):
    """Hold what is evaluated, and by what.

    Attributes:
        settings: The settings.
        network: The network.
        data: The images.
        labels: Their classes, `[images]`.
        labelled_by: How classes were found.
        epsilons: Budgets, the smallest first.
        attacks: By name, the attack of each budget, or one without budget.
        corruptions: Names of corruptions.
    """

    settings: Settings
    network: pretrained.Pretrained
    data: source.Source
    labels: np.ndarray
    labelled_by: str
    epsilons: tuple[float, ...]
    attacks: Mapping[str, Sequence[attacks.Attack]]
    corruptions: Sequence[str]

    def about(self) -> Record:
        """Say of what the stored batches have to be."""
        plain = config.to_dict(self.settings)
        kept = (
            "seed",
            "norm",
            "attack_options",
            "quantise",
            "severities",
            "batch_size",
        )
        return {
            "weights": self.network.sha256,
            "epsilons": list(self.epsilons),
            "attacks": list(self.attacks),
            "corruptions": list(self.corruptions),
            **{name: _listed(plain[name]) for name in kept},
        }

    def frame(self) -> Record:
        """Say in which frame images are read, see `pipeline.evaluation`."""
        data, network = self.settings.data, self.network
        return {
            "image_size": data.image_size or network.image_size,
            "crop": data.crop or network.crop,
            "interpolation": data.interpolation or network.interpolation,
        }


def _listed(value: Any) -> Any:
    """Give a value as JSON has it."""
    if isinstance(value, Mapping):
        return {name: _listed(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def prepare(settings: Settings) -> Task:
    """Open the data, load the network and make the attacks.

    Raises:
        ValueError: A setting that makes no sense, or data that the network does not
            fit; the sentence says what would.
    """
    ranges.check(settings)
    if jax.process_count() > 1:
        raise ValueError(
            f"Robustness is evaluated in one process, not {jax.process_count()}; "
            "expected one."
        )
    if settings.labels not in LABELS:
        raise ValueError(f"`labels`={settings.labels!r}; expected one of {LABELS}.")
    chosen = names.corruptions_of(settings.corruptions)
    for severity in settings.severities:
        corruptions.check_severity(severity)
    epsilons = tuple(sorted({float(each) for each in settings.epsilons}))
    check(settings, epsilons, chosen)
    data = images.open_limited(settings.data)
    labels.check_some(settings.labels, data)
    network = _load(settings)
    found, how = labels.explained(
        settings.labels, data, network.class_names, network.module.num_classes
    )
    return Task(
        settings,
        network,
        data,
        found,
        how,
        epsilons,
        made(settings, network.model, epsilons),
        chosen,
    )


def check(settings: Settings, epsilons: Sequence[float], chosen: Sequence[str]) -> None:
    """Refuse attacks that there are not, or that do not measure in the norm.

    Raises:
        ValueError: One of these, nothing to evaluate, or no budget where one is needed.
    """
    if not (settings.attacks or chosen):
        raise ValueError(
            "`attacks` and `corruptions` are empty; expected at least one of either."
        )
    for name in settings.attacks:
        wrong = f"`attacks` has {name!r}, which is not known"
        choices.pick(name, tuple(attacks.ATTACKS), wrong)
        spec = attacks.SPECS[name]
        if settings.norm not in spec.norms:
            known = [n for n, s in attacks.SPECS.items() if settings.norm in s.norms]
            raise ValueError(
                f"`attacks` has {name!r}, which measures in "
                f"{' and '.join(spec.norms)}, not in `norm`={settings.norm!r}; "
                f"expected some of {', '.join(known)}."
            )
        if spec.kind == "budget" and not epsilons:
            raise ValueError(
                f"`epsilons` is empty, but `attacks` has {name!r}, which keeps a "
                "budget; expected some, such as --config.epsilons='(0.01, 0.03)'."
            )
    unknown = set(settings.attack_options) - set(settings.attacks)
    if unknown:
        raise ValueError(
            f"`attack_options` has {sorted(unknown)[0]!r}, which is none of `attacks`; "
            f"expected some of {', '.join(settings.attacks) or 'none'}."
        )


def made(
    settings: Settings, model: Any, epsilons: Sequence[float]
) -> dict[str, Sequence[attacks.Attack]]:
    """Make the attacks, one for each budget where they keep one.

    Raises:
        ValueError: A setting that makes no sense.
    """
    options = settings.attack_options.to_dict()
    found: dict[str, Sequence[attacks.Attack]] = {}
    for name in settings.attacks:
        known = attacks.defaults(name)
        given = options.get(name, {})
        for key in given:
            where = f"`attack_options.{name}` has {key!r}, which is not known"
            choices.pick(key, tuple(known), where)
        shared = {"norm": settings.norm, "quantise": bool(settings.quantise)}
        given = given | {key: each for key, each in shared.items() if key in known}
        budgets = epsilons if attacks.SPECS[name].kind == "budget" else (None,)
        each = ({} if budget is None else {"epsilon": budget} for budget in budgets)
        factory = attacks.ATTACKS[name]
        found[name] = tuple(factory(model, **given, **one) for one in each)
    return found


def _load(settings: Settings) -> pretrained.Pretrained:
    model, data = settings.model, settings.data
    network = factories.load(
        model.name,
        model.weights,
        model.layer or None,
        weights_key=model.weights_key,
        crop=data.crop or None,
        interpolation=data.interpolation or None,
        texts=model.get("texts") or None,
        fold=True,
        seed=settings.seed,
    )
    return temperature.divided(network, model.get("temperature", 1.0))

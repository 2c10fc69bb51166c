"""Every setting of an evaluation of robustness; configs change some of them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from unlir_jax import attacks
from unlir_jax.core import choices
from unlir_jax.core.document_types import Record
from unlir_jax.data import corruptions, presets
from unlir_jax.evaluation import settings as evaluations
from unlir_jax.runtime import config

KIND = "robustness"
EPSILONS = {"linf": "2/255+4/255+8/255", "l2": "0.25+0.5+1", "l1": "4+8+12", "l0": ""}
"""Budgets by norm, unless the argument says so."""
ATTACKS = {
    "linf": "apgd+fmn",
    "l2": "apgd+ddn+fmn",
    "l1": "pgd+fmn",
    "l0": "fmn",
}
OWN = ("norm", "epsilon", "quantise")
"""Settings of attacks that the evaluation decides for all."""
ALL = "all"


def robustness() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    shared: Any = evaluations.evaluation()
    return ConfigDict(
        {
            "kind": KIND,
            # Of random starts, corruptions and intervals.
            "seed": 0,
            "batch_size": 16,
            "model": {
                name: value
                for name, value in shared.model.items()
                if name != "random_labels"
            },
            "data": shared.data,
            # The data's own classes ("true"), or the "numbers" with which the names of
            # images begin.
            "labels": "true",
            # In which changes are measured: linf, l2, l1 or l0.
            "norm": "linf",
            # Largest changes of attacks that keep a budget.
            "epsilons": (),
            # Names of docs/reference/attacks.md, and settings of single ones.
            "attacks": (),
            "attack_options": {},
            # Rounds adversarial images to 256 levels.
            "quantise": False,
            # Names of docs/reference/attacks.md joined by +, "all", or "" for none.
            "corruptions": "",
            "severities": (1, 2, 3, 4, 5),
            # summary.json of another network, whose errors divide this one's, or
            # alexnet for its errors on ImageNet-C; "": none, and the mean of errors is
            # told as they are.
            "reference": "",
            "statistics": {"confidence": 0.95, "resamples": 10_000},
        }
    )


def choose(argument: str, *, model: str) -> ConfigDict:
    """Give the settings for a config file, as its argument changes them.

    Args:
        argument: `model=…,data=…,norm=…,epsilon=…+…,attacks=…+…,corruptions=…`.
        model: What is evaluated unless the argument says so.

    Raises:
        ValueError: An unknown norm, attack, corruption or data set, or a budget that is
            no number.
    """
    found: Any = robustness()
    given = config.parse_arguments(
        argument,
        model=model,
        data="folder",
        norm="linf",
        epsilon="",
        attacks="",
        corruptions="",
    )
    choices.pick(given.norm, tuple(EPSILONS), f"`norm`={given.norm!r} is unknown")
    presets.choose_data(found, given.data)
    if given.data == "folder":
        found.data.options = presets.folder_options()
    found.model.name, found.norm = given.model, given.norm
    corruptions_of(given.corruptions)
    found.corruptions = given.corruptions
    _fill(found, given)
    return found


def _fill(found: Any, given: SimpleNamespace) -> None:
    """Fill in budgets and attacks; "none" stands for no attack."""
    budgets = given.epsilon or EPSILONS[given.norm]
    found.epsilons = tuple(number(each) for each in budgets.split("+") if each)
    named = given.attacks or ("none" if given.corruptions else ATTACKS[given.norm])
    listed = () if named == "none" else tuple(named.split("+"))
    found.attacks = tuple(attacks.SYNONYMS.get(name, name) for name in listed)
    options = {name: options_of(name) for name in found.attacks}
    found.attack_options = {name: each for name, each in options.items() if each}


def number(text: str) -> float:
    """Read a budget, which may be a fraction such as 8/255.

    Raises:
        ValueError: It is neither.

    Example:
        >>> from unlir_jax.evaluation.robustness import settings
        >>> settings.number("51/255")
        0.2
    """
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"`epsilon`={text!r}; expected numbers such as 0.03 or 8/255, joined by +."
        ) from error


def options_of(name: str) -> Record:
    """Give the settings of an attack by default, but for what holds for all.

    Raises:
        ValueError: There is no such attack.
    """
    wrong = f"`attacks` has {name!r}, which is not known"
    choices.pick(name, tuple(attacks.ATTACKS), wrong)
    defaults = attacks.defaults(name)
    return {key: value for key, value in defaults.items() if key not in OWN}


def corruptions_of(value: str) -> Sequence[str]:
    """List the corruptions that a setting names.

    Raises:
        ValueError: There is no such corruption.
    """
    if not value:
        return ()
    names = tuple(corruptions.NAMES) if value == ALL else tuple(value.split("+"))
    for name in names:
        wrong = f"`corruptions` has {name!r}, which is not known"
        choices.pick(name, (*corruptions.NAMES, ALL), wrong)
    return names

"""Scores by name, as configs ask for them, and the settings of each."""

import inspect

from ml_collections import ConfigDict

from unlir_jax.open_set.scores import SCORES

BEST = "best"
"""Name of the combination that is chosen on known classes."""
CANDIDATES = "msp", "max_logit", "energy", "relative_mahalanobis", "fdbd", "react"
"""Scores that `best` can choose, next to the others that are asked for."""
USUAL = "msp+max_logit+energy+relative_mahalanobis+parts+best"


def choose(settings: ConfigDict, names: str) -> None:
    """Fill in the scores, and all settings of each.

    Args:
        settings: See `open_set`.
        names: Names of scores joined by +, or `all`.
    """
    chosen = (*SCORES, BEST) if names == "all" else tuple(names.split("+"))
    settings.scores = chosen
    options = {name: score_settings(name) for name in chosen if name in SCORES}
    settings.score_options = {name: own for name, own in options.items() if own}


def score_settings(name: str) -> dict[str, float | int | str]:
    """List the settings of a score, with their defaults."""
    parameters = inspect.signature(SCORES[name]).parameters.values()
    return {each.name: each.default for each in list(parameters)[1:]}

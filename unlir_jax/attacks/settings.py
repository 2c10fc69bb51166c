"""Checks of settings of attacks without a budget."""

import math


def check_share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"`{name}`={value}; expected a share between 0 and 1.")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a positive number."""
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}`={value}; expected a positive number.")


def check_least(name: str, value: float, least: float) -> None:
    """Refuse what is smaller than `least`, or is no number."""
    if not least <= value < math.inf:
        raise ValueError(f"`{name}`={value}; expected at least {least}.")

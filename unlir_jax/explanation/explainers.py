"""Which explainers are asked for by name, and what they need to be made."""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from unlir_jax import saliency
from unlir_jax.features import receptive_field
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.parts import attribution
from unlir_jax.types import Explainer

DEFAULT = ("grad_cam", "opti_cam")
PARTS = "parts"
"""The class map of a part network, which no other network has."""
MOST_STEPS = 2**31 - 1
"""What an int32 counts, as the programs do."""
KNOWN = (*saliency.METHODS, PARTS)


def default(by_parts: bool) -> tuple[str, ...]:
    """List the explainers that are used unless others are asked for."""
    return (PARTS, *DEFAULT) if by_parts else DEFAULT


def check(
    methods: Sequence[str], steps: int | None = None, *, by_parts: bool = True
) -> tuple[str, ...]:
    """Refuse unknown methods, and a setting that none of them has.

    Args:
        methods: Names in `KNOWN`.
        steps: Of Opti-CAM.
        by_parts: Whether the network decides by parts.

    Returns:
        The methods, each once, in the order given.

    Raises:
        ValueError: So it is; the sentence says which are known.
    """
    known = KNOWN if by_parts else tuple(saliency.METHODS)
    meant = (saliency.SYNONYMS.get(name, name) for name in methods)
    chosen = tuple(dict.fromkeys(meant))
    if not chosen:
        raise ValueError(f"`methods` is empty; expected some of: {', '.join(known)}.")
    for name in chosen:
        if name == PARTS and not by_parts:
            raise ValueError(
                "`method`='parts' shows what parts add, but the network does not "
                "decide by parts; expected the workdir of a part network, or some of: "
                f"{', '.join(known)}."
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"`method`={name!r} is not an explainer; {hint}known: "
                f"{', '.join(known)}."
            )
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"`steps`={steps}; expected 1 to {MOST_STEPS:,}.")
    if steps is not None and not any("steps" in settings(m, None) for m in chosen):
        raise ValueError(
            f"`steps`={steps} is a setting of methods such as opti_cam, but those are "
            f"{', '.join(chosen)}."
        )
    return chosen


def settings(name: str, steps: int | None) -> dict[str, Any]:
    """List a method's settings: its factory's defaults, and what was asked for."""
    found = defaults(name)
    return found | ({} if steps is None or "steps" not in found else {"steps": steps})


def defaults(name: str) -> dict[str, Any]:
    """List the settings of a method's factory; none where there is no such method."""
    if name not in saliency.METHODS:
        return {}
    _, *own = inspect.signature(saliency.METHODS[name]).parameters.values()
    return {setting.name: setting.default for setting in own}


def make(
    name: str,
    network: Pretrained,
    values: dict[str, Any],
    centres: receptive_field.Centres | None = None,
) -> Explainer:
    """Make an explainer of a network.

    Args:
        name: One of `KNOWN`.
        network: What it explains.
        values: Its settings.
        centres: Where the cells of a part network look, see `attribution.class_map`.
    """
    if name == PARTS:
        return attribution.class_map(network, centres)
    return saliency.METHODS[name](network.model, **values)

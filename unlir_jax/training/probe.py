"""Choices that a linear probe's config leaves open: pooling, weight decay and steps."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unlir_jax.core.document_types import Settings
from unlir_jax.features import trunks
from unlir_jax.models import layers
from unlir_jax.training import defaults
from unlir_jax.types import Module

POOLING, WEIGHT_DECAY, STEPS = "probe.pooling", "optimizer.weight_decay", "steps"


class Candidate(NamedTuple):
    """Hold what is chosen together."""

    pooling: str
    weight_decay: float
    steps: int


def left_open(settings: Settings, module: Module, image_size: int) -> tuple[str, ...]:
    """List the settings that are to be chosen.

    Args:
        settings: See `defaults.training`.
        module: The network.
        image_size: Side of the images in pixels.

    Raises:
        ValueError: Something is left open and nothing chooses it, or the settings do
            not allow to choose.
    """
    probe = settings.probe
    if not probe.choose:
        if settings.optimizer.weight_decay is None:
            raise ValueError(
                "`optimizer.weight_decay`=None leaves it open; expected a number, or "
                "probe.choose=True."
            )
        return ()
    if not settings.features.cache or settings.model.decision.name:
        raise ValueError(
            "`probe.choose`=True chooses for a network's own classifier on cached "
            "features; expected features.cache=True and no model.decision, or "
            "probe.choose=False."
        )
    _check_candidates(probe, module)
    pools = hasattr(module, "pooling") and not probe.pooling
    if pools:
        pools = trunks.head_pools(module, image_size, module.pooling)
    found = {
        POOLING: pools,
        WEIGHT_DECAY: settings.optimizer.weight_decay is None,
        STEPS: not settings.steps and not settings.epochs,
    }
    return tuple(name for name, is_open in found.items() if is_open)


def _check_candidates(probe: Settings, module: Module) -> None:
    known = {*layers.POOLS, *layers.ways(module), *defaults.POOLINGS}

    def is_known(how: str) -> bool:
        return how in known or layers.knows_pooling(module, how)

    checks: dict[str, tuple[Callable[..., bool], str]] = {
        "poolings": (is_known, ", ".join(layers.ways(module) or layers.POOLS)),
        "weight_decays": (lambda d: math.isfinite(d) and d >= 0, "numbers from 0"),
        "steps": (lambda steps: steps >= 1, "whole numbers from 1"),
    }
    for name, (check, words) in checks.items():
        values = probe[name]
        if not values or not all(check(value) for value in values):
            raise ValueError(f"`probe.{name}`={values!r}; expected some of: {words}.")
    if layers.ways(module) and not _known(probe.poolings, module):
        raise ValueError(
            f"`probe.poolings`={probe.poolings!r}, but a {type(module).__name__} pools "
            f"in other ways; expected some of: {', '.join(layers.ways(module))}."
        )


def _known(asked: Sequence[str], module: Module) -> tuple[str, ...]:
    return tuple(how for how in asked if layers.knows_pooling(module, how))


def poolings(
    settings: Settings, opened: Sequence[str], module: Module
) -> tuple[str, ...]:
    """List the ways to pool that are tried; none where that is not left open.

    Ways of the settings that the network lacks are left out.
    """
    if POOLING not in opened:
        return ()
    return _known(settings.probe.poolings, module)


def default(
    settings: Settings, opened: Sequence[str], examples: int, module: Module
) -> Candidate:
    """Give what is taken for want of images to hold out, and tried first.

    The network's own pooling, the middle decay, and the fewest steps that show every
    image once, of the first two numbers.
    """
    decays, steps = settings.probe.weight_decays, sorted(settings.probe.steps)[:2]
    enough = [each for each in steps if each * settings.batch_size >= examples]
    usual = enough[0] if enough else steps[-1]
    pooling = settings.probe.pooling
    if POOLING in opened and hasattr(module, "ways"):
        # Whatever it is, its head is one layer on what was pooled.
        pooling = module.pooling or module.ways[0]
    return Candidate(
        pooling,
        decays[len(decays) // 2]
        if WEIGHT_DECAY in opened
        else settings.optimizer.weight_decay,
        usual if STEPS in opened else settings.steps,
    )


def settle(settings: Settings, opened: Sequence[str], candidate: Candidate) -> Settings:
    """Copy settings with what was left open filled in."""
    if not opened:
        return settings
    settled = settings.copy_and_resolve_references()
    with settled.unlocked():
        if POOLING in opened:
            settled.probe.pooling = candidate.pooling
        if WEIGHT_DECAY in opened:
            settled.optimizer.weight_decay = candidate.weight_decay
        if STEPS in opened:
            settled.steps = candidate.steps
    return settled.lock()

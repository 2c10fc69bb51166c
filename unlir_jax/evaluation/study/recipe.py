"""The recipe that all arms of a study share, and how arms are asked for."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import presets
from unlir_jax.evaluation.study import settings as study
from unlir_jax.training import defaults

SMALL = "synthetic_parts"


def training(data: str, model: str, objective: Document) -> ConfigDict:
    """Give the settings of a training from random weights, for arms to change.

    Args:
        data: See `presets.choose_data`.
        model: A name of `unlir models`.
        objective: The group `objective`, with every setting that an arm sets; None
            leaves one to the objective's default.
    """
    settings: Any = defaults.training()
    presets.choose_data(settings, data)
    settings.model.name = model
    settings.model.weights = "random"
    settings.objective = ConfigDict(objective)
    settings.batch_size = batch_size(data)
    settings.data.cache = "memory"
    settings.data.augment = "pad_crop(4)|flip"
    settings.epochs = 30.0
    settings.optimizer.options = {"momentum": 0.9, "nesterov": True}
    settings.optimizer.learning_rate = 0.1
    settings.optimizer.weight_decay = 5e-4
    # Of all arrays alike, for a B-cos network has no biases and scales.
    settings.optimizer.table = ((".*", {}),)
    settings.optimizer.schedule.warmup = 0.1
    if data == SMALL:
        settings.data.options = {"classes": 10, "image_size": 64}
        settings.data.train_options = {"size": 4000}
        settings.data.test_options = {"size": 1000}
        settings.data.image_size = 64
        settings.data.augment = "pad_crop(4)"
        settings.epochs = 5.0
        settings.optimizer.learning_rate = 0.05
    return settings


def batch_size(data: str) -> int:
    """Give the batch size of `training` with that data."""
    return 32 if data == SMALL else 64


def summed(weight: float, data: str) -> float:
    """Give the weight of a term that the source weighs in the sum over a batch.

    Raises:
        ValueError: It is below 0.
    """
    if not weight >= 0:
        raise ValueError(f"`weight`={weight}; expected 0 or more.")
    return weight * batch_size(data)


def choose(
    asked: str, known: Mapping[str, Document], baseline: str, seeds: int
) -> dict[str, Record]:
    """Choose arms by names joined by + or `all`, each with what it sets.

    The baseline is the first, asked for or not.

    Raises:
        ValueError: An arm is unknown, or there is no seed.
    """
    names = [*known] if asked == "all" else asked.split("+")
    for name in names:
        if name not in known:
            raise ValueError(
                f"`arms` has {name!r}; expected some of {', '.join(known)}."
            )
    if seeds < 1:
        raise ValueError(f"`seeds`={seeds}; expected 1 or more.")
    return {name: dict(known[name]) for name in (baseline, *names)}


def variants(arms: Mapping[str, Document], seeds: int) -> dict[str, Record]:
    """Name all arms and seeds, as `get_variants` of a config gives them."""
    return {
        study.name(arm, seed): {**own, "seed": seed}
        for seed in range(seeds)
        for arm, own in arms.items()
    }

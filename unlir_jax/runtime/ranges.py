"""Ranges of all numeric settings by name, checked before any work begins."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from unlir_jax.storage import paths


class Range(NamedTuple):
    """Say which numbers a setting may be.

    Attributes:
        low: The least.
        high: The largest.
        above: Whether `low` itself is none of them.
        below: Whether `high` itself is none of them.
        zero: Meaning of 0, besides the numbers from `low`; "" where for nothing.
    """

    low: int | float
    high: int | float = math.inf
    above: bool = False
    below: bool = False
    zero: str = ""

    def has(self, value: int | float) -> bool:
        """Tell whether a number is among them; NaN and infinity never are."""
        if self.zero and value == 0:
            return True
        lower = self.low < value if self.above else self.low <= value
        upper = value < self.high if self.below else value <= self.high
        return lower and upper and math.isfinite(value)

    def words(self) -> str:
        """Say it for people."""
        kinds = f"{'above' if self.above else 'from'} {self.low:,}"
        if math.isfinite(self.high):
            kinds += f" {'to below' if self.below else 'to'} {self.high:,}"
        return f"a number {kinds}{f', or 0 for {self.zero}' if self.zero else ''}"


# JAX makes a key of 32 bits of a seed, so that greater ones would be equal to others.
SEED = Range(0, 2**32 - 1)
# Steps are counted by 32 bits.
MOST_STEPS = 2**31 - 1
COUNT = Range(0, MOST_STEPS)
# An image of 4,096 pixels squared takes 200 MB as numbers.
MOST_SIDE, MOST_BATCH, MOST_READERS = 4096, 2**20, 1024

RANGES: dict[str, Range] = {
    "seed": SEED,
    "batch_size": Range(1, MOST_BATCH),
    "steps": COUNT,
    "epochs": Range(0, 1e9),
    "average": Range(0, 1, below=True),
    "data.image_size": Range(1, MOST_SIDE, zero="what the network is made for"),
    # A crop of a twentieth enlarges images by twenty.
    "data.crop": Range(0.05, 1, zero="what the weights want"),
    "data.workers": Range(0, MOST_READERS),
    "data.threads": Range(0, MOST_READERS),
    "data.limit": COUNT,
    "model.temperature": Range(0, 1e6, above=True),
    "start.labels_per_class": COUNT,
    "probe.weight_decays": Range(0),
    "probe.steps": Range(1, MOST_STEPS),
    "objective.label_smoothing": Range(0, 1, below=True),
    "objective.mixup": Range(0),
    "objective.cutmix": Range(0),
    "objective.epsilon": Range(0),
    "objective.step_size": Range(0),
    "objective.steps": Range(1, 1000, zero="as many as the method usually takes"),
    "objective.evaluation_steps": Range(0, 1000),
    "objective.sigma": Range(0),
    "penalty.weight": Range(0),
    "optimizer.learning_rate": Range(0, 1e30),
    "optimizer.weight_decay": Range(0),
    "optimizer.clip_norm": Range(0),
    "optimizer.accumulate": Range(1, MOST_BATCH),
    "optimizer.schedule.warmup": Range(0, 1),
    "optimizer.schedule.final": Range(0, 1),
    "optimizer.schedule.milestones": Range(0, 1),
    "optimizer.schedule.factor": Range(0),
    "evaluate.every": COUNT,
    "checkpoint.every": COUNT,
    "checkpoint.keep_last": Range(1, MOST_STEPS),
    "mesh.shard_above": Range(0),
    "log.every": Range(1, MOST_STEPS),
    # Of evaluations.
    "devices": COUNT,
    "gallery": Range(0, 1000),
    "statistics.confidence": Range(0, 1, above=True, below=True),
    "statistics.resamples": Range(1, 10**7),
    # Of attacks and corruptions; an epsilon counts pixels for l0.
    "epsilons": Range(0, 1e9),
    "severities": Range(1, 5),
    "robustness.steps": Range(1, 10**5),
    "robustness.linf": Range(0, 1, above=True),
    "robustness.l2": Range(0, 1e9, above=True),
    "robustness.distance_steps": Range(0, 10**5),
    # Settings of learning from few images.
    "k": Range(1, MOST_STEPS),
    "ways": COUNT,
    "draws": Range(1, 10**6),
    "shots": Range(1, MOST_STEPS),
    "head_rate": Range(0, above=True),
    "crops": COUNT,
    # Settings of open sets.
    "splits": Range(1, 10**4),
    "known": Range(0, 1, above=True),
    "label_smoothing": Range(0, 1, below=True),
    "kept": Range(0, 1, above=True, below=True),
    "detectors.parts": Range(1, 10**5),
    "detectors.images": Range(1, 10**7),
    # Settings of weakly supervised detection.
    "data.holdout": Range(0, 1, below=True),
    "data.first_pixel": Range(0, 1),
    "data.scenes.train": Range(1, 10**6),
    "data.scenes.test": Range(1, 10**6),
    "data.scenes.image_size": Range(32, MOST_SIDE),
    "data.scenes.classes": Range(2, 4),
    "data.scenes.seed": SEED,
    "image_size": Range(1, MOST_SIDE, zero="that of the network"),
    "features.dimensions": Range(1, 10**5),
    "features.images": Range(1, 10**7),
    "windows.scales": Range(0, 1, above=True),
    "windows.ratios": Range(0, above=True),
    "windows.step": Range(0, 1, above=True),
    "windows.context": Range(1),
    "wsddn.temperature": Range(0, above=True),
    "wsddn.regulariser": Range(0),
    "oicr.stages": Range(1, 100),
    "oicr.foreground": Range(0, 1),
    "oicr.background": Range(0, 1),
    "oicr.first": Range(0),
    "windows.exponent": Range(0, 10),
    "windows.attention": Range(0, 10),
    "nms": Range(0, 1),
    "voting": Range(0, 1, above=True),
}
"""Of settings that stand in any config, by their whole name."""

CHOICES: dict[str, tuple[str, ...]] = {
    "data.compare": ("times", "sizes"),
    # Those of `jax.lax.Precision`.
    "model.precision": (
        *("highest", "high", "default"),
        *("float32", "tensorfloat32", "bfloat16", "fastest"),
    ),
    "mesh.mode": ("jit", "pmap"),
}
"""Of settings that no one else looks at before work begins."""


def check(settings: Any) -> None:
    """Refuse settings that make no sense whatever the data and the network are.

    Args:
        settings: A config, or its dictionary; None stands for what is left open, and a
            sequence is looked at number by number.

    Raises:
        ValueError: Names the setting, its value and what is expected.

    Example:
        >>> from unlir_jax.runtime import ranges
        >>> ranges.check({"seed": 3, "data": {"crop": 0.875}})
    """
    for name, value in _leaves(settings):
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            if each is not None:
                check_one(name, each)


def check_one(name: str, value: Any) -> None:
    """Refuse a value of one setting; see `check`."""
    allowed = CHOICES.get(name)
    if allowed is not None and value not in allowed:
        raise ValueError(
            f"`{name}`={paths.shown(str(value))}; expected one of "
            f"{', '.join(map(repr, allowed))}."
        )
    wanted = RANGES.get(name)
    if wanted is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not wanted.has(value):
        text = paths.shown(str(value)).replace("'", "") if number else repr(value)
        raise ValueError(f"`{name}`={text}; expected {wanted.words()}.")


def _leaves(settings: Any, above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) or hasattr(value, "to_dict"):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value

"""mIoU of segments at a background that other images have chosen, with intervals."""

from collections.abc import Mapping

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Record
from unlir_jax.runtime.config import Settings
from unlir_jax.weak_detection import seeds

Counts = Mapping[str, np.ndarray]


def measure(
    both: Counts, either: Counts, settings: Settings
) -> tuple[dict[str, tuple[int, int]], Record]:
    """Choose backgrounds, and measure mIoU of all methods.

    Images at even places are cut where those at odd places are best, and the other way
    round. Intervals draw images anew, the same for all methods.

    Args:
        both: By method, `[images, backgrounds, classes]`, see `metrics.class_counts`.
        either: The same.
        settings: See `segmentation.segmentation`.

    Returns:
        The place of the background of either half by method, and figures: `M/miou`
        with an interval, `M/classes` with the IoU of each class, None for one that is
        nowhere, and `differences`, of pairs on the same images.
    """
    chosen, cut = {}, {}
    for name in both:
        chosen[name], cut[name] = _cut(both[name], either[name])
    count = len(next(iter(cut.values()))[0])
    random = np.random.default_rng(settings.seed)
    resamples = settings.statistics.resamples
    drawn = random.multinomial(count, np.full(count, 1 / count), resamples)
    tail = 50 * (1 - settings.statistics.confidence)
    means: dict[str, tuple[float, np.ndarray]] = {}
    figures: Record = {}
    for name, pair in cut.items():
        whole = metrics.overlaps_of_counts(*(each.sum(0) for each in pair))
        again = zip(*(drawn @ each for each in pair), strict=True)
        means[name] = (
            whole.mean,
            np.asarray([metrics.overlaps_of_counts(*each).mean for each in again]),
        )
        figures[f"{name}/miou"] = _interval(*means[name], tail) | {"n": count}
        figures[f"{name}/classes"] = [
            None if np.isnan(each) else float(each) for each in whole.each
        ]
    figures["differences"] = {
        f"{name} - {other}": _interval(
            means[name][0] - means[other][0], means[name][1] - means[other][1], tail
        )
        for name in means
        for other in _others(name)
    }
    return chosen, figures


def _others(name: str) -> list[str]:
    """Name what a method is compared with: unrefined maps, and the centre like it."""
    plain, _, how = name.partition("@")
    refined = f"@{how}" if how else ""
    found = [plain] if how else []
    return found + ([f"{seeds.CENTER}{refined}"] if plain == seeds.PLAIN else [])


def _cut(
    both: np.ndarray, either: np.ndarray
) -> tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Take each image where the images of the other half are best."""
    even = np.arange(len(both)) % 2 == 0
    places = np.zeros(len(both), int)
    chosen = []
    for half in (even, ~even):
        # A half without another one chooses for itself.
        others = ~half if (~half).any() else half
        sums = both[others].sum(0), either[others].sum(0)
        each = [
            metrics.overlaps_of_counts(*pair).mean for pair in zip(*sums, strict=True)
        ]
        chosen.append(int(np.argmax(each)))
        places[half] = chosen[-1]
    rows = np.arange(len(both))
    return (chosen[0], chosen[1]), (both[rows, places], either[rows, places])


def _interval(mean: float, drawn: np.ndarray, tail: float) -> Record:
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return {"mean": float(mean), "low": float(low), "high": float(high)}

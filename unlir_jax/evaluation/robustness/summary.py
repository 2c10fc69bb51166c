"""Figures of an evaluation of robustness, from what is kept of each image."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data.corruptions import SEVERITIES
from unlir_jax.statistics import intervals, proportions
from unlir_jax.statistics.intervals import Interval

Table = Mapping[str, np.ndarray]
ALEXNET = {
    **{"gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640},
    **{"defocus_blur": 0.819880, "glass_blur": 0.826268, "motion_blur": 0.785948},
    **{"zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572, "fog": 0.819324},
    **{"brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056},
    **{"pixelate": 0.717840, "jpeg_compression": 0.606500},
}
"""Mean errors of AlexNet on ImageNet-C, from github.com/hendrycks/robustness."""
ALEXNET_CLEAN = 0.43478
"""Its error on ImageNet, of torchvision's weights."""
EVERY = "all"
"""Name of the envelope: for each image, the best of all attacks."""
MOST_POINTS = 200
"""Most points of a curve in the summary."""


def summarise(table: Table, about: Document) -> Record:
    """Put the figures together.

    Args:
        table: What is kept of all readable images, see `scoring.score`.
        about: `attacks`, `budgeted`, `epsilons`, `corruptions`, `severities`, `norm`
            and `statistics` of the evaluation.

    Returns:
        Figures by name, each with `mean`, `low`, `high` and `n`: `accuracy`; for each
        attack, and for `all` of them, `NAME/robust_accuracy@EPSILON` and
        `NAME/success`; for attacks without budget, and for `all`, `NAME/mean` and
        `NAME/median` of the distance where they succeed. Further `NAME/failures`,
        `NAME/optimality`, `NAME/gradients` and `NAME/forwards`, which are numbers.
        `curves` has the operating characteristics, and `corruptions` the accuracy by
        name and severity.
    """
    right = table["predicted"] == table["label"]
    confidence = about["statistics"]["confidence"]
    found: Record = {"accuracy": _share(right, confidence)}
    distances = {name: table[f"distance/{name}"] for name in about["attacks"]}
    if distances:
        every = np.min(np.stack(list(distances.values())), axis=0)
        distances[EVERY] = every
        found["curves"] = {}
        for name, distance in distances.items():
            found |= _attack(name, distance, every, table, about)
            found["curves"][name] = curve(distance[right])
    if about["corruptions"]:
        found["corruptions"] = {
            name: [
                _share(table[f"corruption/{name}"][:, place], confidence)
                for place in range(len(about["severities"]))
            ]
            for name in about["corruptions"]
        }
    return found


def _attack(
    name: str, distance: np.ndarray, every: np.ndarray, table: Table, about: Document
) -> Record:
    """Give the figures of one attack, or of all."""
    right = table["predicted"] == table["label"]
    options = about["statistics"]
    own, success = distance[right], np.isfinite(distance[right])
    found: Record = {"failures": int((~success).sum())}
    for epsilon in about["epsilons"]:
        held = right & ~within(distance, epsilon)
        robust = _share(held, options["confidence"])
        found[f"robust_accuracy@{epsilon:.6g}"] = robust
    if len(own):
        found["success"] = _share(success, options["confidence"])
    if success.any() and name not in about["budgeted"]:
        for statistic in ("mean", "median"):
            found[statistic] = _figure(
                intervals.bootstrap(
                    own[success],
                    confidence=options["confidence"],
                    resamples=options["resamples"],
                    seed=about["seed"],
                    statistic=statistic,
                )
            )
    found["optimality"] = optimality(own, every[right])
    if name != EVERY and len(own):
        for passes in ("gradients", "forwards"):
            found[passes] = float(table[f"{passes}/{name}"][right].mean())
    return {f"{name}/{key}": value for key, value in found.items()}


def within(distance: np.ndarray, epsilon: float) -> np.ndarray:
    """Tell which distances a budget allows, up to rounding."""
    return distance <= epsilon * (1 + 1e-5)


def optimality(distance: np.ndarray, best: np.ndarray) -> float | None:
    """Compare an attack with the envelope of all, 1 where it is nowhere worse.

    `1 - (A - A*) / (M - A*)`, where `A` is the area under the robust accuracy over the
    distance up to the largest of the envelope, `A*` that of the envelope, and `M` that
    of an attack that never succeeds.

    Args:
        distance: Distances of images that the network gets right, infinity where it
            stays right.
        best: The least distance that any attack has found.

    Returns:
        A number up to 1; None where no attack succeeds, or all distances are one.

    References:
        Cina et al., *AttackBench: Evaluating Gradient-based Attacks for Adversarial
        Examples*, AAAI 2025, Section 3.3.

    Note:
        Areas lie under step functions from 0, where the authors' code takes
        trapezia from the least distance.

    Example:
        >>> import numpy as np
        >>> from unlir_jax.evaluation.robustness.summary import optimality
        >>> best = np.asarray([1.0, 2.0])
        >>> optimality(best, best), optimality(np.asarray([np.inf, 2.0]), best)
        (1.0, 0.0)
    """
    found = best[np.isfinite(best)]
    if not len(found):
        return None
    most = float(found.max())
    area, least = (float(np.minimum(each, most).sum()) for each in (distance, best))
    rest = most * len(best) - least
    return 1 - (area - least) / rest if rest > 0 else None


def curve(distance: np.ndarray) -> Record:
    """Give the operating characteristic: the share of images within each distance.

    Args:
        distance: Distances of images that the network gets right, infinity where it
            stays right.

    Returns:
        `distance` and `share`, ascending, of at most 200 points.
    """
    ordered = np.sort(distance[np.isfinite(distance)])
    if not len(ordered):
        return {"distance": [], "share": []}
    shares = np.arange(1, len(ordered) + 1) / len(distance)
    count = min(len(ordered), MOST_POINTS)
    kept = np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))
    return {"distance": ordered[kept].tolist(), "share": shares[kept].tolist()}


def corruption_errors(summary: Document, reference: Document | None) -> Record:
    """Average the errors under corruptions, with a reference network or without.

    With one, `mce` is the mean over corruptions of the sum of errors over severities
    divided by that of the reference, and `relative_mce` the same of the errors above
    those on clean images. Both are shares: 1 is as bad as the reference.

    Args:
        summary: See `summarise`.
        reference: The same of another network on the same data, or None.

    Returns:
        `mean_corruption_error`, and with a reference `mce` and `relative_mce`.

    Raises:
        ValueError: The reference has other corruptions, severities or images, or makes
            no error.

    References:
        Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common
        Corruptions and Perturbations*, ICLR 2019, Section 4.
    """
    own = errors(summary)
    every = [error for each in own.values() for error in each]
    found: Record = {"mean_corruption_error": float(np.mean(every))}
    if reference is None:
        return found
    _check_alike(summary, reference)
    theirs = errors(reference)
    clean, other = (1 - each["accuracy"]["mean"] for each in (summary, reference))
    ratios, relative = [], []
    for name, each in own.items():
        total, base = math.fsum(each), math.fsum(theirs[name])
        if base <= 0:
            raise ValueError(
                f"`reference` makes no error under {name!r}; expected a network that "
                "makes some."
            )
        ratios.append(total / base)
        risen = base - other * len(each)
        relative.append((total - clean * len(each)) / risen if risen > 0 else np.nan)
    found["mce"] = float(np.mean(ratios))
    known = [each for each in relative if np.isfinite(each)]
    # Of a corruption that does not harm the reference, no share can be given.
    found["relative_mce"] = float(np.mean(known)) if len(known) == len(own) else None
    return found


def alexnet(about: Document) -> Record:
    """Give the errors of AlexNet on ImageNet-C in the form of a summary.

    Args:
        about: `corruptions`, whose order is kept, and `images` of the evaluation.
    """
    shares = {
        name: [{"mean": 1 - ALEXNET[name]}] * len(SEVERITIES)
        for name in about["corruptions"]
    }
    known = {"severities": list(SEVERITIES)}
    return {
        "about": {name: about[name] for name in ("corruptions", "images")} | known,
        "accuracy": {"mean": 1 - ALEXNET_CLEAN},
        "corruptions": shares,
    }


def errors(summary: Document) -> dict[str, list[float]]:
    """Give the errors under each corruption, severity by severity."""
    return {
        name: [1 - each["mean"] for each in shares]
        for name, shares in summary["corruptions"].items()
    }


def _check_alike(summary: Document, reference: Document) -> None:
    about = reference.get("about", {})
    for name in ("corruptions", "severities", "images"):
        mine, other = summary["about"][name], about.get(name)
        if mine != other:
            raise ValueError(
                f"`reference` has {name} {other!r:.200}; expected {mine!r:.200}, as "
                "this evaluation has."
            )


def _share(items: np.ndarray, confidence: float) -> Record:
    return _figure(
        proportions.wilson(int(items.sum()), len(items), confidence=confidence)
    )


def _figure(found: Interval) -> Record:
    values: dict[str, Any] = {name: float(getattr(found, name)) for name in _ENDS}
    return values | {"n": found.n}


_ENDS: Sequence[str] = ("mean", "low", "high")

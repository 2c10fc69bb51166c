"""Agreement of a classifier's probabilities with how often it is right."""

import numpy as np
import scipy

from unlir_jax.types import Array

LEAST, MOST = 0.01, 100.0
"""Between which temperatures are fitted."""


def negative_log_likelihood(
    logits: Array, labels: Array, temperature: float = 1.0
) -> float:
    """Average -log p of the right class, in nats.

    Args:
        logits: `[images, classes]`.
        labels: `[images]`, integers in [0, classes).
        temperature: What logits are divided by, above 0.

    Raises:
        ValueError: Other shapes, a label that is no class, logits that are not finite,
            or no temperature.

    Example:
        >>> import numpy as np
        >>> negative_log_likelihood(np.zeros((3, 2)), np.asarray([0, 1, 1]))
        0.6931471805599453
    """
    return float(negative_log_likelihoods(logits, labels, temperature).mean())


def negative_log_likelihoods(
    logits: Array, labels: Array, temperature: float = 1.0
) -> np.ndarray:
    """Give -log p of the right class of each image, `[images]`, in nats.

    Takes and refuses what `negative_log_likelihood` does.
    """
    scores, right = _checked(logits, labels)
    logs = _log_probabilities(scores, _checked_temperature(temperature))
    return -logs[np.arange(len(right)), right]


def expected_calibration_error(
    logits: Array, labels: Array, temperature: float = 1.0, *, bins: int = 15
) -> float:
    """Average |accuracy - confidence| over bins of equal width, weighted by their size.

    Confidence is the largest probability; bin m holds those in ((m - 1) / bins,
    m / bins].

    Args:
        logits: `[images, classes]`.
        labels: `[images]`, integers in [0, classes).
        temperature: What logits are divided by, above 0.
        bins: Number of bins, at least 1.

    Returns:
        A number in [0, 1]; with few images it is above 0 by chance.

    Raises:
        ValueError: As `negative_log_likelihood`, or no bins.

    References:
        Guo, Pleiss, Sun & Weinberger, *On Calibration of Modern Neural Networks*, ICML
        2017, Eq. 3.

    Example:
        >>> import numpy as np
        >>> logits = np.log([[0.75, 0.25], [0.75, 0.25]])  # Right once in two.
        >>> round(expected_calibration_error(logits, np.asarray([0, 1])), 6)
        0.25
    """
    scores, right = _checked(logits, labels)
    if bins < 1:
        raise ValueError(f"`bins`={bins}; expected at least 1.")
    logs = _log_probabilities(scores, _checked_temperature(temperature))
    confidence = np.exp(logs.max(1))
    correct = scores.argmax(1) == right
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # The share of a bin times its gap: the counts cancel.
    gaps = np.bincount(places, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def fit_temperature(logits: Array, labels: Array) -> float:
    """Find what to divide logits by, so that the right classes are most likely.

    Dividing changes no prediction.

    Args:
        logits: `[images, classes]`, of images that the network was not trained on.
        labels: `[images]`, integers in [0, classes).

    Returns:
        The temperature with the least negative log-likelihood, in [0.01, 100]. Where
        every image is right, it is one at which all is sure.

    Raises:
        ValueError: As `negative_log_likelihood`.

    References:
        Guo, Pleiss, Sun & Weinberger, *On Calibration of Modern Neural Networks*, ICML
        2017, Section 4.2.

    Example:
        >>> import numpy as np
        >>> logits = 2 * np.log([[0.75, 0.25]] * 4)  # Right three times in four.
        >>> round(fit_temperature(logits, np.asarray([0, 0, 0, 1])), 4)
        2.0
    """
    scores, right = _checked(logits, labels)

    def loss(log_temperature: float) -> float:
        logs = _log_probabilities(scores, np.exp(log_temperature))
        return float(-logs[np.arange(len(right)), right].mean())

    # The loss is convex in 1 / temperature, so it has one valley here too.
    found = scipy.optimize.minimize_scalar(
        loss,
        bounds=(np.log(LEAST), np.log(MOST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _checked(logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    scores, right = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or right.shape != scores.shape[:1] or not scores.size:
        raise ValueError(
            f"`logits` has shape {scores.shape} and `labels` {right.shape}; expected "
            "[images, classes] and [images], with at least one image."
        )
    if not np.isfinite(scores).all():
        wrong = int(np.count_nonzero(~np.isfinite(scores)))
        raise ValueError(
            f"`logits` holds {wrong} values that are not finite; expected numbers."
        )
    if not np.issubdtype(right.dtype, np.integer) or not (
        0 <= right.min() and right.max() < scores.shape[1]
    ):
        raise ValueError(
            f"`labels` goes from {right.min()} to {right.max()}; expected integers "
            f"from 0 to {scores.shape[1] - 1}."
        )
    return scores, right


def _checked_temperature(temperature: float) -> float:
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"`temperature`={temperature}; expected a finite number above 0."
        )
    return temperature


def _log_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    return scipy.special.log_softmax(logits / temperature, axis=1)

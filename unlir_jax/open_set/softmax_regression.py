"""Softmax regression of frozen features, with smoothed labels."""

import numpy as np
import scipy

from unlir_jax.open_set.scores.spec import Linear

PENALTY, STEPS = 1e-2, 200


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    smoothing: float = 0.0,
    penalty: float = PENALTY,
) -> Linear:
    """Minimise the mean cross-entropy plus penalty / 2 times the squared kernel.

    The target of an image is `(1 - smoothing) onehot + smoothing / classes`. Features
    are centred, and divided by the standard deviation of all of them together.

    Args:
        features: `[images, channels]`.
        labels: `[images]`, 0 to `classes - 1`.
        classes: Number of classes.
        smoothing: In [0, 1).
        penalty: Above 0, of the kernel of such features.

    Raises:
        ValueError: A setting that makes no sense, or features that are all equal.

    References:
        Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, *Rethinking the Inception
        Architecture for Computer Vision*, CVPR 2016, Section 7.
    """
    if not 0 <= smoothing < 1 or not penalty > 0:
        raise ValueError(
            f"`smoothing`={smoothing} and `penalty`={penalty}; expected a share in "
            "[0, 1), and a number above 0."
        )
    rows = np.asarray(features, np.float64)
    mean = rows.mean(0)
    scale = float(np.std(rows - mean))
    if not scale > 0:
        raise ValueError(
            f"`features` holds {len(rows)} equal rows; expected some that differ."
        )
    known = (rows - mean) / scale
    targets = np.full((len(rows), classes), smoothing / classes)
    targets[np.arange(len(rows)), labels] += 1 - smoothing
    count, channels = known.shape

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = flat[classes:].reshape(channels, classes), flat[:classes]
        logs = scipy.special.log_softmax(known @ kernel + bias, axis=1)
        away = (np.exp(logs) - targets) / count
        value = -np.sum(targets * logs) / count + penalty / 2 * np.sum(kernel**2)
        slope = known.T @ away + penalty * kernel
        return float(value), np.concatenate([away.sum(0), slope.ravel()])

    begun = np.zeros(classes * (channels + 1))
    found = scipy.optimize.minimize(
        loss, begun, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    ).x
    kernel = found[classes:].reshape(channels, classes) / scale
    return Linear(kernel, found[:classes] - mean @ kernel)

"""Linear discriminant analysis with a shrunken covariance, in closed form."""

import numpy as np
from jaxtyping import Float, Integer

from unlir_jax.types import Array


def classifier(
    descriptors: Float[Array, "pictures channels"],
    labels: Integer[Array, " pictures"],
    classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit classes of one covariance (Fisher, 1936): `descriptors @ kernel + bias`.

    With few images their covariance within classes is no use by itself; it is mixed
    with a multiple of the identity, as much of it as Ledoit and Wolf (Journal of
    Multivariate Analysis 2004, section 3) estimate. Where images of a class do not
    differ at all, as with one of each, only the identity is left: the nearest mean.

    Args:
        descriptors: Descriptors of the images.
        labels: 0 to `classes - 1`, each of them at least once.
        classes: Number of classes.

    Returns:
        The kernel, `[channels, classes]`, and the bias, `[classes]`.

    Raises:
        ValueError: A class has no image, or all descriptors are the same.
    """
    rows, labels = np.asarray(descriptors, np.float64), np.asarray(labels)
    counts = np.bincount(labels, minlength=classes)
    if len(counts) != classes or not counts.all():
        raise ValueError(
            f"`labels` has {len(np.unique(labels))} classes of 0 to {labels.max()}; "
            f"expected each of {classes}."
        )
    middle = rows.mean(0)
    means = np.stack([rows[labels == label].mean(0) for label in range(classes)])
    means -= middle
    covariance, share = shrunken(rows - middle - means[labels])
    if share == 1 and not covariance.any():
        spread = np.mean(np.square(means))
        if not spread > 0:
            raise ValueError(
                f"{len(rows)} images have one and the same descriptor; expected some "
                "that differ."
            )
        covariance = spread * np.eye(rows.shape[1])
    kernel = np.linalg.solve(covariance, means.T)
    bias = np.log(counts / len(rows)) - np.sum(means.T * kernel, 0) / 2
    bias -= middle @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)


def shrunken(rows: Float[Array, "pictures channels"]) -> tuple[np.ndarray, float]:
    """Estimate a covariance, and how much of it is identity.

    Args:
        rows: Whose mean is zero.

    Returns:
        The covariance, `[channels, channels]`, and the share of the identity in it.
    """
    count, channels = rows.shape
    sample = rows.T @ rows / count
    size = np.trace(sample) / channels
    away = np.sum(np.square(sample)) - channels * size**2
    fourth = np.sum(np.square(np.sum(np.square(rows), 1))) / count
    error = max((fourth - np.sum(np.square(sample))) / count, 0.0)
    share = min(error / away, 1.0) if away > 0 else 1.0
    return (1 - share) * sample + share * size * np.eye(channels), float(share)

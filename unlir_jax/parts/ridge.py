"""Linear classifiers in closed form, from the inner products of examples alone.

Descriptors of many parts have far more numbers than there are images: the classifier
is then a combination of the images, and only their inner products are needed.
"""

from typing import NamedTuple, cast

import numpy as np

from unlir_jax.types import Array

PENALTIES = tuple(float(10.0**power) for power in np.arange(-6.0, 0.6, 0.5))
TEMPERATURES = tuple(float(2.0**power) for power in np.arange(0.0, 8.1, 0.5))


class Ridge(NamedTuple):
    """Hold a classifier as a combination of examples.

    Attributes:
        dual: `[examples, classes]`; the kernel is `descriptors.T @ dual`, of
            descriptors whose mean over the examples has been taken off.
        bias: `[classes]`.
        penalty: Chosen penalty, as a share of the mean squared norm of an example.
        temperature: What the outputs were multiplied by to make logits of them.
        accuracy: Share of the examples that are classified rightly when each is left
            out in turn.
    """

    dual: np.ndarray
    bias: np.ndarray
    penalty: float
    temperature: float
    accuracy: float


def solve(
    products: Array,
    labels: Array,
    classes: int,
    *,
    penalties: tuple[float, ...] = PENALTIES,
) -> Ridge:
    """Fit one-against-all ridge regression and scale it to logits.

    Penalty and scale are those with which an example that is left out gets the largest
    probability of its class, in the mean of the logarithm; leaving out needs no new
    fit: with the hat matrix H, the residual of example i becomes r_i / (1 - H_ii)
    (Allen's PRESS; Golub, Heath and Wahba, Technometrics 1979, Eq. 1.4).

    Args:
        products: Inner products of all pairs of examples, `[examples, examples]`,
            after the mean of their descriptors has been taken off.
        labels: Integers, `[examples]`.
        classes: Number of classes.
        penalties: To choose from, as shares of the mean of the products' diagonal.

    Raises:
        ValueError: There are fewer than two examples, or they are all the same; a class
            has none; a label is no class; or a penalty is not above 0.
    """
    products = np.asarray(products, np.float64)
    labels, examples = np.asarray(labels), len(products)
    _check(labels, classes, penalties)
    size = np.trace(products) / max(examples, 1)
    if examples < 2 or not size > 0:
        raise ValueError(
            f"{examples} examples of mean squared norm {size:g} give no classifier; "
            "expected two or more that differ."
        )
    hot = np.eye(classes)[labels]
    shares = hot.mean(0)
    values, vectors = np.linalg.eigh(products / size)
    values = np.maximum(values, 0)
    turned = vectors.T @ (hot - shares)
    best: tuple[float, ...] = (np.inf,)
    for penalty in penalties:
        kept = values / (values + penalty * examples)
        fitted = shares + vectors @ (kept[:, None] * turned)
        leverage = np.square(vectors) @ kept + 1 / examples
        left_out = hot - (hot - fitted) / np.maximum(1 - leverage, 1e-6)[:, None]
        correct = np.mean(left_out.argmax(1) == labels)
        for temperature in TEMPERATURES:
            loss = _loss(temperature * left_out, labels)
            best = min(best, (loss, penalty, temperature, correct))
    # A finite loss has taken the place of the first.
    _, penalty, temperature, correct = cast(tuple[float, float, float, float], best)
    solved = vectors @ (turned / (values + penalty * examples)[:, None]) / size
    return Ridge(
        (temperature * solved).astype(np.float32),
        (temperature * shares).astype(np.float32),
        penalty,
        temperature,
        float(correct),
    )


def classifier(
    descriptors: Array,
    labels: Array,
    classes: int,
    *,
    penalties: tuple[float, ...] = PENALTIES,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit `solve` to descriptors: `logits = descriptors @ kernel + bias`.

    For few labels on descriptors that were learnt without any, for example.

    Args:
        descriptors: `[examples, channels]`.
        labels: Integers, `[examples]`.
        classes: Number of classes.
        penalties: See `solve`.

    Returns:
        The kernel, `[channels, classes]`, and the bias, `[classes]`.

    Raises:
        ValueError: See `solve`.
    """
    descriptors = np.asarray(descriptors, np.float64)
    mean = descriptors.mean(0)
    centred = descriptors - mean
    solved = solve(centred @ centred.T, labels, classes, penalties=penalties)
    kernel = (centred.T @ solved.dual).astype(np.float32)
    return kernel, (solved.bias - mean @ kernel).astype(np.float32)


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Average the cross-entropy."""
    top = logits.max(1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(logits - top).sum(1))
    return float(np.mean(total - logits[np.arange(len(labels)), labels]))


def _check(labels: np.ndarray, classes: int, penalties: tuple[float, ...]) -> None:
    if not penalties or not min(penalties) > 0:
        raise ValueError(f"`penalties`={penalties}; expected numbers above 0.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"`labels` run from {labels.min()} to {labels.max()}; expected 0 to "
            f"{classes - 1}."
        )
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        raise ValueError(
            f"`labels` has no example of class {absent[0]}; expected at least one of "
            f"each of the {classes} classes."
        )

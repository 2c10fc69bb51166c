"""Scores: the one number an image that is explained, and whose change is measured.

Explainers and metrics take `score=` with the names below. A score is a function of the
logits, `(logits, labels) -> [batch]`, for each image on its own. A probability has
bounds; of any other score, metrics that need [0, 1] take the share of the image, see
`relative`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import choices, memoize
from unlir_jax.split import dense, rows
from unlir_jax.split.functions import meaningless
from unlir_jax.types import Array, Labels, Logits, PyTree

Function = Callable[[PyTree, PyTree], jax.Array]
"""`(logits, labels) -> [batch]`, for each image on its own."""

EXPECTED = "a class, several classes, or a function (logits, labels) -> [batch]"


# No NamedTuple: JAX refers weakly to what it compiles, and takes tuples for arrays.
@dataclasses.dataclass(frozen=True)
class Score:
    """Describe a score; calling it gives the numbers, `(logits, labels) -> [batch]`.

    Attributes:
        name: Name, as contracts record it.
        of: Function `(logits, labels) -> [batch]`.
        meaning: Description in a few words.
        bounded: Whether it is a probability, in [0, 1].
        odds: Function of a probability that gives its logarithm and that of the rest,
            exact where either is nearly 1; by default of what `of` gives.
        rows: Function of the logits that says how much each label is meant, such as a
            share in [0, 1], `[batch, labels]`; by default the logits stand for it.
        places: Function that finds the region of each image: from the logits of the
            image and its label, `[batch, rows, columns]`, see `region`.
        labels: Number of labels; 0 stands for the number of outputs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlir_jax.split import scores
        >>> def odd(logits, labels):
        ...     return jax.nn.softmax(logits)[:, 1::2].sum(axis=1)
        >>> score = scores.Score("odd", odd, "probability of odd", bounded=True)
        >>> score(jnp.zeros((1, 4)), jnp.asarray([0])).tolist()
        [0.5]
    """

    name: str
    of: Function
    meaning: str
    bounded: bool = False
    odds: Callable[[PyTree, PyTree], tuple[jax.Array, jax.Array]] | None = None
    rows: Callable[[PyTree], jax.Array] | None = None
    places: Callable[[PyTree, PyTree], jax.Array] | None = None
    labels: int = 0

    def __call__(self, logits: PyTree, labels: Labels) -> jax.Array:
        """Score logits: NaN, and so is the gradient, where they or it mean nothing.

        Raises:
            ValueError: The network gives what this score is not defined for, or the
                function no number an image.
        """
        found = self.of(logits, labels)
        _check_found(self.name, found, logits)
        wrong = meaningless(jax.lax.stop_gradient(logits)).reshape(-1)
        wrong = wrong | ~jnp.isfinite(jax.lax.stop_gradient(found))
        # As a factor, so that the gradient is NaN as well.
        return found * jnp.where(wrong, jnp.nan, 1).astype(found.dtype)

    def log_odds(self, logits: PyTree, labels: Labels) -> tuple[jax.Array, jax.Array]:
        """Give `log p` and `log (1 - p)` of a probability, `[batch]` each."""
        if self.odds:
            return self.odds(logits, labels)
        found = self(logits, labels)
        return jnp.log(found), jnp.log1p(-found)

    def each(self, logits: PyTree) -> jax.Array:
        """Say what the network gives every class, `[batch, classes]`."""
        if self.rows:
            return self.rows(logits)
        logits = jnp.asarray(logits)
        return jnp.mean(logits, axis=tuple(range(1, logits.ndim - 1)))


ScoreLike = str | int | Sequence[int] | Function | Score
"""A name in `NAMED`, one class, several classes whose logits add up, or a function."""


def _check_found(name: str, found: object, logits: PyTree) -> None:
    shape = getattr(found, "shape", None)
    if shape != (len(logits),):
        what = f"shape {shape}" if shape is not None else f"a {type(found).__name__}"
        raise ValueError(
            f"`score`={name!r} gives {what} for logits {jnp.shape(logits)}; expected "
            "one number an image, [batch]."
        )
    kind = getattr(found, "dtype", None)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        raise ValueError(
            f"`score`={name!r} gives {kind}; expected floating point, [batch]."
        )


def _of_rows(
    name: str, function: Function, *, several: bool = True
) -> Callable[[PyTree, PyTree], jax.Array]:
    """Refuse logits of which a function of one row an image means nothing."""

    def checked(logits: PyTree, labels: PyTree) -> jax.Array:
        rows.check(name, logits, labels, several)
        return function(jnp.asarray(logits), labels)

    return checked


def _ranked(name: str, function: Function, meaning: str) -> Score:
    """Make a score of a network whose classes compete."""
    return Score(name, _of_rows(name, function), meaning, rows=jax.nn.softmax)


@memoize.remember
def contrast(*, others: int = 3, strength: float = 1.0) -> Score:
    """Set the label against the classes whose logits are nearest to its own.

    The mean of `y_label - strength * y_class` over the `others` nearest classes,
    weighted by their probabilities. Which classes these are is a constant; the
    weights are differentiated, as in the authors' code.

    Args:
        others: Number of other classes.
        strength: How much of the other classes' logits is subtracted; 0 leaves the
            label's own.

    Raises:
        ValueError: Fewer than one other class; when called, more than there are.

    References:
        Zhang et al., *Finer-CAM: Spotting the Difference Reveals Finer Details for
        Visual Explanation*, CVPR 2025, Eq. 5.
    """
    if others < 1:
        raise ValueError(f"`others`={others}; expected at least 1 class.")

    score = functools.partial(rows.contrast, others, strength)
    plain = _of_rows("contrast", score, several=False)
    words = f"logit of the label minus those of the {others} nearest classes"
    return Score("contrast", plain, words, rows=jax.nn.softmax)


@memoize.remember
def region(mask: Array | None = None, *, of: dense.Kind = "softmax") -> Score:
    """Average the label's probability over a region of a dense output.

    The network gives `[batch, rows, columns, classes]`. Labels may also be label maps
    `[batch, rows, columns]`: the class to explain at each place, -1 outside of the
    region. So `jnp.where(masks, labels[:, None, None], -1)` takes a mask an image.

    Args:
        mask: Region for all images, `[rows, columns]`, true inside. Without it the
            region of a label is where the network finds its class in the image.
        of: What is averaged: `softmax`, `sigmoid` (a class is found where its logit is
            above 0) or `logit`, which has no bounds.

    Raises:
        ValueError: An unknown kind; when called, another output or mask, or an image
            in which the class is found nowhere.
    """
    choices.check("of", of, dense.Kind)
    name = "region" if of == "softmax" else f"region_{of}"
    words = {"logit": "logit"}.get(of, f"{of} probability")
    return Score(
        name,
        functools.partial(dense.mean, name, of),
        f"mean {words} of the label's class over its region",
        bounded=of != "logit",
        odds=None if of == "logit" else functools.partial(dense.log_odds, name, of),
        rows=functools.partial(dense.shares, of),
        places=functools.partial(dense.places, name, of, mask),
    )


def similarity(references: Array) -> Score:
    """Compare an embedding with a reference: their cosine, in [-1, 1].

    The network gives `[batch, dimensions]`.

    Args:
        references: One for all images, `[dimensions]`, or one a label,
            `[labels, dimensions]`.

    Raises:
        ValueError: Another shape; when called, another number of dimensions.
    """
    known = np.asarray(references)
    if known.ndim not in (1, 2) or not known.size:
        raise ValueError(
            f"`references` has shape {known.shape}; expected [dimensions] or "
            "[labels, dimensions]."
        )

    def unit(vectors: PyTree) -> jax.Array:
        power = jnp.sum(vectors**2, axis=-1, keepdims=True)
        return vectors * jax.lax.rsqrt(jnp.where(power > 0, power, 1))

    def cosines(embeddings: PyTree) -> jax.Array:
        if embeddings.ndim != 2 or embeddings.shape[1] != known.shape[-1]:
            raise ValueError(
                f"The network gives {embeddings.shape}, but `references` has shape "
                f"{known.shape}; expected as many dimensions."
            )
        others = unit(jnp.asarray(np.atleast_2d(known), embeddings.dtype))
        return jnp.einsum("bd,nd->bn", unit(embeddings), others, precision="highest")

    def score(embeddings: PyTree, labels: Labels) -> jax.Array:
        found = cosines(jnp.asarray(embeddings))
        return found[:, 0] if known.ndim == 1 else rows.take(found, labels)

    several = known.ndim == 2
    words = "cosine similarity of the embedding to a reference"
    return Score(
        "similarity",
        score,
        words,
        rows=cosines if several else None,
        labels=len(known) if several else 0,
    )


NAMED: Mapping[str, Score] = MappingProxyType(
    {
        "softmax": Score(
            "softmax",
            _of_rows("softmax", rows.softmax),
            "softmax probability of the label",
            bounded=True,
            odds=rows.softmax_odds,
            rows=jax.nn.softmax,
        ),
        "sigmoid": Score(
            "sigmoid",
            _of_rows("sigmoid", rows.sigmoid, several=False),
            "sigmoid probability of the label",
            bounded=True,
            odds=rows.sigmoid_odds,
            rows=jax.nn.sigmoid,
        ),
        "logit": Score(
            "logit", _of_rows("logit", rows.take, several=False), "logit of the label"
        ),
        "log_softmax": _ranked(
            "log_softmax",
            rows.log_softmax,
            "logarithm of the label's softmax probability",
        ),
        # Cai, CAMs as Shapley Value-based Explainers, arXiv 2501.06261 ("ReST").
        "residual_softmax": _ranked(
            "residual_softmax",
            rows.residual_softmax,
            "logit of the label and logarithm of its softmax probability",
        ),
        "margin": _ranked(
            "margin", rows.margin, "logit of the label minus the largest other"
        ),
        "contrast": contrast(),
        "region": region(),
        "region_sigmoid": region(of="sigmoid"),
        "region_logit": region(of="logit"),
    }
)
"""Scores that can be asked for by name."""

SYNONYMS: Mapping[str, str] = MappingProxyType(
    {"probability": "softmax", "log_probability": "log_softmax"}
)
"""Names of version 0.1."""


def resolve(score: ScoreLike) -> Score:
    """Give the score that a name, a class or a function stands for.

    Args:
        score: A name in `NAMED` or `SYNONYMS`; a class, whatever the labels are;
            several classes, whose logits are added; a function
            `(logits, labels) -> [batch]`, which has no bounds; or a `Score`.

    Raises:
        ValueError: An unknown name, or no class at all.
        TypeError: Something else.
    """
    if isinstance(score, Score):
        return score
    if isinstance(score, str):
        known = SYNONYMS.get(score, score)
        wrong = f"`score`={score!r} is no score"
        expected = f"expected one of {', '.join(map(repr, NAMED))}, {EXPECTED}"
        return NAMED[choices.pick(known, NAMED, wrong, expected)]
    if callable(score):
        return _of_function(score)
    if isinstance(score, int | np.integer):
        return _of_classes((int(score),))
    if isinstance(score, Sequence):
        return _of_classes(tuple(int(index) for index in score))
    raise TypeError(
        f"`score` is a {type(score).__name__}; expected a name, {EXPECTED}."
    )


def recorded(score: ScoreLike) -> str | int | list[int]:
    """Write a score down as JSON does: its name, a class, or a list of classes."""
    if isinstance(score, Sequence) and not isinstance(score, str):
        return [int(index) for index in score]
    if isinstance(score, int | np.integer):
        return int(score)
    return resolve(score).name


@memoize.remember
def _of_function(function: Function) -> Score:
    name = getattr(function, "__name__", None) or type(function).__name__
    return Score(name, function, f"{name} of the logits")


@functools.cache
def _of_classes(chosen: tuple[int, ...]) -> Score:
    if not chosen:
        raise ValueError("`score` is an empty list; expected one class or more.")

    def score(logits: Logits, labels: Labels) -> jax.Array:
        del labels  # The classes are the same for every image.
        for index in chosen:
            if not 0 <= index < logits.shape[-1]:
                raise ValueError(
                    f"`score` holds {index}; the network has classes 0 to "
                    f"{logits.shape[-1] - 1}."
                )
        return jnp.sum(logits[:, jnp.asarray(chosen)], axis=1)

    name = " + ".join(map(str, chosen))
    plain = _of_rows(name, score, several=False)
    return Score(name, plain, f"logit of class {name}")

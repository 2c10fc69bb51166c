"""Agreement of two groupings of the same things, whatever the groups are called.

Strehl and Ghosh, *Cluster ensembles*, JMLR 2002 (mutual information); Hubert and
Arabie, *Comparing partitions*, Journal of Classification 1985 (Rand index).
"""

import numpy as np
from jaxtyping import Integer

from unlir_jax.types import Array

Groups = Integer[Array, " n"]


def normalized_mutual_information(first: Groups, second: Groups) -> float:
    """Give `2 I(a, b) / (H(a) + H(b))`: normalised by the arithmetic mean.

    Returns:
        In [0, 1]: 0 for independent groups, 1 for equal ones, also if both are a single
        group.

    Raises:
        ValueError: The two differ in length, or there is nothing.
        TypeError: They are not integers.
    """
    both, one, other = _counts(first, second)
    entropy = _entropy(one) + _entropy(other)
    if entropy == 0:
        return 1.0
    shared = entropy - _entropy(both)
    return float(np.clip(2 * shared / entropy, 0, 1))


def adjusted_rand_index(first: Groups, second: Groups) -> float:
    """Count the pairs on which two groupings agree, corrected for chance.

    Returns:
        At most 1, for equal groups, also if both are a single group or each thing is
        alone in both; 0 on average for groups drawn at random; it may be negative.

    Raises:
        ValueError: The two differ in length, or there is nothing.
        TypeError: They are not integers.
    """
    # Python's integers, because products of numbers of pairs outgrow 64 bits.
    both, one, other = map(_pairs, _counts(first, second))
    everything = _pairs(np.asarray([len(first)]))
    if both == one == other:
        return 1.0
    above = everything * both - one * other
    return 2 * above / (everything * (one + other) - 2 * one * other)


def _counts(first: Groups, second: Groups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the members of each pair of groups that meet, and of each group."""
    one, other = np.asarray(first), np.asarray(second)
    for name, groups in (("first", one), ("second", other)):
        if not np.issubdtype(groups.dtype, np.integer):
            raise TypeError(f"`{name}` is {groups.dtype}; expected integers.")
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise ValueError(
            f"`first` and `second` have shapes {one.shape} and {other.shape}; expected "
            "one group for each thing in both, of at least one thing."
        )
    one, ones = np.unique(one, return_inverse=True, return_counts=True)[1:]
    other, others = np.unique(other, return_inverse=True, return_counts=True)[1:]
    meeting = one.astype(np.int64) * len(others) + other
    return np.unique(meeting, return_counts=True)[1], ones, others


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


def _pairs(counts: np.ndarray) -> int:
    return sum(count * (count - 1) // 2 for count in counts.tolist())

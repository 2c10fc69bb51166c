"""Order of methods when a metric's baseline changes.

Which baseline a metric has is a choice; a ranking of methods that depends on it says
more about the choice than about the methods (Blücher et al. 2024; Rong et al. 2022).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax.statistics.intervals import Numbers, finite
from unlir_jax.statistics.significance import spearman


class RankingSensitivity(NamedTuple):
    """Hold how the order of methods changes between baselines.

    Attributes:
        baselines: Names, in the order given.
        methods: Names, in the order given.
        means: `[baselines, methods]`.
        agreement: `[baselines, baselines]`, Spearman's correlation of the means.
        lowest: The least agreement of two baselines, in [-1, 1]; 1 if the order stays.
        reversals: Share of pairs of methods whose order differs between any two
            baselines, in [0, 1].
        always_first: The method that is best on every baseline, or "".
    """

    baselines: tuple[str, ...]
    methods: tuple[str, ...]
    means: np.ndarray
    agreement: np.ndarray
    lowest: float
    reversals: float
    always_first: str


def baseline_sensitivity(
    scores: Mapping[str, Mapping[str, Numbers]], *, higher_is_better: bool = True
) -> RankingSensitivity:
    """Compare the rankings of methods that different baselines give.

    Args:
        scores: For each baseline, for each method, one value an image; the same
            methods and images for all.
        higher_is_better: Direction of the metric.

    Raises:
        ValueError: Fewer than two baselines or methods, methods that are missing for
            some baseline, other numbers of images, or values that are not finite.
    """
    baselines = tuple(scores)
    methods = tuple(scores[baselines[0]]) if baselines else ()
    if len(baselines) < 2 or len(methods) < 2:
        raise ValueError(
            f"`scores` has {len(baselines)} baselines and {len(methods)} methods; "
            "expected two or more of both."
        )
    for name, row in scores.items():
        if set(row) != set(methods):
            raise ValueError(
                f"`scores[{name!r}]` has the methods {', '.join(row)}; expected "
                f"{', '.join(methods)}, as for {baselines[0]!r}."
            )
    table = [
        [finite(f"scores[{b!r}][{m!r}]", scores[b][m], (1,)) for m in methods]
        for b in baselines
    ]
    counts = {len(values) for row in table for values in row}
    if len(counts) > 1:
        raise ValueError(
            f"`scores` has {sorted(counts)} values; expected one for each of the same "
            "images everywhere."
        )
    means = np.asarray([[values.mean() for values in row] for row in table])
    agreement = np.asarray([[spearman(a, b).value for b in means] for a in means])
    np.fill_diagonal(agreement, 1)
    first, second = np.triu_indices(len(methods), 1)
    signs = np.sign(means[:, first] - means[:, second])
    reversed_pairs = (signs.max(0) > 0) & (signs.min(0) < 0)
    sign = 1 if higher_is_better else -1
    best = sign * means == (sign * means).max(1, keepdims=True)
    winner = np.flatnonzero(best.all(0) & (best.sum(1) == 1).all())
    return RankingSensitivity(
        baselines,
        methods,
        means,
        agreement,
        float(agreement.min()),
        float(reversed_pairs.mean()),
        methods[winner[0]] if winner.size else "",
    )

"""Which cases stand for the others in the fast tier: one of each way to compute."""

import pytest

from unlir_jax import metrics, saliency

REPRESENTATIVE = {
    name
    for specs in (saliency.SPECS, metrics.SPECS)
    for name, spec in specs.items()
    if spec.representative
}
"""Methods of saliency and metrics."""


def by_tier(cases, fast=REPRESENTATIVE):
    """Leave the cases that are not `fast` to the exhaustive tier.

    Args:
        cases: Parameters of a test, or tuples of them, of which the first is its name.
        fast: Names, or the number of cases at the front.
    """
    marked = []
    for place, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        stays = place < fast if isinstance(fast, int) else values[0] in fast
        marks = () if stays else pytest.mark.exhaustive
        marked.append(pytest.param(*values, marks=marks))
    return marked

"""Which cases stand for the others in the fast tier: one of each way to compute."""

import pytest

REPRESENTATIVE = {
    *("grad_cam", "layer_cam", "score_cam", "ablation_cam", "eigen_cam", "full_grad"),
    *("opti_cam", "gradient", "integrated_gradients", "guided_backpropagation"),
    *("rise", "random", "average_drop", "insertion", "complexity", "iou"),
    "official_metric",
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

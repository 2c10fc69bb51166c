"""Which methods stand for the others in the fast tier: one of each way to compute."""

import pytest

REPRESENTATIVE = {
    *("grad_cam", "layer_cam", "score_cam", "ablation_cam", "eigen_cam", "full_grad"),
    *("opti_cam", "gradient", "integrated_gradients", "guided_backpropagation"),
    *("rise", "lime", "random"),
    *("average_drop", "insertion", "road", "infidelity", "complexity"),
    *("official_metric", "max_sensitivity", "iou"),
}


def by_tier(names, fast=REPRESENTATIVE):
    """Give the parameters `names`, of which those that are not `fast` are exhaustive."""
    return [
        name if name in fast else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in names
    ]

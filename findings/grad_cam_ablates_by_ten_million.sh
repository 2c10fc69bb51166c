#!/bin/sh
# pytorch-grad-cam's Ablation-CAM sets a filter to 0 only where the layer's minimum is 0.
#
# Where a layer has negative values, such as the output of a norm without a ReLU,
# `AblationLayer` puts the smallest value less 1e7 in the filter's place. The paper sets
# it to 0 (Desai and Ramaswamy, WACV 2020, Eq. 3). One value of -1e-6 in another filter
# is enough: it turns a filter that adds 2 of 3 to the score into one that adds 1e7.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 grad-cam==1.5.7 opencv-python-headless==5.0.0.93
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


class Network(torch.nn.Module):
    """The logit is the sum of the means of two maps."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()
        self.scale = torch.nn.Parameter(torch.ones(()))  # The peer wants one.

    def forward(self, maps):
        return self.scale * self.layer(maps + 0).mean((2, 3)).sum(1, keepdim=True)


def weights(maps):
    network, target = Network().eval(), ClassifierOutputTarget(0)
    cam = AblationCAM(model=network, target_layers=[network.layer])
    numbers = maps.numpy()
    return np.asarray(
        cam.get_cam_weights(maps, network.layer, [target], numbers, None)
    ).ravel()


positive = torch.tensor([[[[0.0, 2.0]], [[2.0, 2.0]]]])
negative = positive.clone()
negative[0, 0, 0, 0] = -1e-6
found = weights(positive), weights(negative)
print("grad-cam", importlib.metadata.version("grad-cam"), "torch", torch.__version__)
print("minimum 0     ", found[0].tolist(), "the paper's: 1/3 and 2/3")
print("minimum -1e-6 ", found[1].tolist())
same = np.allclose(found[0], [1 / 3, 2 / 3]) and found[1].min() > 1e6
print("filters are lowered by 1e7" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

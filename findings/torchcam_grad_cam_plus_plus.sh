#!/bin/sh
# torchcam's Grad-CAM++ has no denominator: a filter's weight is sum(relu(g)^3).
#
# `GradCAMpp._get_weights` divides alpha = g^2 by `alpha[mask].div_(d)`. Indexing by a
# mask copies, so what is divided in place is thrown away. The paper's weight is
# sum(g^2 / (2 g^2 + sum(A) g^3) relu(g)) (Chattopadhyay et al., WACV 2018, Eq. 10, 19);
# pytorch-grad-cam computes that.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchcam==0.5.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from torchcam.methods import GradCAMpp


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()
        self.slopes = torch.nn.Parameter(torch.tensor([[[0.5, 2.0]], [[-1.0, 1.0]]]))

    def forward(self, maps):
        return (self.slopes * self.layer(maps + 0)).sum((1, 2, 3))[:, None]


network = Network().eval()
maps = torch.tensor([[[[1.0, 3.0]], [[1.0, 0.0]]]], requires_grad=True)
extract = GradCAMpp(network, network.layer, input_shape=(2, 1, 2))
scores = network(maps)
found = extract._get_weights(0, scores)[0].flatten().detach()
g = network.slopes.detach()
cubes = torch.relu(g).pow(3).sum((1, 2))
denominator = 2 * g**2 + maps.detach()[0].sum((1, 2), keepdim=True) * g**3
paper = (g**2 / denominator * torch.relu(g)).sum((1, 2))
print("torchcam", importlib.metadata.version("torchcam"), "torch", torch.__version__)
print("weights        ", found.tolist())
print("sum(relu(g)^3) ", cubes.tolist())
print("the paper's    ", paper.tolist())
same = torch.allclose(found, cubes) and not torch.allclose(found, paper)
print("no denominator" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

#!/bin/sh
# captum's DeepLift loses the rule of a module that takes what another module gave.
#
# It hooks tensors: the gradient of a module's output is read by a hook on the tensor, and
# that of its input is replaced by another one. Where max pooling follows a ReLU, both are
# hooks on one tensor, and run in the order of registration: the ReLU reads the gradient
# before the pooling's rule replaces it. So attributions do not add up to the difference of
# the outputs, which the rule is made for. With `1 *` between the modules they do.
# Source: captum/attr/_core/deep_lift.py, the hooks of `DeepLift`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q captum==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import warnings

import torch
from captum.attr import DeepLift
from torch import nn

warnings.filterwarnings("ignore")


class Network(nn.Module):
    def __init__(self, apart):
        super().__init__()
        self.relu, self.pool, self.apart = nn.ReLU(), nn.MaxPool2d(2), apart

    def forward(self, values):
        values = self.relu(values)
        return self.pool(1 * values if self.apart else values).flatten(1)


print("captum", importlib.metadata.version("captum"), "torch", torch.__version__)
values = torch.tensor([[[[1.0, 0.2], [0.3, 0.4]]]])
start = torch.tensor([[[[0.1, 0.9], [0.3, 0.4]]]])
totals = {}
for apart in (False, True):
    network = Network(apart)
    found = DeepLift(network).attribute(values, start, target=0)
    totals[apart] = found.sum().item()
    difference = (network(values) - network(start)).item()
    words = "apart" if apart else "one behind the other"
    print(f"{words:20}: {totals[apart]:.3f} of a difference of {difference:.3f}")
same = abs(totals[False] - 0.9) < 1e-5 and abs(totals[True] - 0.1) < 1e-5
print("the rule is lost" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

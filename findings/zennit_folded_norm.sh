#!/bin/sh
# zennit's canonizer leaves a batch norm that it has folded no identity.
#
# `SequentialMergeBatchNorm` puts a norm into the layer before it, then sets its mean to
# 0, and its variance and scale to 1, but keeps its epsilon. So it still divides by
# sqrt(1 + epsilon), and the network gives other outputs while relevance is computed.
# Source: `MergeBatchNorm` in zennit/canonizers.py.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/pip" install -q zennit==0.5.1
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from zennit.canonizers import SequentialMergeBatchNorm

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
layers = [torch.nn.Conv2d(3, 3, 1, bias=False), torch.nn.BatchNorm2d(3)]
network = torch.nn.Sequential(*layers).eval()
images = torch.randn(2, 3, 4, 4)
print("zennit", importlib.metadata.version("zennit"), "torch", torch.__version__)
with torch.no_grad():
    before = network(images)
    canonizers = SequentialMergeBatchNorm().apply(network)
    ratio = (network(images) / before).mean().item()
expected = (1 + layers[1].eps) ** -0.5
print(f"outputs with the norm folded are {ratio:.9f} of those before")
print(f"1 / sqrt(1 + epsilon)         is {expected:.9f}")
same = bool(canonizers) and abs(ratio - expected) < 1e-12
print("epsilon is left" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

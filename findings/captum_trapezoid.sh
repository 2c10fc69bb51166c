#!/bin/sh
# captum's trapezoid rule of integrated gradients has weights that add up to 1 - 1/n.
#
# `riemann_builders` gives n points 1/n each and halves the two ends, where the n - 1
# intervals are 1/(n - 1) long. So attributions miss 1/n of the score's difference, for
# every function, also a linear one, for which any rule should be exact. Its rules
# "gausslegendre" and "riemann_middle" add up.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q captum==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from captum.attr import IntegratedGradients

values = torch.tensor([[1.0, 2.0, 3.0]])
explain = IntegratedGradients(lambda x: x.sum(1))
print("captum", importlib.metadata.version("captum"), "torch", torch.__version__)
same = True
for n in (2, 10, 50):
    for method in ("riemann_trapezoid", "riemann_middle", "gausslegendre"):
        found = explain.attribute(values, n_steps=n, method=method).sum().item() / 6
        print(f"{method:18} n = {n:2}: attributions add up to {found:.6f} of the score")
        expected = 1 - 1 / n if method == "riemann_trapezoid" else 1
        same &= abs(found - expected) < 1e-5
print("short by 1/n" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

#!/bin/sh
# AutoAttack's Square attack in l2 stops with an error on images of 12 pixels.
#
# Its first point has tiles whose side is a fifth of the height, rounded down, and as
# many of them as fit. The first tile begins where five tiles would be in the middle. Of
# 12 pixels, six tiles of 2 fit, and the last one ends outside of the image. So the whole
# standard evaluation in l2 stops wherever more than five fit, as at 9, 12 or 19 pixels.
# Source: pyautoattack/square.py, `attack_single_run`, as in fra31/auto-attack.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/pip" install -q --no-deps pyautoattack==0.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from pyautoattack.square import SquareAttack

torch.manual_seed(0)
print("pyautoattack", importlib.metadata.version("pyautoattack"))
stopped = []
for side in (10, 11, 12, 19, 32):
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(3 * side * side, 4)
    )
    images = torch.rand((2, 3, side, side))
    labels = network(images).argmax(1)
    attack = SquareAttack(network, norm="L2", eps=1e-3, n_queries=3, device="cpu")
    try:
        attack.perturb(images, labels)
    except RuntimeError as error:
        stopped.append(side)
        print(f"{side} pixels: {str(error).splitlines()[0]}")
    else:
        print(f"{side} pixels: no error")
raise SystemExit(0 if stopped == [12, 19] else 1)
PYTHON

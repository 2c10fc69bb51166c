#!/bin/sh
# pytorch-ood's OpenMax gives an image another score when its batch has other images.
#
# It measures distances only to classes that some image of the batch is predicted as. The
# logits of other classes stay whole, also where the image itself ranks them second. So an
# image that is scored alone has a smaller probability of being unknown than in a batch.
# Algorithm 2 of Bendale & Boult reduces the logits of the image's own top classes.
# Source: pytorch_ood/detector/openmax/numpy.py, `predict`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchvision==0.28.0 numpy==2.3.5 \
    scipy==1.18.1 pytorch-ood==0.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from pytorch_ood.detector import OpenMax

torch.manual_seed(0)
labels = torch.arange(120) % 4
logits = 6 * torch.eye(4)[labels] + torch.randn(120, 4)
detector = OpenMax(None, tailsize=20, alpha=3).fit_logits(logits, labels)
image = torch.tensor([[5.0, 4.5, 0.0, 0.0]])
others = torch.tensor([[0.0, 6.0, 0.0, 0.0], [0.0, 0.0, 6.0, 0.0]])
alone = float(detector.predict_logits(image)[0])
among = float(detector.predict_logits(torch.cat([image, others]))[0])
print("pytorch-ood", importlib.metadata.version("pytorch-ood"))
print(f"score of one image: {alone:.4f} alone, {among:.4f} with two others")
raise SystemExit(0 if abs(alone - among) > 1e-3 else 1)
PYTHON

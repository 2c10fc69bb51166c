#!/bin/sh
# In torchattacks, whether Carlini and Wagner's attack finds an image depends on the
# batch that it is in.
#
# `CW` compares the cost, summed over the batch, at every tenth of its steps, and gives
# up for all images once it rises. Easy images overshoot their boundary at first, which
# raises their cost. So a harder image that succeeds alone fails next to 63 easy ones.
# In the paper each image is a search of its own (Carlini and Wagner, S&P 2017).
# Source: torchattacks/attacks/cw.py, "Early stop when loss does not converge".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchattacks==3.5.1
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
import torchattacks


class Network(torch.nn.Module):
    """Tell bright images from dark ones."""

    def forward(self, images):
        bright = images.mean((1, 2, 3)) * 100 - 50
        return torch.stack([torch.zeros_like(bright), bright], 1)


network = Network().eval()
far = torch.full((1, 3, 16, 16), 0.55)
near = torch.full((1, 3, 16, 16), 0.5002)
attack = torchattacks.CW(network, c=1, steps=50, lr=0.01)


def succeeded(images):
    labels = torch.ones(len(images), dtype=torch.long)
    found = attack(images, labels)
    return (network(found).argmax(1) != labels).tolist()


alone, together = succeeded(far), succeeded(torch.cat([far, near.repeat(63, 1, 1, 1)]))
print("torchattacks", importlib.metadata.version("torchattacks"), "torch", torch.__version__)
print("the image alone succeeds:", alone[0])
print("next to 63 easy images:  ", together[0])
stops = alone[0] and not together[0]
print("one stop for the batch" if stops else "the behaviour has changed")
raise SystemExit(0 if stops else 1)
PYTHON

#!/bin/sh
# adv-lib's APGD halves its steps at checkpoints although the best loss has improved.
#
# Algorithm 1 of Croce & Hein halves them where the best loss is that of the checkpoint
# before. The line `loss_best_last_check = loss_best` keeps no copy, and
# `loss_best[ind] = loss_indiv[ind]` changes both. So they are always equal, and steps are
# halved at every second checkpoint at least. AutoAttack clones there. Each step stays a
# step of an attack; only the schedule is another one.
# Source: adv_lib/attacks/auto_pgd.py, `_apgd`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# adv-lib imports distutils, which setuptools brings since Python 3.12.
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5 setuptools==79.0.1
"$folder/venv/bin/pip" install -q adv-lib==0.2.8
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import inspect
import warnings

import torch

warnings.filterwarnings("ignore")
from adv_lib.attacks import auto_pgd

source = inspect.getsource(auto_pgd._apgd)
line = "loss_best_last_check = loss_best\n"
assert source.count(line) == 1
space = dict(vars(auto_pgd))
exec(source.replace(line, line.rstrip() + ".clone()\n"), space)

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(48, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4)
).double()
images = torch.rand((16, 3, 4, 4), dtype=torch.float64)
labels = network(images).argmax(1)
given = network, images, labels, torch.full((16,), 0.3, dtype=torch.float64), 2
settings = {"x_init": images, "n_iter": 30, "loss_function": "ce"}
as_it_is = auto_pgd._apgd(*given, **settings)[0]
cloned = space["_apgd"](*given, **settings)[0]
different = int(((as_it_is - cloned).abs().amax((1, 2, 3)) > 1e-6).sum())
print("adv-lib", importlib.metadata.version("adv-lib"))
print(f"{different} of 16 images differ from those with a copy of the best loss")
raise SystemExit(0 if different else 1)
PYTHON

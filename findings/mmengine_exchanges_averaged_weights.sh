#!/usr/bin/env bash
# MMEngine's EMAHook saves the averaged weights as `state_dict` and the raw ones as
# `ema_state_dict`, the reverse of what the names say: the hook exchanges the two in
# `before_save_checkpoint` (mmengine 0.10.7, hooks/ema_hook.py, "so that we can directly
# load the averaged model weights for deployment"). Who asks the file for its "ema"
# weights, as with timm's or torchvision's checkpoints, gets the raw ones.
# Needs Python 3.11 or newer with venv and pip. Exits 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet mmengine==0.10.7
cd "$folder"
cat >run.py <<'PYTHON'
import warnings

import mmengine
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

warnings.simplefilter("ignore")
torch.manual_seed(0)


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, inputs, labels, mode="loss"):
        return {"loss": torch.nn.functional.cross_entropy(self.layer(inputs), labels)}


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"inputs": torch.rand(4), "labels": torch.tensor(index % 2)}


loader = {
    "batch_size": 4,
    "dataset": Data(),
    "sampler": {"type": "DefaultSampler", "shuffle": False},
    "collate_fn": {"type": "default_collate"},
}
runner = Runner(
    model=Model(),
    work_dir="work",
    train_dataloader=loader,
    train_cfg={"by_epoch": True, "max_epochs": 2},
    optim_wrapper={"optimizer": {"type": "SGD", "lr": 1.0}},
    custom_hooks=[{"type": "EMAHook", "momentum": 0.1}],
    log_level="ERROR",
)
runner.train()
saved = torch.load("work/epoch_2.pth", weights_only=False)
live = runner.model.state_dict()["layer.weight"]
under = saved["state_dict"]["layer.weight"]
ema = saved["ema_state_dict"]["module.layer.weight"]
print("torch", torch.__version__, "mmengine", mmengine.__version__)
print("weights as trained:               ", live[0].tolist())
print("saved under 'ema_state_dict':     ", ema[0].tolist())
print("saved under 'state_dict':         ", under[0].tolist())
exchanged = torch.equal(ema, live) and not torch.equal(under, live)
print("'ema_state_dict' holds the raw weights:", exchanged)
raise SystemExit(0 if exchanged else 1)
PYTHON
"$folder/venv/bin/python" run.py 2>/dev/null

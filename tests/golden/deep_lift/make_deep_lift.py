"""Write network.npz beside this file: DeepLift of captum on a small network of ReLUs.

    python make_deep_lift.py

Needs torch and captum; README.md names the versions. All is float64.
"""

import pathlib

import captum
import numpy as np
import torch
from captum.attr import DeepLift
from torch import nn

HERE = pathlib.Path(__file__).parent
LABELS = (0, 2)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


class Network(nn.Module):
    """Convolutions with norms, a sum, max pooling, and two dense layers."""

    def __init__(self):
        super().__init__()
        self.conv0, self.conv1, self.conv2 = (
            nn.Conv2d(wide, 6, 3, padding=1) for wide in (3, 6, 6)
        )
        self.norm0, self.norm1 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2)
        self.dense0, self.dense1 = nn.Linear(6 * 16, 8), nn.Linear(8, 4)
        # One each: captum refuses a module that is used again.
        self.relu0, self.relu1, self.relu2, self.relu3 = (nn.ReLU() for _ in range(4))

    def forward(self, images):
        # Captum loses the rule of a module that takes what another one gave.
        maps = self.pool(1 * self.relu0(self.norm0(self.conv0(images))))
        maps = maps + self.relu1(self.norm1(self.conv1(maps)))
        maps = self.relu2(self.conv2(maps))
        # Rows, columns and channels, as the other side has them.
        flat = maps.permute(0, 2, 3, 1).flatten(1)
        return self.dense1(self.relu3(self.dense0(flat)))


def main():
    random = np.random.default_rng(0)
    net = Network().eval()
    facts = {}
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        fan = np.prod(value.shape[1:]) if value.ndim > 1 else 1
        drawn = random.normal(size=tuple(value.shape)) * np.sqrt(2 / fan) * 0.7
        drawn = 0.5 + abs(drawn) if name.endswith("var") else drawn
        drawn = drawn + 1 if name.startswith("norm") and "weight" in name else drawn
        facts[name] = drawn
    net.load_state_dict(
        {k: torch.from_numpy(v) for k, v in facts.items()}, strict=False
    )
    images = random.random((2, 8, 8, 3))
    given = torch.from_numpy(images).permute(0, 3, 1, 2)
    facts |= {"images": images, "labels": np.array(LABELS)}
    facts["logits"] = net(given).detach().numpy()
    explain = DeepLift(net)
    for key, level in (("black", 0.0), ("mean", 0.4)):
        start = torch.full_like(given, level)
        found = explain.attribute(given, start, target=list(LABELS))
        facts[key] = found.sum(1).detach().numpy()
        rows = torch.arange(2), torch.tensor(LABELS)
        total = (net(given)[rows] - net(start)[rows]).detach().numpy()
        print(key, abs(facts[key]).max(), facts[key].sum((1, 2)) - total)
    facts["library"] = np.array(f"captum {captum.__version__}, {torch.__version__}")
    np.savez_compressed(HERE / "network.npz", **facts)


if __name__ == "__main__":
    main()

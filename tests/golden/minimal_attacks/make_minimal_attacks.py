"""Write minimal_attacks.npz beside this file: distortions that adv-lib needs.

    python make_minimal_attacks.py

Needs torch and adv-lib; README.md names the versions. All is float64.
"""

import importlib.metadata
import pathlib

import numpy as np
import setuptools  # noqa: F401  Whose `distutils` adv-lib imports.
import torch
from adv_lib.attacks import carlini_wagner_l2, ddn, df, fmn
from torch import nn

HERE = pathlib.Path(__file__).parent
COUNT, SIDE, CLASSES = 24, 12, 10
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

SETTINGS = {
    "ddn": (ddn, {"steps": 60, "levels": None}),
    "ddn_quantised": (ddn, {"steps": 60}),
    "fmn_l2": (fmn, {"norm": 2, "steps": 60}),
    "fmn_linf": (fmn, {"norm": float("inf"), "steps": 60, "α_init": 10.0}),
    "fmn_l1": (fmn, {"norm": 1, "steps": 60}),
    "fmn_l0": (fmn, {"norm": 0, "steps": 60}),
    "deepfool_l2": (df, {"norm": 2}),
    "deepfool_linf": (df, {"norm": float("inf")}),
    "carlini_wagner": (
        carlini_wagner_l2,
        {
            "binary_search_steps": 5,
            "max_iterations": 100,
            "initial_const": 0.1,
            "abort_early": False,
        },
    ),
}
TARGETED = "ddn", "fmn_l2", "fmn_linf", "carlini_wagner"


class Network(nn.Module):
    """Two convolutions with strides and two dense layers."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(1, 8, 4, stride=2, padding=1)
        self.conv1 = nn.Conv2d(8, 12, 4, stride=2, padding=1)
        self.dense0, self.dense1 = nn.Linear(12 * 9, 24), nn.Linear(24, CLASSES)

    def forward(self, images):
        maps = torch.relu(self.conv1(torch.relu(self.conv0(images))))
        # Rows, columns and channels, as the other side has them.
        flat = maps.permute(0, 2, 3, 1).flatten(1)
        return self.dense1(torch.relu(self.dense0(flat)))


def main():
    random = np.random.default_rng(0)
    net = Network().eval()
    facts = {}
    for name, value in net.state_dict().items():
        fan = np.prod(value.shape[1:]) if value.ndim > 1 else 100
        drawn = random.normal(size=tuple(value.shape)) * np.sqrt(2 / fan)
        facts[name] = drawn.astype(np.float32)
    net.load_state_dict({k: torch.from_numpy(v).double() for k, v in facts.items()})
    for weight in net.parameters():
        weight.requires_grad_(False)
    levels = random.integers(0, 256, (COUNT, SIDE, SIDE, 1), np.uint8)
    images = torch.from_numpy(levels / 255).permute(0, 3, 1, 2)
    order = net(images).argsort(1, descending=True)
    # One image that the network gets wrong, and targets that it ranks fourth.
    labels, targets = order[:, 0].clone(), order[:, 3]
    labels[0] = order[0, 1]
    facts |= {"levels": levels, "labels": labels.numpy(), "targets": targets.numpy()}
    facts["logits"] = net(images).numpy()
    for name, (attack, settings) in SETTINGS.items():
        facts[name] = distances(net, images, attack(net, images, labels, **settings))
        success = net(attack(net, images, labels, **settings)).argmax(1) != labels
        facts[name + "/success"] = success.numpy()
        print(name, facts[name].mean(0), success.double().mean().item())
    for name in TARGETED:
        attack, settings = SETTINGS[name]
        found = attack(net, images, targets, targeted=True, **settings)
        facts[name + "/targeted"] = distances(net, images, found)
        success = net(found).argmax(1) == targets
        facts[name + "/targeted/success"] = success.numpy()
        print(name, facts[name + "/targeted"].mean(0), success.double().mean().item())
    names = "adv-lib", "torch"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    facts["library"] = np.array(", ".join(versions))
    np.savez_compressed(HERE / "minimal_attacks.npz", **facts)


def distances(net, images, found):
    """Measure l2, linf, l1 and l0 of the changes."""
    del net
    change = (found - images).flatten(1)
    norms = [change.norm(p=p, dim=1) for p in (2, float("inf"), 1, 0)]
    return torch.stack(norms, dim=1).numpy()


if __name__ == "__main__":
    main()

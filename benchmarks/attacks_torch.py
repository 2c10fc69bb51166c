"""The other side of the benchmark of attacks: adv-lib, torchattacks, foolbox in torch.

Runs in an environment of its own; see README.md. Parameters need no derivative, which
the peers do not ask for, so they are as fast as can be.
"""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import argparse
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import protocol

EPSILON = 8 / 255
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Session:
    """Hold a network, images, and one attack for each row."""

    def __init__(self, settings: dict[str, Any]):
        import torch

        torch.set_num_threads(settings["threads"])
        self.torch, steps = torch, settings["steps"]
        with np.load(settings["weights"]) as file:
            weights = {name: torch.from_numpy(file[name]) for name in file.files}
        self.network = made(weights).eval().requires_grad_(False)
        random = np.random.default_rng(0)
        images = random.random((settings["batch"], 32, 32, 3)).astype(np.float32)
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self.labels = self.network(self.images).argmax(1)
        self.library = settings["library"]
        made_by = {
            "adv-lib": self._adv_lib,
            "torchattacks": self._torchattacks,
            "foolbox": self._foolbox,
        }
        self.calls = {"value_and_gradient": self._gradient}
        self.calls |= made_by[self.library](steps)

    def _gradient(self) -> None:
        images = self.images.clone().requires_grad_(True)
        loss = self.torch.nn.functional.cross_entropy(self.network(images), self.labels)
        self.torch.autograd.grad(loss, images)

    def _adv_lib(self, steps: int) -> dict[str, Callable[[], Any]]:
        from adv_lib import attacks

        given, budget = (
            (self.network, self.images, self.labels),
            (EPSILON, float("inf")),
        )
        searched = {"binary_search_steps": 2, "abort_early": False}
        searched |= {"max_iterations": steps, "initial_const": 1.0}
        apgd = {"n_iter": steps, "loss_function": "ce"}
        return {
            "pgd": lambda: attacks.pgd_linf(*given, EPSILON, steps=steps),
            "apgd": lambda: attacks.apgd(*given, *budget, **apgd),
            "ddn": lambda: attacks.ddn(*given, steps=steps),
            "fmn": lambda: attacks.fmn(*given, 2, steps=steps),
            "carlini_wagner": lambda: attacks.carlini_wagner_l2(*given, **searched),
            "deepfool": lambda: attacks.df(*given, steps=steps),
        }

    def _torchattacks(self, steps: int) -> dict[str, Callable[[], Any]]:
        import torchattacks

        network, given = self.network, (self.images, self.labels)
        size = {"eps": EPSILON, "steps": steps}
        made = {
            "fgsm": torchattacks.FGSM(network, EPSILON),
            "bim": torchattacks.BIM(network, alpha=EPSILON / steps, **size),
            "mi_fgsm": torchattacks.MIFGSM(network, alpha=EPSILON / steps, **size),
            "pgd": torchattacks.PGD(network, alpha=2.5 * EPSILON / steps, **size),
            "pgd_l2": torchattacks.PGDL2(network, 0.5, 1.25 / steps, steps),
            "apgd": torchattacks.APGD(network, **size),
            "deepfool": torchattacks.DeepFool(network, steps),
        }
        return {
            name: lambda attack=attack: attack(*given) for name, attack in made.items()
        }

    def _foolbox(self, steps: int) -> dict[str, Callable[[], Any]]:
        import foolbox

        model = foolbox.PyTorchModel(self.network, bounds=(0, 1))
        return foolbox_calls(model, self.images, self.labels, steps)

    def describe(self) -> dict[str, Any]:
        """Say what runs here."""
        names = ("torch", self.library, "numpy")
        found = {name: metadata.version(name) for name in names}
        return {"versions": {"python": platform.python_version()} | found}

    def methods(self) -> list[str]:
        return list(self.calls)

    def time(self, method: str, calls: int) -> list[float]:
        """Give the medians of the wall's and of the processor's seconds of a call."""
        return protocol.both_seconds(self.calls[method], calls)


def foolbox_calls(
    model: Any, images: Any, labels: Any, steps: int
) -> dict[str, Callable[[], Any]]:
    """Make foolbox's attacks, for torch or JAX."""
    from foolbox import attacks

    searched = {"binary_search_steps": 2, "initial_const": 1.0, "abort_early": False}
    sized = {"steps": steps, "rel_stepsize": 2.5 / steps}
    basic = {"steps": steps, "rel_stepsize": 1 / steps}
    made = {
        "fgsm": (attacks.LinfFastGradientAttack(), EPSILON),
        "bim": (attacks.LinfBasicIterativeAttack(**basic), EPSILON),
        "pgd": (attacks.LinfPGD(**sized), EPSILON),
        "pgd_l2": (attacks.L2PGD(**sized), 0.5),
        "ddn": (attacks.DDNAttack(steps=steps), None),
        "fmn": (attacks.L2FMNAttack(steps=steps), None),
        "carlini_wagner": (
            *(attacks.L2CarliniWagnerAttack(steps=steps, **searched), None),
        ),
        "deepfool": (attacks.L2DeepFoolAttack(steps=steps), None),
    }
    return {
        name: lambda attack=attack, size=size: attack(
            model, images, labels, epsilons=size
        )
        for name, (attack, size) in made.items()
    }


def made(weights: dict[str, Any]) -> Any:
    """Make the ResNet-20 whose state dict, perhaps with a prefix, is given."""
    import torch
    from torch import nn

    def joined(inputs: int, outputs: int, stride: int) -> nn.ModuleDict:
        first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        norms = {f"bn{n}": nn.BatchNorm2d(outputs) for n in (1, 2)}
        return nn.ModuleDict({"conv1": first, "conv2": second} | norms)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = (
                nn.Conv2d(3, 16, 3, 1, 1, bias=False),
                nn.BatchNorm2d(16),
            )
            widths = (16, 16, 32, 64)
            for stage in (1, 2, 3):
                blocks = [
                    joined(
                        widths[stage - (number == 0)],
                        widths[stage],
                        2 if stage > 1 and number == 0 else 1,
                    )
                    for number in range(3)
                ]
                setattr(self, f"layer{stage}", nn.ModuleList(blocks))
            self.linear = nn.Linear(64, 10)
            for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
                value = torch.tensor(values).view(1, 3, 1, 1)
                self.register_buffer(name, value, persistent=False)

        def forward(self, images: Any) -> Any:
            maps = (images - self.mean) / self.deviation
            maps = self.bn1(self.conv1(maps)).relu()
            for stage in (self.layer1, self.layer2, self.layer3):
                for block in stage:
                    own = block["bn1"](block["conv1"](maps)).relu()
                    own = block["bn2"](block["conv2"](own))
                    if own.shape != maps.shape:
                        more = (own.shape[1] - maps.shape[1]) // 2
                        maps = maps[:, :, ::2, ::2]
                        maps = nn.functional.pad(maps, (0, 0, 0, 0, more, more))
                    maps = (own + maps).relu()
            return self.linear(maps.mean((2, 3)))

    network = Network()
    plain = {name.removeprefix("module."): value for name, value in weights.items()}
    missing, more = network.load_state_dict(plain, strict=False)
    if more or any("num_batches" not in name for name in missing):
        raise ValueError(f"`--weights` is no ResNet-20: {missing}, {more}.")
    return network


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    protocol.serve_session(Session, "describe methods time".split())


if __name__ == "__main__":
    main()

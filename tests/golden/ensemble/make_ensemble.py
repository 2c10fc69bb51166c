"""Write ensemble.npz beside this file: FAB, Square and AutoAttack of peers.

    python make_ensemble.py

Needs torch, adv-lib and pyautoattack; README.md names the versions. All is in float32.
"""

import importlib.metadata
import pathlib

import numpy as np
import setuptools  # noqa: F401  Whose `distutils` adv-lib imports.
import torch
from adv_lib.attacks import fab
from pyautoattack.autoattack import AutoAttack
from pyautoattack.square import SquareAttack
from torch import nn

HERE = pathlib.Path(__file__).parent
COUNT, FEW, SIDE, CLASSES = 200, 24, 15, 10
EPSILON = {"linf": 0.013, "l2": 0.2}
ORDER = {"linf": float("inf"), "l2": 2}
SEEDS = 5
QUERIES = 300
torch.set_num_threads(1)


def made_network():
    """Make a random network of two convolutions and two dense layers."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 9, 24),
        nn.ReLU(),
        nn.Linear(24, CLASSES),
    )
    for parameter in network.parameters():
        parameter.data *= 2
        parameter.requires_grad_(False)
    return network.eval()


def made_images():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((COUNT, 3, 4, 4), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=SIDE, mode="bicubic")
    return (smooth.clamp(0, 1) * 255).round() / 255


def distances(images, found, norm):
    return (found - images).flatten(1).norm(p=ORDER[norm], dim=1)


def with_adv_lib(network, images, labels, facts):
    """Store the distances of FAB of the first images, and whether it succeeded."""
    images, labels = images[:FEW], labels[:FEW]
    for norm in EPSILON:
        for name, settings in (
            ("fab", {}),
            ("fab targeted", {"targeted_restarts": True}),
        ):
            found = fab(network, images, labels, ORDER[norm], n_iter=40, **settings)
            success = network(found).argmax(1) != labels
            facts[f"{name} {norm}"] = distances(images, found, norm).numpy()
            facts[f"{name} {norm}/success"] = success.numpy()
            print(name, norm, facts[f"{name} {norm}"].mean(), success.double().mean())


def with_pyautoattack(network, images, labels, facts):
    """Store shares of success of Square by seed, and which images stay robust."""
    for norm, epsilon in EPSILON.items():
        shares, queries = [], []
        for seed in range(SEEDS):
            attack = SquareAttack(
                network,
                norm=norm.capitalize(),
                eps=epsilon,
                n_queries=QUERIES,
                seed=seed,
                device="cpu",
            )
            attack.init_hyperparam(images)
            torch.manual_seed(seed)
            taken, found = attack.attack_single_run(images, labels)
            success = network(found).argmax(1) != labels
            shares.append(success.double().mean().item())
            queries.append(taken.mean().item())
        facts[f"square {norm}"] = np.asarray(shares)
        facts[f"square {norm}/queries"] = np.asarray(queries)
        print("square", norm, shares, queries)
        whole = AutoAttack(
            network, norm=norm.capitalize(), eps=epsilon, device="cpu", seed=0
        )
        found, _ = whole.run_standard_evaluation(images, labels, batch_size=COUNT)
        robust = network(found).argmax(1) == labels
        facts[f"autoattack {norm}/robust"] = robust.numpy()
        print("robust", norm, robust.double().mean().item())


def main():
    network, images = made_network(), made_images()
    logits = network(images)
    labels = logits.argmax(1)
    # Two images that the network gets wrong.
    labels[:2] = logits[:2].argsort(1)[:, -2]
    facts = {f"network/{k}": v.numpy() for k, v in network.state_dict().items()}
    levels = (images * 255).round().permute(0, 2, 3, 1)
    facts["levels"] = levels.numpy().astype(np.uint8)
    facts |= {"labels": labels.numpy(), "logits": logits.numpy()}
    with_adv_lib(network, images, labels, facts)
    with_pyautoattack(network, images, labels, facts)
    names = "adv-lib", "pyautoattack", "torch"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    facts["library"] = np.array(", ".join(versions))
    np.savez_compressed(HERE / "ensemble.npz", **facts)


if __name__ == "__main__":
    main()

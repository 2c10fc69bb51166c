"""Write network.npz beside this file: attacks of peers on a small random network.

    python make_attacks.py

Needs torch, foolbox, adv-lib and scikit-image; README.md names the versions. All is
float64, and nothing starts at random, so that images can be compared.
"""

import inspect
import pathlib

import foolbox
import numpy as np
import torch
from adv_lib.attacks import auto_pgd, projected_gradient_descent
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity
from torch import nn

HERE = pathlib.Path(__file__).parent
IMAGES, SIDE, CLASSES = 12, 12, 5
EPSILON = {"linf": 0.02, "l2": 0.4}
STEPS = 10
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def made_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * (SIDE // 2) ** 2, CLASSES),
    )
    for parameter in network.parameters():
        parameter.data *= 2
    return network.eval()


def made_images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((IMAGES, 3, 4, 4), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=SIDE, mode="bicubic")
    return (smooth.clamp(0, 1) * 255).round() / 255


def with_foolbox(network, images, labels, targets):
    """Run the attacks of foolbox, `{name: images}`."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    attacks = foolbox.attacks
    every = {"rel_stepsize": 1 / STEPS, "steps": STEPS, "random_start": False}
    quarter = every | {"rel_stepsize": 2.5 / STEPS}
    listed = {
        "fgsm linf": attacks.LinfFastGradientAttack(),
        "fgsm l2": attacks.L2FastGradientAttack(),
        "bim linf": attacks.LinfBasicIterativeAttack(**every),
        "bim l2": attacks.L2BasicIterativeAttack(**every),
        "pgd linf": attacks.LinfPGD(**quarter),
        "pgd l2": attacks.L2PGD(**quarter),
    }
    found = {}
    for name, attack in listed.items():
        epsilon = EPSILON[name.split()[1]]
        found[name] = attack(model, images, labels, epsilons=epsilon)[1]
    reached = foolbox.criteria.TargetedMisclassification(targets)
    for name in ("pgd linf", "pgd l2"):
        epsilon = EPSILON[name.split()[1]]
        _, clipped, _ = listed[name](model, images, reached, epsilons=epsilon)
        found[f"{name} targeted"] = clipped
    return found


def momentum(network, images, labels):
    """Follow Eq. 6 and 7 of Dong et al. in torch, as no peer here takes the l1 norm."""
    found, total, epsilon = images.clone(), torch.zeros_like(images), EPSILON["linf"]
    for _ in range(STEPS):
        given = found.clone().requires_grad_()
        loss = nn.functional.cross_entropy(network(given), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, given)
        total += gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        found = found + epsilon / STEPS * total.sign()
        found = found.clamp(images - epsilon, images + epsilon).clamp(0, 1)
    return found


def corrected(own):
    """Compile adv-lib's APGD as AutoAttack has it, and the paper, in three places.

    The best loss of the last checkpoint is a copy, not the array that changes later;
    the first checkpoint halves nothing for want of progress since an earlier one; and
    the first step is compared with the start, where a row of zeros stands. The targeted
    loss compares with the label, where adv-lib takes the best other class.

    Args:
        own: Labels of the images.
    """
    source = inspect.getsource(auto_pgd._apgd)
    for old, new in (
        (
            "loss_best_last_check = loss_best\n",
            "loss_best_last_check = loss_best + 0\n",
        ),
        (
            "reduced_last_check = torch.zeros_like",
            "reduced_last_check = torch.ones_like",
        ),
        (
            "    for i in range(n_iter):",
            "    loss_steps[-1] = loss_best\n    for i in range(n_iter):",
        ),
    ):
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    space = dict(vars(auto_pgd))
    exec(source, space)

    def ratio(logits, labels, targeted):
        """Give Eq. 6 and 7 of Croce & Hein, with the sign that adv-lib expects."""
        chosen, top = logits.gather(1, labels[:, None])[:, 0], logits.sort(1).values
        if targeted:
            spread = top[:, -1] - (top[:, -3] + top[:, -4]) / 2
            return (chosen - logits.gather(1, own[:, None])[:, 0]) / (spread + 1e-12)
        others = logits.scatter(1, labels[:, None], float("-inf")).amax(1)
        return (chosen - others) / (top[:, -1] - top[:, -3] + 1e-12)

    space["difference_of_logits_ratio"] = ratio
    return space["_apgd"]


def with_adv_lib(network, images, labels, targets):
    """Run APGD from the images themselves; it gives the point with the highest loss.

    Success is that of any point, which need not be the one with the highest loss.
    """
    found, success, apgd = {}, {}, corrected(labels)
    for norm, order in (("linf", float("inf")), ("l2", 2)):
        for loss in ("ce", "dlr"):
            for targeted in (False, True):
                best, deceived, *_ = apgd(
                    network,
                    images,
                    targets if targeted else labels,
                    torch.full((IMAGES,), EPSILON[norm]),
                    order,
                    x_init=images,
                    targeted=targeted,
                    n_iter=30,
                    loss_function=loss,
                )
                name = f"apgd {norm} {loss}{' targeted' * targeted}"
                found[name], success[name] = best, deceived
    return found, success


def main() -> None:
    network, images = made_network(), made_images()
    labels = network(images).argmax(1)
    targets = (labels + 1) % CLASSES
    given = network, images, labels
    found = with_foolbox(*given, targets) | {"mi_fgsm linf": momentum(*given)}
    best, successes = with_adv_lib(*given, targets)
    found |= best
    pgd = projected_gradient_descent.pgd_linf
    first = pgd(*given, EPSILON["linf"], steps=STEPS, random_init=False)
    arrays = {
        f"network/{name}": value.numpy() for name, value in network.state_dict().items()
    }
    arrays |= {"images": images, "labels": labels, "targets": targets}
    arrays["adv_lib success"] = network(first).argmax(1) != labels
    for name, changed in found.items():
        goal = targets if "targeted" in name else labels
        predicted = network(changed).argmax(1)
        success = predicted == goal if "targeted" in name else predicted != goal
        success = successes.get(name, success)
        print(f"{name:28s} {int(success.sum()):3d} of {IMAGES}")
        arrays[f"images/{name}"] = changed
        arrays[f"success/{name}"] = success
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    one, other = (
        arrays[name].transpose(0, 2, 3, 1) for name in ("images", "images/fgsm linf")
    )
    arrays["ssim"] = np.asarray(
        [
            structural_similarity(
                *pair,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1,
                channel_axis=2,
            )
            for pair in zip(one, other, strict=True)
        ]
    )
    colours = deltaE_ciede2000(rgb2lab(one), rgb2lab(other))
    arrays["ciede2000"] = colours.mean((1, 2))
    np.savez_compressed(HERE / "network.npz", **arrays)


if __name__ == "__main__":
    main()

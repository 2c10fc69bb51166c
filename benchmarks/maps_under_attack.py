"""Compare how far maps of explainers move under attacks of one budget.

    python benchmarks/maps_under_attack.py --network FILE.npz --images FILE.npz

The network is the ResNet-20 for CIFAR-10 of akamaster/pytorch_resnet_cifar10, with the
names of its state dict. The file of images has `x_test` and `y_test`.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# The benchmark measures the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import attacks, saliency, split
from unlir_jax.attacks import norms
from unlir_jax.metrics.sanity.displacement import displacement
from unlir_jax.statistics import intervals

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
DEPTH = 3
MEASURES = ("spearman", "top_iou", "centre_distance")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--network", type=Path, required=True)
    add("--images", type=Path, required=True)
    add("--count", type=int, default=64, help="number of images; default: %(default)s")
    add("--steps", type=int, default=20, help="default: %(default)s")
    add("--epsilon", type=float, default=2 / 255, help="in linf; default: 2 / 255")
    add("--samples", type=int, default=4, help="of SmoothGrad; default: %(default)s")
    add("--explainers", default="", help="names, with commas; default: all")
    options = parser.parse_args(arguments)
    with np.load(options.network) as file:
        weights = {n.removeprefix("module."): jnp.asarray(file[n]) for n in file.files}
    model = split.from_functions(features, head, mean=MEAN)
    images, labels = chosen(model, weights, options)
    key = jax.random.key(0)
    print("explainer", "attack", "class kept", "mean l2", *MEASURES, sep=" | ")
    made = explainers(model, options.samples)
    for name in options.explainers.split(",") if options.explainers else made:
        explain, surrogate = made[name]
        before = explain(weights, images, labels, key=key)
        rivals = competitors(model, explain, surrogate, options)
        for title, attack in rivals.items():
            changed = attack(weights, images, labels, key=key)
            after = explain(weights, changed, labels, key=key)
            found = displacement(before, after)
            kept = predicted(model, weights, changed) == labels
            size = float(np.mean(norms.length(changed - images, "l2")))
            told = [f"{100 * kept.mean():.0f} %", f"{size:.2f}"]
            told += [interval(np.asarray(found[each])) for each in MEASURES]
            print(name, title, *told, sep=" | ", flush=True)
    return 0


def interval(values: np.ndarray) -> str:
    found = intervals.bootstrap(values)
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"


def predicted(model: Any, weights: Any, images: Any) -> np.ndarray:
    return np.asarray(split.whole(model)(weights, images)).argmax(1)


def chosen(
    model: Any, weights: Any, options: argparse.Namespace
) -> tuple[jax.Array, jax.Array]:
    """Give the first images that the network gets right."""
    with np.load(options.images) as file:
        images = file["x_test"][: 2 * options.count] / np.float32(255)
        labels = file["y_test"][: 2 * options.count].astype(np.int32)
    right = predicted(model, weights, images) == labels
    print(f"{100 * right.mean():.1f} % of {len(right)} images are right")
    rows = np.flatnonzero(right)[: options.count]
    return jnp.asarray(images[rows]), jnp.asarray(labels[rows])


def explainers(model: Any, samples: int) -> dict[str, tuple[Any, Any]]:
    """Give explainers, and those whose maps are differentiated instead."""
    soft = saliency.softened(model)
    smooth = functools.partial(saliency.smooth_grad, samples=samples)
    return {
        "grad_cam": (saliency.grad_cam(model), None),
        "grad_cam_plus_plus": (saliency.grad_cam_plus_plus(model), None),
        "gradient": (saliency.gradient(model), saliency.gradient(soft)),
        "smooth_grad": (smooth(model), smooth(soft)),
    }


def competitors(
    model: Any, explain: Any, surrogate: Any, options: argparse.Namespace
) -> dict[str, Callable[..., jax.Array]]:
    """Give attacks, and random signs that move as far as they may."""
    budget = {"epsilon": options.epsilon, "steps": options.steps}

    def noise(_: Any, images: Any, labels: Any, *, key: Any) -> jax.Array:
        del labels
        signs = jax.random.rademacher(key, images.shape, images.dtype)
        return jnp.clip(images + options.epsilon * signs, 0, 1)

    return {
        "random signs": noise,
        "pgd": attacks.pgd(model, **budget),
        "move_map": attacks.move_map(model, explain, surrogate=surrogate, **budget),
        "keep_map": attacks.keep_map(
            model, explain, explained="label", surrogate=surrogate, **budget
        ),
    }


def features(weights: Any, images: Any) -> jax.Array:
    """Run ResNet-20 up to the last maps; shortcuts are padded with zeros."""
    maps = (images - jnp.asarray(MEAN)) / jnp.asarray(DEVIATION)
    maps = jax.nn.relu(layer(weights, "conv1", "bn1", maps, 1))
    for stage in range(1, 4):
        for block in range(DEPTH):
            name, stride = f"layer{stage}.{block}.", 1
            shortcut = maps
            if stage > 1 and block == 0:
                stride, more = 2, maps.shape[-1] // 2
                shortcut = maps[:, ::2, ::2]
                shortcut = jnp.pad(shortcut, ((0, 0),) * 3 + ((more, more),))
            found = layer(weights, name + "conv1", name + "bn1", maps, stride)
            found = jax.nn.relu(found)
            found = layer(weights, name + "conv2", name + "bn2", found, 1)
            maps = jax.nn.relu(found + shortcut)
    return maps


def layer(weights: Any, conv: str, norm: str, maps: Any, stride: int) -> jax.Array:
    """Convolve and normalise."""
    kernel = weights[conv + ".weight"]
    scale = weights[norm + ".weight"] / jnp.sqrt(weights[norm + ".running_var"] + 1e-5)
    bias = weights[norm + ".bias"] - weights[norm + ".running_mean"] * scale
    found = jax.lax.conv_general_dilated(
        *(maps, jnp.transpose(kernel, (2, 3, 1, 0)), (stride, stride)),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return found * scale + bias


def head(weights: Any, maps: Any) -> jax.Array:
    return maps.mean((1, 2)) @ weights["linear.weight"].T + weights["linear.bias"]


if __name__ == "__main__":
    sys.exit(main())

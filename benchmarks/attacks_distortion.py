"""Compare the distortions that attacks without a budget need, at equal gradients.

    python benchmarks/attacks_distortion.py imagenet --images FOLDER --count 16
    python benchmarks/attacks_distortion.py cifar --network FILE.npz --images FILE.npz
    python benchmarks/attacks_distortion.py walking --network mnist.npz --digits FILE

`imagenet` attacks MobileNetV2 on images whose names begin with the class, and leaves
out those that the network gets wrong. `cifar` attacks ResNet-20 on `x_test` and
`y_test`. `walking` attacks the network for digits of the authors of boundary
projection, whose repository has it as `pytorch/model/mnist.pth`.

PGD needs a budget, and there are several ways to compare it with attacks without one:

    pgd          balls of ten gradients, halved ten times, for each image its own
    pgd_grid     ten balls of ten gradients, the same for all images, each its nearest
    pgd_early    one ball for all images, where each ends with its first success
    pgd_one      one ball for all images, as the authors of boundary projection have it

The last two take the smallest ball in which all images succeed. Its search is not
counted, which favours them.

`--store FILE` writes the images that are attacked, and `--judge FILE` adds a row for
`adversarial` of a file, which `attacks_distortion_torch.py` makes.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# The benchmark measures the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import unlir_jax
from unlir_jax import attacks, split
from unlir_jax.attacks import checks, losses, minimal, norms, search
from unlir_jax.weights import readers

SIDE = 224
DISTANCES = {
    "imagenet": (0.1, 0.2, 0.3, 0.5),
    "cifar": (0.1, 0.2, 0.3, 0.5),
    "walking": (0.5, 1.0, 1.5, 2.0),
}
"""Distances at which the operating characteristic is told."""
HALVINGS = 10
GRID = 10
TWICE = 2**0.25
"""Ratio of neighbours among the balls that are the same for all images."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("task", choices=tuple(DISTANCES))
    add("--images", type=Path, help="folder of images named NNN_name.jpg, or .npz")
    add("--network", type=Path, help="weights of `cifar` or `walking`, .pth or .npz")
    add("--digits", type=Path, help="mnist_test.npz")
    add("--count", type=int, default=16, help="number of images; default: %(default)s")
    add("--steps", type=int, nargs="+", default=[100], help="default: %(default)s")
    add("--exact", action="store_true", help="round to no levels, instead of 256")
    add("--attacks", default="", help="names, with commas; default: all")
    add("--searched", type=int, default=100, help="steps of a constant of C&W")
    add("--rates", type=float, nargs="+", default=[0.01], help="of C&W")
    add("--ball", type=float, help="radius of `pgd_one`, which it searches otherwise")
    add("--store", type=Path, help="file for the images that are attacked")
    add("--judge", type=Path, help="file with images that others have attacked")
    options = parser.parse_args(arguments)
    world = WORLDS[options.task](options)
    if options.store:
        np.savez(options.store, images=world[2], labels=world[3])
    marks = DISTANCES[options.task]
    heads = ["attack", "gradients", "success", "mean l2", "median l2"]
    print(*heads, *(f"P({mark:g})" for mark in marks), sep=" | ")
    wanted = set(filter(None, options.attacks.split(",")))
    made = competitors(options, world[0])
    if options.judge:
        made = {"judged 0": judged(options.judge), **made}
        wanted |= {"judged"} if wanted else set()
    for name, attack in made.items():
        if not wanted or name.split()[0].rstrip(",") in wanted:
            print(" | ".join(row(name, attack, world, marks)), flush=True)
    return 0


World = tuple[Any, Any, jax.Array, jax.Array]
"""Model, variables, images and labels."""


def imagenet(options: argparse.Namespace) -> World:
    """Give MobileNetV2, and images that it gets right."""
    network = unlir_jax.load("mobilenet_v2")
    run = split.whole(network.model)
    images, labels = [], []
    for file in sorted(options.images.glob("*.jpg")):
        image, label = cropped(file)[None], int(file.name[:3])
        if int(run(network.variables, image).argmax()) == label:
            images.append(image)
            labels.append(label)
        if len(labels) == options.count:
            break
    batch = jnp.concatenate(images), jnp.asarray(labels)
    return network.model, network.variables, *batch


def cropped(file: Path) -> jax.Array:
    """Cut the middle out of an image."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    left, top = ((side - SIDE) // 2 for side in image.size)
    box = left, top, left + SIDE, top + SIDE
    return jnp.asarray(np.asarray(image.crop(box), np.float32) / 255)


def cifar(options: argparse.Namespace) -> World:
    """Give ResNet-20, and images of CIFAR-10 that it gets right."""
    network = unlir_jax.load("cifar_resnet20", weights=options.network)
    with np.load(options.images) as file:
        images = (file["x_test"][: 2 * options.count] / 255).astype(np.float32)
        labels = file["y_test"][: 2 * options.count].astype(np.int32)
    run = split.whole(network.model)
    right = np.asarray(run(network.variables, images).argmax(1)) == labels
    chosen = np.flatnonzero(right)[: options.count]
    batch = jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])
    return network.model, network.variables, *batch


def walking(options: argparse.Namespace) -> World:
    """Give the authors' network, and digits that it gets right."""
    variables = {k: jnp.asarray(v) for k, v in readers.read(options.network).items()}
    model = split.from_functions(digit_features, digit_head)
    with np.load(options.digits) as file:
        images = (file["x_test"][:, :, :, None] / 255).astype(np.float32)
        labels = file["y_test"].astype(np.int32)
    chunks = np.array_split(np.arange(len(images)), 20)
    found = [split.whole(model)(variables, images[rows]).argmax(1) for rows in chunks]
    right = np.concatenate(found) == labels
    print(f"error without attack: {100 * (1 - right.mean()):.2f} %")
    chosen = np.flatnonzero(right)[: options.count]
    return model, variables, jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])


def digit_features(variables: Any, images: Any) -> jax.Array:
    """Run four convolutions, and take maxima behind every second."""
    maps, layout = images, ("NHWC", "OIHW", "NHWC")
    for number in range(1, 5):
        name = f"feature_extractor.conv{number}."
        maps = jax.lax.conv_general_dilated(
            *(maps, variables[name + "weight"], (1, 1), "VALID"),
            dimension_numbers=layout,
        )
        maps = jax.nn.relu(maps + variables[name + "bias"])
        if number % 2 == 0:
            window = (1, 2, 2, 1)
            maps = jax.lax.reduce_window(
                maps, -jnp.inf, jax.lax.max, window, window, "VALID"
            )
    return maps


def digit_head(variables: Any, maps: jax.Array) -> jax.Array:
    """Run three dense layers; the first takes channels before rows."""
    vectors = maps.transpose(0, 3, 1, 2).reshape(len(maps), -1)
    for number in range(1, 4):
        name = f"classifier.fc{number}."
        vectors = vectors @ variables[name + "weight"].T + variables[name + "bias"]
        vectors = jax.nn.relu(vectors) if number < 3 else vectors
    return vectors


WORLDS = {"imagenet": imagenet, "cifar": cifar, "walking": walking}


def competitors(options: argparse.Namespace, model: Any) -> dict[str, Callable]:
    """List attacks by name; each is `(variables, images, labels) -> Attacked`."""
    alpha = 1.0 if options.task == "walking" else 2.0
    quantise = not options.exact
    found: dict[str, Callable] = {}
    for each in options.steps:
        settings = {"steps": each, "quantise": quantise}
        bp = attacks.boundary_projection(model, alpha=alpha, **settings)
        found |= {
            f"boundary_projection {each}": bp.counted,
            f"ddn {each}": attacks.ddn(model, **settings).counted,
            f"fmn {each}": attacks.fmn(model, **settings).counted,
            f"pgd {each}": searched_pgd(model, each // HALVINGS, quantise),
            f"pgd_grid {each}": grid_pgd(model, each // GRID, quantise),
            f"pgd_early {each}": one_pgd(model, each, quantise, stop_early=True),
            f"pgd_one {each}": one_pgd(model, each, quantise, ball=options.ball),
        }
    found["deepfool 50"] = attacks.deepfool(model, quantise=quantise).counted
    for rate in options.rates:
        searched = {"steps": options.searched, "searches": 5, "constant": 1.0}
        searched |= {"quantise": quantise, "learning_rate": rate}
        cw = attacks.carlini_wagner(model, **searched)
        found[f"carlini_wagner, rate {rate:g}"] = cw.counted
    return found


def judged(file: Path) -> Callable:
    """Give images that others have attacked, as an attack would."""

    def run(variables, images, labels):
        del variables, labels
        with np.load(file) as stored:
            changed, gradients = stored["adversarial"], stored["gradients"]
        found = jnp.asarray(changed.reshape(images.shape))
        return attacks.Attacked(found, jnp.asarray(gradients), jnp.zeros(len(images)))

    return run


def searched_pgd(model: Any, steps: int, quantise: bool) -> Callable:
    """Give PGD within the smallest ball that halving finds, for each image its own.

    Each ball takes `steps` gradients, and the step is 2.5 radii over that. With levels,
    the network sees rounded points, and distances are theirs.
    """
    levels = checks.levels_of(quantise)
    slope = search.slope(model, losses.NAMED["cross_entropy"])

    @jax.jit
    def step(variables, images, points, best, smallest, radius, aim):
        shown = minimal.quantised(points, levels)
        found = slope(variables, shown, aim)
        distance = norms.length(shown - images, "l2")
        better = losses.succeeded(found.logits, aim) & (distance < smallest)
        best = jnp.where(better[:, None, None, None], shown, best)
        smallest = jnp.where(better, distance, smallest)
        size = (2.5 * radius / steps)[:, None, None, None]
        points = points + size * norms.steepest(found.gradient, "l2")
        return norms.project(points, images, radius, "l2"), best, smallest

    def run(variables, images, labels):
        aim = losses.Aim(labels)
        best, count = images, len(images)
        low, high = np.zeros(count, np.float32), np.full(count, 4.0, np.float32)
        smallest = jnp.full(count, jnp.inf)
        for _ in range(HALVINGS):
            middle, points = (low + high) / 2, images
            for _ in range(steps):
                state = variables, images, points, best, smallest, middle, aim
                points, best, smallest = step(*state)
            reached = np.asarray(smallest) <= middle * (1 + 1e-5)
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        gradients = jnp.full(count, steps * HALVINGS)
        return attacks.Attacked(best, gradients, jnp.zeros(count))

    return run


def balls(model: Any, size: float, steps: int, **settings: Any) -> attacks.Attack:
    """Make PGD within a ball, which begins at the image, as its authors' peers do."""
    return attacks.pgd(
        model, norm="l2", epsilon=size, steps=steps, random_start=False, **settings
    )


def one_pgd(
    model: Any,
    steps: int,
    quantise: bool,
    stop_early: bool = False,
    ball: float | None = None,
) -> Callable:
    """Give PGD in one ball: a given one, or the smallest in which all images succeed.

    Sizes are powers of the fourth root of 2, and are tried from a half downwards and
    upwards.
    """
    settings = {"steps": steps, "quantise": quantise, "stop_early": stop_early}
    if ball:
        return balls(model, ball, **settings).counted

    def run(variables, images, labels):
        given = variables, images, labels

        def attacked(power: int) -> tuple[bool, attacks.Attacked]:
            found = balls(model, TWICE**power, **settings).counted(*given)
            told = attacks.outcome(model)(*given[:2], found.images, labels)
            return bool(np.all(told["success"])), found

        low: int | None = None
        high: int | None = None
        found: dict[int, attacks.Attacked] = {}
        while low is None or high is None or high - low > 1:
            power = _next(low, high)
            every, found[power] = attacked(power)
            low, high = (low, power) if every else (power, high)
        print(f"epsilon {TWICE**high:.3f}:", end=" ")
        return found[high]

    return run


def _next(low: int | None, high: int | None) -> int:
    """Choose the next power: a half at first, then outside or amid what is known."""
    if low is None:
        return -4 if high is None else high - 4
    return low + 4 if high is None else (low + high) // 2


def grid_pgd(model: Any, steps: int, quantise: bool) -> Callable:
    """Give the nearest success of ten balls, the same for all images."""

    def run(variables, images, labels):
        best, smallest = images, np.full(len(images), np.inf)
        for power in range(GRID):
            attack = balls(model, 0.05 * 2 ** (power / 2), steps, quantise=quantise)
            found = attack(variables, images, labels)
            told = attacks.outcome(model)(variables, images, found, labels)
            better = np.asarray(told["success"]) & (np.asarray(told["l2"]) < smallest)
            best = jnp.where(better[:, None, None, None], found, best)
            smallest = np.where(better, told["l2"], smallest)
        gradients = jnp.full(len(images), steps * GRID)
        return attacks.Attacked(best, gradients, jnp.zeros(len(images)))

    return run


def row(name: str, attack: Callable, world: World, marks: Sequence[float]) -> list[str]:
    """Attack, and say how far the successes have moved."""
    model, variables, images, labels = world
    found = attack(variables, images, labels)
    told = attacks.outcome(model)(variables, images, found.images, labels)
    success, distance = (np.asarray(told[key]) for key in ("success", "l2"))
    middle = f"{np.mean(distance[success]):.3f}", f"{np.median(distance[success]):.3f}"
    shares = [f"{np.mean(success & (distance <= mark)):.3f}" for mark in marks]
    gradients = f"{np.mean(found.gradients):.0f}"
    return [name, gradients, f"{success.mean():.3f}", *middle, *shares]


if __name__ == "__main__":
    sys.exit(main())

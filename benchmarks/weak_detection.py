"""Train a weak detector on synthetic scenes from their classes alone.

python benchmarks/weak_detection.py --seed 0

prints average precision on test scenes and CorLoc on training scenes. A small
convolutional network, WSDDN and three stages of OICR learn together, from scratch.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark runs the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import detection
from unlir_jax.data import synthetic_scenes
from unlir_jax.detection import oicr, wsddn

SIDE, CLASSES, BINS, HIDDEN = 96, synthetic_scenes.CLASSES, 2, 128
WIDTHS, KERNELS, STRIDES = (32, 64, 64, 64), (5, 3, 3, 3), (2, 2, 1, 1)
SUPPRESSION = 0.4


def scenes(split: str, count: int, seed: int) -> tuple[np.ndarray, list[Any]]:
    """Give images in [0, 1] and the objects in them."""
    drawn = [
        synthetic_scenes.draw_scene(split, index, seed=seed) for index in range(count)
    ]
    images = np.stack([scene.image for scene in drawn]).astype(np.float32) / 255
    return images, [detection.Objects(scene.boxes, scene.labels) for scene in drawn]


def initial(key: jax.Array) -> Any:
    keys = jax.random.split(key, len(WIDTHS) + 3)
    kernels, channels = [], 3
    for own, width, size in zip(keys, WIDTHS, KERNELS, strict=False):
        scale = np.sqrt(2 / (size * size * channels))
        shape = (size, size, channels, width)
        kernels.append(scale * jax.random.normal(own, shape))
        channels = width
    filters = BINS * BINS * channels
    hidden = np.sqrt(2 / filters) * jax.random.normal(keys[-3], (filters, HIDDEN))
    return {
        "kernels": kernels,
        "hidden": {"kernel": hidden, "bias": jnp.zeros(HIDDEN)},
        "wsddn": wsddn.initial(keys[-2], HIDDEN, CLASSES),
        "oicr": oicr.initial(keys[-1], HIDDEN, CLASSES),
    }


def features(variables: Any, images: jax.Array) -> jax.Array:
    maps = 2 * images - 1
    for kernel, stride in zip(variables["kernels"], STRIDES, strict=True):
        maps = jax.lax.conv_general_dilated(
            maps, kernel, (stride, stride), "SAME", None, None, ("NHWC", "HWIO", "NHWC")
        )
        maps = jax.nn.relu(maps)
        maps = maps / jnp.sqrt(jnp.mean(maps**2, axis=-1, keepdims=True) + 1e-3)
    return maps


def heads(variables: Any, maps: jax.Array, boxes: np.ndarray) -> Any:
    """Give scores of WSDDN and logits of OICR for one image."""
    means = detection.region_features(maps, boxes, (SIDE, SIDE), bins=BINS)
    flat = means.reshape((len(boxes), -1))
    hidden = jax.nn.relu(wsddn.apply(variables["hidden"], flat))
    scores = wsddn.region_scores(variables["wsddn"], hidden)
    return scores, oicr.stage_logits(variables["oicr"], hidden)


def trainer(boxes: np.ndarray, rate: float, steps: int) -> tuple[Any, Callable]:
    overlaps = np.asarray(detection.overlaps(boxes, boxes))
    optimiser = optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4),
    )

    def one(variables: Any, maps: jax.Array, present: jax.Array) -> Any:
        scores, logits = heads(variables, maps, boxes)
        image = CLASSES * wsddn.image_loss(scores, present)
        stages = oicr.losses(logits, scores, present, overlaps, background=0.1)
        return image, stages.sum()

    def loss(variables: Any, images: jax.Array, present: jax.Array) -> Any:
        maps = features(variables, images)
        image, stages = jax.vmap(one, in_axes=(None, 0, 0))(variables, maps, present)
        return image.mean() + stages.mean(), image.mean()

    @jax.jit
    def step(variables: Any, state: Any, images: jax.Array, present: jax.Array) -> Any:
        (_, image), slope = jax.value_and_grad(loss, has_aux=True)(
            variables, images, present
        )
        change, state = optimiser.update(slope, state, variables)
        return optax.apply_updates(variables, change), state, image

    return optimiser, step


def detector(boxes: np.ndarray) -> Callable:
    @jax.jit
    def detect(variables: Any, images: jax.Array) -> Any:
        def one(maps: jax.Array) -> Any:
            scores, logits = heads(variables, maps, boxes)
            refined = oicr.mean_scores(logits)
            kept = [
                detection.nms(boxes, each, threshold=SUPPRESSION).mask
                for each in (scores, refined)
            ]
            return scores, refined, *kept

        return jax.lax.map(one, features(variables, images))

    def run(variables: Any, images: np.ndarray) -> list[list[Any]]:
        blocks = [
            detect(variables, images[i : i + 50]) for i in range(0, len(images), 50)
        ]
        weak, refined, *masks = (
            np.concatenate(parts) for parts in zip(*blocks, strict=True)
        )
        return [
            [of_image(boxes, *pair) for pair in zip(scores, kept, strict=True)]
            for scores, kept in zip((weak, refined), masks, strict=True)
        ]

    return run


def of_image(boxes: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> Any:
    rows, labels = np.nonzero(kept)
    return detection.Detections(boxes[rows], scores[rows, labels], labels)


def report(found: list[list[Any]], objects: list[Any], name: str) -> None:
    for head, each in zip(("WSDDN", "OICR"), found, strict=True):
        values = [
            detection.mean_average_precision(
                each, objects, classes=CLASSES, overlaps=overlaps, rule=rule
            )
            for overlaps, rule in (
                ((0.5,), "voc10"),
                ((0.3,), "voc10"),
                (detection.COCO_OVERLAPS, "coco"),
            )
        ]
        right = np.nanmean(detection.corloc(each, objects, classes=CLASSES))
        print(
            f"{name} {head}: mAP@.5 {values[0]:.3f}, mAP@.3 {values[1]:.3f}, "
            f"mAP@[.5:.95] {values[2]:.3f}, CorLoc {right:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    begin, processor = time.perf_counter(), time.process_time()
    images, objects = scenes("train", options.scenes, options.seed)
    tests, test_objects = scenes("test", 300, options.seed)
    present = np.zeros((len(images), CLASSES), bool)
    for row, there in zip(present, objects, strict=True):
        row[np.asarray(there.labels)] = True
    boxes = detection.dense_windows(
        (SIDE, SIDE), scales=(0.35, 0.5), ratios=(1.0, 1.6), step=0.25
    )
    variables = initial(jax.random.key(options.seed))
    optimiser, step = trainer(boxes, options.rate, options.steps)
    detect = detector(boxes)
    state = optimiser.init(variables)
    random = np.random.default_rng(options.seed)
    losses: list[jax.Array] = []
    for number in range(1, options.steps + 1):
        rows = random.integers(0, len(images), options.batch)
        batch = images[rows]
        flipped = random.random(options.batch) < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        variables, state, image = step(variables, state, batch, present[rows])
        losses.append(image)
        if number % 250 == 0 or number == options.steps:
            spent = time.perf_counter() - begin, time.process_time() - processor
            recent = float(np.mean(losses[-100:]))
            print(
                f"step {number}: loss of images {recent:.3f}, {spent[0]:.0f} s, "
                f"{spent[1]:.0f} s of the processor",
                flush=True,
            )
            report(detect(variables, tests), test_objects, "test")
    report(detect(variables, images[:300]), objects[:300], "train")


if __name__ == "__main__":
    main()

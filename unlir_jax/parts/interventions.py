"""Effect on the decision of removing true parts and found parts.

Animals are drawn again without a part, or with another variant of it; in images
with keypoints, a disc is painted over one; in any, the region of the part that adds
most is deleted. What happens then is compared with what the network itself claims.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core.document_types import Document
from unlir_jax.data import interventions, pipeline, preprocessing
from unlir_jax.data import source as sources
from unlir_jax.features import receptive_field
from unlir_jax.metrics import parts as part_metrics
from unlir_jax.metrics.parts import interventions as removals
from unlir_jax.metrics.parts import keypoints
from unlir_jax.parts import attribution
from unlir_jax.parts.part_run import PartRun
from unlir_jax.statistics import significance
from unlir_jax.types import Module, PyTree, Variables

Look = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]

# Animals that are drawn again, and images of any kind that are changed; evenly
# spread. Each of these is looked at about twenty times.
REDRAWN, CHANGED = 200, 48
ROWS = 16
# Radius of the disc over a keypoint, in shares of the image's side.
RADIUS = 0.1
# Of the noise that parts are to be stable under, and where it is cut: Huang et al.
# (ICCV 2023) say 0.2 and 0.25 where images have std 1, ImageNet's have 0.226.
NOISE, NOISE_CUT = 0.2 * 0.226, 0.25 * 0.226


def measure(
    run: PartRun,
    test: sources.Source,
    variables: Variables,
    centres: receptive_field.Centres,
) -> dict[str, float]:
    """Intervene on images of the test split.

    Args:
        run: The training of a part network.
        test: Its test split.
        variables: All variables of the network.
        centres: Where the cells look that parts are seen in.

    Returns:
        Numbers by name. Spearman's correlation of claimed and measured effects with its
        95 % interval and its mean within images, `test/removal_spearman` and
        `test/swap_spearman` of animals drawn again, `test/keypoint_removal_spearman`
        of painted keypoints; `test/stability` of parts under noise, where there are
        keypoints. And how far the probability of the right class falls without the
        region of the part that adds most, a share `test/region_area` of the image:
        `test/region_drop`; without one of the same size elsewhere,
        `test/random_region_drop`; and the difference, `test/region_drop_above_random`,
        with its 95 % interval.
    """
    variables = jax.tree.map(jnp.asarray, variables)
    look = _looking(run.network.module, variables)
    measured = {}
    if run.creatures is not None:
        measured |= _redrawn(run.creatures, test.size, look)
    pictures = _pictures(test, run.frame)
    if not len(pictures["label"]):
        return measured
    seen = look(pictures["image"], pictures["label"])
    measured |= _regions(
        run.network.module, variables, pictures, seen["added"], centres
    )
    points = pictures.get("keypoints")
    if points is not None and (points[..., 2] > 0).any():
        measured |= _keypoints(pictures, test.parts, seen, look)
    return measured


def _redrawn(options: Document, size: int, look: Look) -> dict[str, float]:
    """Draw animals again without each true part, and with another variant of it."""
    some = range(min(REDRAWN, size))
    without = interventions.synthetic_interventions(indices=some, **options)
    seen = look(_real(without.images), without.labels)
    claims = removals.claimed_effects(
        seen["evidence"], without.masks, len(without.parts)
    )
    changes = {"removal": without.without}
    if options.get("variants", 3) > 1:
        changes["swap"] = interventions.swap(indices=some, **options).swapped
    measured = {}
    for name, changed in changes.items():
        flat = _real(changed.reshape((-1, *changed.shape[2:])))
        found = look(flat, np.repeat(without.labels, changed.shape[1]))["logits"]
        found = found.reshape((*changed.shape[:2], -1))
        effects = removals.removal_effects(seen["logits"], found, without.labels)
        measured |= _agreement(name, claims, effects, without.present)
    return measured


def _agreement(
    name: str, claims: np.ndarray, effects: np.ndarray, present: np.ndarray
) -> dict[str, float]:
    if not (present.sum(1) >= 3).any():
        return {}
    agreed = removals.agreement(claims, effects, present)
    return {
        f"test/{name}_spearman": agreed.pooled.mean,
        f"test/{name}_spearman_low": agreed.pooled.low,
        f"test/{name}_spearman_high": agreed.pooled.high,
        f"test/{name}_spearman_per_image": agreed.per_image.mean,
    }


def _keypoints(
    pictures: Mapping[str, np.ndarray],
    called: Sequence[str],
    seen: Mapping[str, np.ndarray],
    look: Look,
) -> dict[str, float]:
    """Paint over each keypoint, left and right together; and add noise."""
    images, points, labels = (
        pictures[name] for name in ("image", "keypoints", "label")
    )
    names, groups = keypoints.merge_sides(called)
    size = images.shape[1]
    claims, without, present = [], [], []
    for group in range(len(names)):
        some = points[:, groups == group]
        discs = keypoints.discs(some, RADIUS * size, size)
        painted = removals.keypoint_removal(images, some, RADIUS * size)
        without.append(look(painted, labels)["logits"])
        claimed = removals.claimed_effects(
            seen["evidence"], discs.astype(np.uint8), 1, background=True
        )
        claims.append(claimed[:, 0])
        present.append(discs.any((1, 2)))
    effects = removals.removal_effects(seen["logits"], np.stack(without, 1), labels)
    measured = _agreement(
        "keypoint_removal", np.stack(claims, 1), effects, np.stack(present, 1)
    )
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    noisy = np.clip(images + np.clip(noise, -NOISE_CUT, NOISE_CUT), 0, 1)
    scores = look(noisy.astype(np.float32), labels)["scores"]
    stable = part_metrics.stability(seen["scores"], scores, points, called, size)
    return measured | {"test/stability": float(stable.mean())}


def _regions(
    module: Module,
    variables: Variables,
    pictures: Mapping[str, np.ndarray],
    added: np.ndarray,
    centres: receptive_field.Centres,
) -> dict[str, float]:
    """Delete where the part is that adds most, and as much elsewhere.

    A region is where it adds at least half of what it adds anywhere.
    """
    images = pictures["image"]
    centres = attribution.fitted(centres, added)
    placed = np.asarray(receptive_field.place(added, centres, images.shape[1]))
    most = placed.max((1, 2))[:, None, None]
    regions = (placed >= most / 2) & (most > 0)
    deletion = removals.region_deletion(module.apply, mean=tuple(module.mean))
    keys = jax.random.key(0)
    found = _by_rows(
        lambda *rows: deletion(variables, *rows, key=keys),
        images,
        pictures["label"],
        regions,
    )
    own, random = found["region_drop"], found["random_drop"]
    gap = significance.bootstrap_difference(own, random)
    return {
        "test/region_area": float(regions.mean()),
        "test/region_drop": float(own.mean()),
        "test/random_region_drop": float(random.mean()),
        "test/region_drop_above_random": gap.mean,
        "test/region_drop_above_random_low": gap.low,
        "test/region_drop_above_random_high": gap.high,
    }


def _looking(module: Module, variables: Variables) -> Look:
    """Make what gives logits, scores, and what is said for the label, where.

    Returns:
        `(images, labels) ->` `logits`; `scores`; `evidence`, of all parts together,
        `[batch, rows, columns]`; and `added`, that of the part that adds most.
    """

    @jax.jit
    def run(variables, images, labels):
        maps = module.apply(variables, images, method="features")
        reading = module.apply(variables, maps, method="read")
        rows = jnp.arange(len(labels))
        strongest = reading.contributions[rows, :, labels].argmax(-1)
        evidence = module.apply(variables, maps, labels, method="evidence")
        return {
            "logits": reading.contributions.sum(1) + reading.bias[None],
            "scores": reading.scores,
            "evidence": evidence.sum(-1),
            "added": evidence[rows, :, :, strongest],
        }

    return lambda *rows: _by_rows(functools.partial(run, variables), *rows)


def _pictures(
    test: sources.Source, frame: preprocessing.Frame
) -> dict[str, np.ndarray]:
    """Read test images, evenly spread, in [0, 1]; those that cannot be, are left."""
    count = min(CHANGED, test.size)
    some = np.linspace(0, test.size - 1, count).astype(int)
    known = [name for name in ("keypoints",) if name in test.annotations]
    batches = pipeline.evaluation(
        sources.subset(test, some),
        batch_size=count,
        annotations=known,
        **frame,
    )
    (batch,) = batches
    good = batch["weight"] > 0
    found = {name: batch[name][good] for name in ("image", "label", *known)}
    return found | {"image": _real(found["image"])}


def _real(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


def _by_rows(function: Callable[..., PyTree], *arrays: np.ndarray) -> PyTree:
    """Call a function on some rows at a time, always as many: it is compiled once."""
    count = len(arrays[0])
    found = []
    for first, last in itertools.pairwise([*range(0, count, ROWS), count]):
        short = ROWS - (last - first)
        some = [
            np.pad(rows[first:last], [(0, short)] + [(0, 0)] * (rows.ndim - 1), "edge")
            for rows in arrays
        ]
        kept = jax.tree.map(
            lambda leaf, kept=last - first: np.asarray(leaf)[:kept], function(*some)
        )
        found.append(kept)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

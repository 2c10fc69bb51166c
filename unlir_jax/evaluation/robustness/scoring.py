"""One batch of an evaluation of robustness, from its pixels to what is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import attacks, split
from unlir_jax.attacks.ensemble import filled
from unlir_jax.core import memoize
from unlir_jax.data import corruptions, pipeline, source
from unlir_jax.evaluation.robustness.task import Task
from unlir_jax.types import SplitModel

DISTANCES = ("l0", "l1", "l2", "linf", "ssim")
"""What is kept of each attack, besides its distance in the norm of all."""
Progress = Callable[[str, float], None]
Arrays = dict[str, np.ndarray]


def read(task: Task, missing: Sequence[int]) -> Iterator[tuple[int, pipeline.Batch]]:
    """Read the batches that are not there yet, each as it would be in a whole run."""
    size, end, options = task.settings.batch_size, task.data.size, task.settings.data
    if not missing:
        return
    rows = [np.arange(first * size, min((first + 1) * size, end)) for first in missing]
    places = np.concatenate(rows)
    found = pipeline.evaluation(
        source.subset(task.data, places),
        batch_size=size,
        frame=task.network.frame,
        workers=options.workers,
        threads=options.threads or None,
        strict=options.strict,
        **task.frame(),
    )
    for number, batch in zip(missing, found, strict=True):
        inside = batch["index"] >= 0
        batch["index"] = np.where(inside, places[batch["index"]], -1)
        yield number, batch


def score(task: Task, batch: Mapping[str, np.ndarray], progress: Progress) -> Arrays:
    """Classify, attack and corrupt a batch.

    Only what the network gets right is attacked, by a budget only what smaller budgets
    have left standing.

    Returns:
        `index`, `label`, `predicted` and `unreadable`; for each attack
        `distance/NAME`, infinity where it failed, with `l2/NAME` and so on, `budget/
        NAME`, `gradients/NAME` and `forwards/NAME`; and for each corruption
        `corruption/NAME`, `[images, severities]`, whether the network is right.

    Raises:
        FloatingPointError: The logits are not finite.
    """
    kept = batch["weight"] > 0
    index = batch["index"][kept]
    unreadable = batch["index"][(batch["index"] >= 0) & ~kept]
    pixels = jnp.asarray(batch["image"][kept], jnp.float32) / 255
    truth = np.asarray(task.labels[index], np.int32)
    predicted = predict(task, pixels)
    found: Arrays = {"index": index, "label": truth, "predicted": predicted}
    found["unreadable"] = unreadable
    stages = len(task.attacks) + len(task.corruptions)
    for number, (name, each) in enumerate(task.attacks.items()):
        progress(name, number / stages)
        right = np.flatnonzero(predicted == truth)
        attacked = attack(task, each, np.asarray(pixels), truth, right)
        found |= {f"{kind}/{name}": values for kind, values in attacked.items()}
    for number, name in enumerate(task.corruptions, len(task.attacks)):
        progress(name, number / stages)
        found[f"corruption/{name}"] = corrupted(task, name, np.asarray(pixels), truth)
    return found


def predict(task: Task, pixels: jax.Array) -> np.ndarray:
    """Give the network's classes.

    Raises:
        FloatingPointError: The logits are not finite.
    """
    if not len(pixels):
        return np.zeros(0, np.int32)
    rows = filled(np.arange(len(pixels)))
    logits = np.asarray(
        _applied(task.network.model)(task.network.variables, pixels[rows])
    )
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            f"The logits of {task.network.name} are not finite; expected numbers: look "
            "at its training."
        )
    return logits[: len(pixels)].argmax(1).astype(np.int32)


@memoize.remember
def _applied(model: SplitModel) -> Callable[..., jax.Array]:
    return jax.jit(split.whole(model))


def attack(
    task: Task,
    budgets: Sequence[attacks.Attack],
    pixels: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
) -> Arrays:
    """Attack some rows of a batch, budget after budget, until each has an error."""
    count, norm = len(pixels), task.settings.norm
    found: Arrays = {name: np.full(count, np.nan) for name in DISTANCES}
    found |= {name: np.full(count, np.inf) for name in ("distance", "budget")}
    found |= {name: np.zeros(count, np.int64) for name in ("gradients", "forwards")}
    found["winner"] = np.full(count, -1)
    key = jax.random.key(task.settings.seed)
    for each in budgets:
        if not len(rows):
            break
        padded = filled(rows)
        given = jnp.asarray(pixels[padded]), jnp.asarray(labels[padded])
        made = each.counted(task.network.variables, *given, key=key)
        told = attacks.outcome(task.network.model)(
            task.network.variables, given[0], made.images, given[1]
        )
        told = {name: np.asarray(values)[: len(rows)] for name, values in told.items()}
        for name in ("gradients", "forwards"):
            found[name][rows] += np.asarray(getattr(made, name))[: len(rows)]
        success = told["success"]
        deceived = rows[success]
        for name in DISTANCES:
            found[name][deceived] = told[name][success]
        found["distance"][deceived] = told[norm][success]
        found["budget"][deceived] = each.settings.get("epsilon", np.nan)
        if made.winner is not None:
            winner = np.asarray(made.winner)[: len(rows)]
            found["winner"][deceived] = winner[success]
        rows = rows[~success]
    return found


def corrupted(
    task: Task, name: str, pixels: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Tell whether the network is right on corrupted images, `[images, severities]`."""
    key = jax.random.key(task.settings.seed)
    right = [
        predict(task, _corrupted(name, int(severity), pixels, key)) == labels
        for severity in task.settings.severities
    ]
    return np.stack(right, axis=1)


def _corrupted(
    name: str, severity: int, pixels: np.ndarray, key: jax.Array
) -> jax.Array:
    if not len(pixels):
        return jnp.asarray(pixels)
    return jnp.asarray(corruptions.corrupt(name, severity)(pixels, key))


def named(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Sequence[str]:
    """Name the images of a batch, readable ones first."""
    both = np.concatenate([arrays["index"], arrays["unreadable"]])
    return [names[int(place)] for place in both]

"""Start of CA-Stream's attention on kept features, by images that are left out."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import tree
from unlir_jax.core.document_types import Settings
from unlir_jax.features import cache
from unlir_jax.models import drawing, pretrained
from unlir_jax.models.attention_pooling import ca_stream
from unlir_jax.objectives.objective import Hook, Session
from unlir_jax.statistics import calibration
from unlir_jax.training import classifier_start, optim
from unlir_jax.types import Array, Module, PyTree, Variables

START = "left_out"
"""The `start` of a way to pool that asks for it."""
FOLDS, CHECKS = 3, 24
RATES = 1e-6, 1e-3
"""First and last learning rate of the attention; it rises by one factor a step."""
FEW, RATE = 200, 3e-4
"""Where the attention leaves fewer images out, its rate falls from this one."""
_KERNEL, _BIAS = "params/classifier/kernel", "params/classifier/bias"


class Judges(NamedTuple):
    """Hold linear classifiers, and which of them has not learned an image.

    Attributes:
        kernel: `[judges, channels, classes]`, over the temperature.
        bias: `[judges, classes]`, over the temperature.
        number: Number of the judge of each image, `[images]`.
        temperature: That makes them calibrated on average-pooled features.
    """

    kernel: np.ndarray
    bias: np.ndarray
    number: np.ndarray
    temperature: float


def hook(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    classifier: str,
    steps: int,
    *,
    is_new: bool,
) -> Hook:
    """Make the hook that trains the attention before the first step.

    A classifier knows the images by heart that it learned, and tells nothing of where
    to look in them. So the attention learns on each image behind a classifier that
    has not seen it, of average-pooled features of other images (three folds). They are
    made calibrated first, since attention can lower logits by looking elsewhere. The
    last linear map stays the identity. `choose_steps` says how long it learns, where
    a fold has images enough. With fewer images of a class than folds, the attention
    starts as average pooling.

    Args:
        settings: Settings of the training.
        network: A network that pools by `ca_stream`.
        rules: Rules of all parameters.
        classifier: Beginning of the paths of the classifier's parameters.
        steps: Number of steps, of each classifier and of the attention.
        is_new: Whether the classifier is new; the weights' own has not seen any image.
    """

    def start(
        variables: Variables, session: Session
    ) -> tuple[Variables, Mapping[str, object]]:
        kept = session.batches.train
        if kept is None:
            return variables, {}
        if is_new and _fewest(kept, network.module.num_classes) < FOLDS:
            return variables, {"start/left_out": False}
        known = np.asarray(kept.weight) > 0
        pooled = kept._replace(
            features=classifier_start.averages(network.module, kept.features)
        )
        count = FOLDS if is_new else 1
        folds = deal(kept.label, kept.weight, count, settings.seed)
        alone = classifier_start.classifier_alone(rules, classifier)
        given = settings, network.module, variables, pooled, alone, steps, session
        learnt = [variables]
        if is_new:
            places = [np.flatnonzero((folds != f) & known) for f in range(count)]
            learnt = [classifier_start.learn(*given, known=p)[0] for p in places]
        judges = calibrated(network.module, learnt, folds, pooled)
        given = network.module, variables, kept, judges
        how = {
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "progress": session.show,
        }
        notes = {"start/temperature": judges.temperature}
        if int(known.sum()) // FOLDS < FEW:
            rate = optax.cosine_decay_schedule(RATE, steps)
            learned, more = attend(*given, steps=steps, rate=rate, **how)
            return learned, notes | more
        rate = optax.exponential_decay(RATES[0], steps, RATES[1] / RATES[0])
        count, losses = choose_steps(*given, steps=steps, rate=rate, **how)
        learned, more = attend(*given, steps=count, rate=rate, **how)
        notes |= {"start/steps": count, "start/left_out_losses": losses}
        return learned, notes | more

    return Hook(before_first_step=start)


def _fewest(kept: cache.Features, classes: int) -> int:
    """Count the images of the class that has the fewest."""
    labels = np.asarray(kept.label)[np.asarray(kept.weight) > 0]
    return int(np.bincount(labels, minlength=classes).min())


def deal(labels: Array, weight: Array, folds: int, seed: int) -> np.ndarray:
    """Deal the images of each class out to folds, `[images]`; all alike, or one more.

    Args:
        labels: Integers, `[images]`.
        weight: 0 for an image that could not be read.
        folds: Number of folds.
        seed: Seed of the order.
    """
    labels = np.where(np.asarray(weight) > 0, np.asarray(labels), -1)
    order = np.random.default_rng([seed, folds]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), int)
    found[order] = np.arange(len(labels)) % folds
    return found


def calibrated(
    module: Module, learnt: list[Variables], folds: np.ndarray, pooled: cache.Features
) -> Judges:
    """Divide classifiers by the temperature that fits the images they have not seen.

    Args:
        module: The network.
        learnt: Its variables with each of the classifiers.
        folds: Number of the classifier that has not seen it, `[images]`.
        pooled: Average-pooled features.
    """
    leaves = [tree.flatten(each) for each in learnt]
    kernel = np.stack([each[_KERNEL] for each in leaves])
    bias = np.stack([each[_BIAS] for each in leaves])
    bare = module.clone(num_classes=0)
    vectors = bare.apply(learnt[0], pooled.features[:, 0, 0], method="decide")
    known = np.asarray(pooled.weight) > 0
    logits = np.einsum("bd,kdc->bkc", np.asarray(vectors)[known], kernel) + bias
    own = logits[np.arange(len(logits)), folds[known]]
    degree = calibration.fit_temperature(own, np.asarray(pooled.label)[known])
    return Judges(kernel / degree, bias / degree, folds, float(degree))


def choose_steps(
    module: Module,
    variables: Variables,
    kept: cache.Features,
    judges: Judges,
    *,
    steps: int,
    rate: optax.Schedule,
    batch_size: int,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[int, dict[str, float]]:
    """Choose how long the attention learns, by a third of the images.

    It learns on the others. From time to time the third is classified. The number of
    steps is the one with the least cross-entropy there, and no more errors than average
    pooling. The search ends once the cross-entropy is larger than that of average
    pooling by more than a standard error of the paired difference.

    Args:
        module: A network that pools by `ca_stream`.
        variables: Its variables, with which it pools by average.
        kept: Features of all images.
        judges: See `calibrated`.
        steps: Most steps.
        rate: Adam's learning rate by step.
        batch_size: Number of images in each.
        seed: Seed of the order of the images, and of which are left out.
        progress: Told what is being done.

    Returns:
        The number of steps, 0 if the attention should not learn; and the mean loss
        after each number that was tried, "0" for average pooling.
    """
    folds = deal(kept.label, kept.weight, FOLDS, seed)
    known = np.asarray(kept.weight) > 0
    held = np.flatnonzero(known & (folds == FOLDS - 1))
    losses_of = _losses(module, kept, judges, held, batch_size)
    average, errors = losses_of(variables)
    chosen, losses = 0, {"0": float(average.mean())}

    def goes_further(step: int, learned: Variables) -> bool:
        nonlocal chosen
        found, wrong = losses_of(learned)
        losses[str(step)] = float(found.mean())
        excess = found - average
        if found.mean() < losses[str(chosen)] and wrong <= errors:
            chosen = step
        return bool(excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)))

    attend(
        module,
        variables,
        kept,
        judges,
        steps=steps,
        rate=rate,
        batch_size=batch_size,
        seed=seed,
        known=np.flatnonzero(known & (folds != FOLDS - 1)),
        goes_further=goes_further,
        progress=progress,
    )
    return chosen, losses


def attend(
    module: Module,
    variables: Variables,
    kept: cache.Features,
    judges: Judges,
    *,
    steps: int,
    rate: optax.Schedule,
    batch_size: int,
    seed: int,
    known: np.ndarray | None = None,
    goes_further: Callable[[int, Variables], bool] = lambda step, learned: True,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[Variables, dict[str, float]]:
    """Train query and links on kept features, each image behind its judge.

    Args:
        module: A network that pools by `ca_stream`.
        variables: Its variables.
        kept: Features of all images.
        judges: See `calibrated`.
        steps: Number of steps; 0 leaves the variables as they are.
        rate: Adam's learning rate by step.
        batch_size: Number of images in each.
        seed: Seed of the order of the images.
        known: Places of the images to learn from; all by default.
        goes_further: Asked at `CHECKS` steps, evenly spread; False ends the training.
        progress: Told what is being done.

    Returns:
        The variables, and the mean cross-entropies of the first and the last epoch.
    """
    if not steps:
        return variables, {}
    leaves = tree.flatten(variables)
    last = f"{drawing.POOL}{ca_stream.LAST}/"
    learning = {
        path: leaf
        for path, leaf in leaves.items()
        if path.startswith(drawing.POOL) and not path.startswith(last)
    }
    fixed = {path: leaf for path, leaf in leaves.items() if path not in learning}
    optimizer = optax.adam(rate)
    update, state = _update(module, fixed, judges, optimizer), optimizer.init(learning)
    rows = cache.training(kept, batch_size=batch_size, seed=seed, known=known)
    values = []
    for step in range(steps):
        if step % classifier_start.PROGRESS_EVERY == 0:
            progress(f"attention behind left-out classifiers: {step} of {steps}")
        batch = next(rows)
        number = judges.number[batch["index"]]
        needed = {name: batch[name] for name in ("features", "label", "weight")}
        learning, state, value = update(learning, state, needed, number)
        values.append(value)
        is_check = (step + 1) * CHECKS // steps > step * CHECKS // steps
        whole = tree.unflatten({**fixed, **learning})
        if is_check and not goes_further(step + 1, whole):
            break
    epoch = min(len(values), -(-len(kept.label) // batch_size))
    first, final = (
        float(np.mean(jax.device_get(each)))
        for each in (values[:epoch], values[-epoch:])
    )
    return tree.unflatten({**fixed, **learning}), {
        "start/first_loss": first,
        "start/last_loss": final,
    }


def _update(
    module: Module,
    fixed: dict[str, Array],
    judges: Judges,
    optimizer: optax.GradientTransformation,
) -> Callable[..., tuple[PyTree, PyTree, jax.Array]]:
    """Make a step of `attend`: `(learning, state, rows, numbers) -> …, loss`."""
    judged = _judged(module, judges)

    def loss(learning: PyTree, rows: PyTree, number: Array) -> jax.Array:
        whole = tree.unflatten({**fixed, **learning})
        each, _ = judged(whole, jnp.asarray(rows["features"]), rows["label"], number)
        return jnp.sum(each * rows["weight"]) / jnp.maximum(rows["weight"].sum(), 1)

    @jax.jit
    def update(
        learning: PyTree, state: PyTree, rows: PyTree, number: Array
    ) -> tuple[PyTree, PyTree, jax.Array]:
        value, slope = jax.value_and_grad(loss)(learning, rows, number)
        change, state = optimizer.update(slope, state, learning)
        return optax.apply_updates(learning, change), state, value

    return update


def _judged(
    module: Module, judges: Judges
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Make `(variables, features, labels, numbers) -> losses, errors` of the judges."""
    bare = module.clone(num_classes=0)

    def judged(
        variables: Variables, features: Array, labels: Array, number: Array
    ) -> tuple[jax.Array, jax.Array]:
        vectors = bare.apply(variables, features, method="head")
        every = jnp.einsum("bd,kdc->kbc", vectors, judges.kernel)
        own = (every + judges.bias[:, None])[number, jnp.arange(len(vectors))]
        losses = optax.softmax_cross_entropy_with_integer_labels(own, labels)
        return losses, jnp.argmax(own, axis=1) != labels

    return judged


def _losses(
    module: Module,
    kept: cache.Features,
    judges: Judges,
    places: np.ndarray,
    batch_size: int,
) -> Callable[[Variables], tuple[np.ndarray, int]]:
    """Make `variables -> losses, number of errors` of some images, by their judges."""
    judged = jax.jit(_judged(module, judges))

    def losses(variables: Variables) -> tuple[np.ndarray, int]:
        found, errors = [], 0
        for begin in range(0, len(places), batch_size):
            some = places[begin : begin + batch_size]
            # Rows are repeated to one size, which is compiled once.
            rows = np.resize(some, batch_size)
            given = (kept.features[rows], kept.label[rows], judges.number[rows])
            each, wrong = judged(variables, *(jnp.asarray(part) for part in given))
            found.append(np.asarray(each, np.float64)[: len(some)])
            errors += int(np.sum(wrong[: len(some)]))
        return np.concatenate(found), errors

    return losses

"""Iterative pruning of an adapted network, with training between the rounds."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import filters, pruning
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training, probes
from unlir_jax.filters import sparsity
from unlir_jax.models import pooling
from unlir_jax.pruning import choice as choices
from unlir_jax.types import Array, Logits, Maps

BATCH = 50


class Adapted(NamedTuple):
    """Hold a network for a task, with its filter weights multiplied in.

    Attributes:
        name: Name of the network, whose table of norms `filters` has.
        module: Module of usual width, or pruned.
        variables: Variables of the module.
        head: `kernel` and `bias`, see `adapter_training.logits`.
        plan: How the head decides and how it learns.
    """

    name: str
    module: Any
    variables: Any
    head: Mapping[str, Array]
    plan: adapter_training.Plan


class Course(NamedTuple):
    """Hold the rounds of a pruning.

    Attributes:
        shares: Removed share of all inner channels after each round.
        steps: Steps of Adam after each round; 0: nothing learns.
        kind: How channels are scored, see `pruning.scores`.
        cost_power: Scores are divided by a channel's multiply-adds to this power, so
            that more goes where it saves more.
        keep_at_least: Channels that stay in every layer.
        pictures: Number of given images for scores and regressions.
        after: Block after which filter weights learn; channels are removed everywhere.
        teacher: Share of what the network said before pruning in what is learnt; the
            rest are labels.
        mixed: Whether images are mixed (mixup).
        penalty: Penalty of filter weights in all rounds but the last, such
            as l1 on `depthwise`: what follows can then be scored by `weight_x_scale`.
    """

    shares: tuple[float, ...] = (0.1, 0.3, 0.5)
    steps: tuple[int, ...] = (0, 80, 160)
    kind: str = "unpredictable"
    cost_power: float = 0.0
    keep_at_least: int = 8
    pictures: int = 300
    after: str = "block6"
    teacher: float = 1.0
    mixed: bool = True
    penalty: sparsity.Penalty = sparsity.Penalty()


def slim(
    adapted: Adapted,
    images: np.ndarray,
    labels: np.ndarray,
    course: Course,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Adapted]:
    """Prune an adapted network in rounds, and let weights of filters and head recover.

    In each round the channels that count least go for good, the layers that
    read them make up for it by regression, and one number for each remaining filter
    learns, with the head, to say what the network said before. These numbers are
    multiplied in: what comes out is a plain, smaller network.

    Args:
        adapted: Network of full width.
        images: Training images, `[images, size, size, 3]`, 8-bit.
        labels: Class of each image, `[images]`.
        course: The rounds.
        seed: Seed of the order of images, and of mixtures.
        say: Receiver of progress messages.

    Yields:
        The network after each round.

    Raises:
        ValueError: Shares that do not rise within [0, 1), or see `pruning.choose`.
    """
    rising = (0.0, *course.shares)
    if not course.shares or any(
        not first < second < 1
        for first, second in zip(rising, rising[1:], strict=False)
    ):
        raise ValueError(
            f"`course.shares`={course.shares}; expected rising numbers in (0, 1)."
        )
    if len(course.steps) != len(course.shares) or min(course.steps) < 0:
        raise ValueError(
            f"`course.steps`={course.steps}; expected {len(course.shares)} numbers "
            "from 0, one for each share."
        )
    whole = sum(pruning.graph(adapted.module).channels.values())
    views = (images, images[:, :, ::-1])
    classes = np.shape(adapted.head["kernel"])[-1]
    hot = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
    targets = [
        course.teacher * probabilities(adapted, view) + (1 - course.teacher) * hot
        for view in views
    ]
    small = adapted
    rounds = zip(course.shares, course.steps, strict=True)
    for number, (share, steps) in enumerate(rounds):
        small = shrink(small, images, labels, share, whole, course, seed=seed)
        say(f"{share:.0%} of the inner channels are gone; {steps} steps follow")
        if steps:
            last = number == len(course.shares) - 1
            penalty = adapted.plan.penalty if last else course.penalty
            plan = adapted.plan._replace(steps=steps, penalty=penalty)
            small = _learn(
                small._replace(plan=plan),
                views,
                np.concatenate(targets),
                course,
                seed + number,
            )
        yield small


def shrink(
    adapted: Adapted,
    images: np.ndarray,
    labels: np.ndarray,
    share: float,
    whole: int,
    course: Course,
    *,
    seed: int = 0,
) -> Adapted:
    """Remove channels at once, and compensate by regression; nothing learns.

    Args:
        adapted: The network.
        images: Images to measure on, 8-bit.
        labels: Class of each image.
        share: Share of the channels of the whole network to remove.
        whole: Channels of the whole network.
        course: How channels are scored.
        seed: Seed of the choice of images.
    """
    module, variables = adapted.module, jax.tree.map(jnp.asarray, adapted.variables)
    graph = pruning.graph(module)
    some = np.random.default_rng([seed, 4]).permutation(len(images))[: course.pictures]
    batches = [some[first : first + BATCH] for first in range(0, len(some), BATCH)]
    moments = pruning.measure(
        module, variables, (_floats(images[places]) for places in batches)
    )
    needs = pruning.KINDS[course.kind][0]
    gradients: dict[str, list[np.ndarray]] = {}
    decide = decision(adapted)
    for places in batches if "gradients" in needs else ():
        found = pruning.gate_gradients(
            module, variables, _floats(images[places]), labels[places], decide
        )
        for layer, values in found.items():
            gradients.setdefault(layer, []).append(np.asarray(values))
    felt = {layer: np.concatenate(values) for layer, values in gradients.items()}
    scores = pruning.scores(
        variables, graph, course.kind, moments=moments, gradients=felt or None
    )
    if course.cost_power:
        costs = pruning.each_channel(module, images.shape[1])
        scores = pruning.per_cost(scores, costs, course.cost_power)
    left = sum(graph.channels.values())
    gone = 1 - round((1 - share) * whole) / left
    choice = pruning.choose(scores, gone, keep_at_least=course.keep_at_least)
    return cut_out(adapted, choice, moments)


def cut_out(
    adapted: Adapted, choice: choices.Choice, moments: Mapping[str, Any]
) -> Adapted:
    """Remove channels, and compensate by regression."""
    better = pruning.compensate(adapted.variables, choice, moments)
    module, variables = pruning.remove(adapted.module, better, choice)
    return adapted._replace(module=module, variables=variables)


def decision(adapted: Adapted) -> Callable[[Maps], Logits]:
    """Give what decides on the maps of a network's method `features`."""
    pool = pooling.POOLINGS[adapted.plan.pooling]
    head = jax.tree.map(jnp.asarray, dict(adapted.head))
    return lambda maps: adapter_training.logits(adapted.plan, head, pool(maps))


def probabilities(adapted: Adapted, images: np.ndarray) -> np.ndarray:
    """Classify 8-bit images, one view of each: `[pictures, classes]`."""
    decide = decision(adapted)
    whole = jax.jit(
        lambda known, rows: decide(adapted.module.apply(known, rows, method="features"))
    )
    variables = jax.tree.map(jnp.asarray, adapted.variables)
    found = block_cut.gather(whole, variables, images)
    return np.exp(probes.log_probabilities(found))


def _learn(
    adapted: Adapted,
    views: tuple[np.ndarray, ...],
    targets: np.ndarray,
    course: Course,
    seed: int,
) -> Adapted:
    """Learn a weight for each filter behind the cut, and the head; multiply them in."""
    module, size = adapted.module, views[0].shape[1]
    variables = jax.tree.map(jnp.asarray, adapted.variables)
    cut = block_cut.cut(module, course.after, size)
    before = jax.jit(cut.before)
    inner = np.concatenate(
        [block_cut.gather(before, variables, view) for view in views]
    )
    select = block_cut.pattern(module, size, course.after)
    start = filters.init(variables, select, pairing=filters.pairs(adapted.name))
    learnt = adapter_training.train(
        adapter_training.Network(cut.after, filters.apply, variables),
        adapter_training.Learnt(start, dict(adapted.head)),
        inner[None],
        targets,
        adapted.plan,
        mixed=(course.mixed,),
        seed=seed,
    )
    weights, head = jax.tree.map(lambda leaf: np.asarray(leaf[0]), learnt)
    return adapted._replace(variables=filters.fold(variables, weights), head=head)


def _floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255

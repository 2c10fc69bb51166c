"""Supervised classification of images that are changed so that the network errs."""

from typing import Literal

import jax

from unlir_jax.attacks import checks
from unlir_jax.core import choices
from unlir_jax.objectives import (
    crafting,
    free,
    input_gradients,
    losses,
    network,
    robust_evaluation,
    robust_losses,
)
from unlir_jax.objectives.classify import classify
from unlir_jax.objectives.crafting import Aim, Ascent, Craft, Mode, Norm
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.types import RandomKey, Variables

Method = Literal[
    "plain", "pgd", "fast", "free", "trades", "mart", "ddn", "boundary_projection"
]
STEPS = {"fast": 1, "free": 1, "ddn": 20, "boundary_projection": 20}
"""Steps of methods that do not take ten."""
NEAREST = "ddn", "boundary_projection"
"""Methods that seek the least change, in l2."""
SINGLE = {"fast": "1, or method='pgd'", "free": "1, or more `replays`"}
"""Methods of one step, and what their users may have meant."""
TWICE = "trades", "mart"
"""Methods whose network sees each image, and its changed copy."""
SHARE = 2.5
"""Length of all steps together, in radii; a random start is far from some borders."""
FAST = 1.25
"""The same of the one step of `fast`, as published."""


@objective
def adversarial(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    method: Method = "pgd",
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    steps: int = 0,
    step_size: float = 0.0,
    random_start: bool = True,
    weight: float = 6.0,
    replays: int = 8,
    gamma: float = 0.7,
    alpha: float = 2.0,
    aim: Aim = "label",
    crafting_mode: Mode = "evaluation",
    evaluation_steps: int = 10,
) -> Objective:
    """Minimise a loss of images that are changed within a ball, to raise it.

    - `plain`: the cross-entropy of x, to compare with under the same attack.
    - `pgd`: the cross-entropy of x', which is found by several projected steps.
    - `fast`: the same by one step of 1.25 radii from a random point.
    - `free`: the cross-entropy of x + d, see `free`; its step costs one gradient.
    - `trades`: the cross-entropy of x + `weight` · KL(p(x), p(x')).
    - `mart`: see `robust_losses.mart`.
    - `ddn` and `boundary_projection`: the cross-entropy of the least change that
      deceives the network, shrunk to a norm of at most `epsilon`.

    Parameters are constants while images are crafted, and images stay in [0, 1]. With
    `epsilon` 0 a step is that of `classify`, bit for bit, but of `mart` and `free`.

    Metrics: as `classify` when evaluated, `robust_accuracy` and `fgsm_accuracy`, see
    `robust_evaluation.extended`. In training `adversarial_accuracy`, of x', and of
    `trades` and `mart` the `accuracy`.

    Args:
        apply: A network that takes images.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1);
            `mart` has none.
        method: Method of the list above.
        norm: `linf` or `l2`; of `ddn` and `boundary_projection` `l2` alone.
        epsilon: Radius of the ball.
        steps: Number of steps; 0 for 10, of `fast` 1, of the last two 20.
        step_size: Length of a step in the norm; 0 for 2.5 `epsilon` / `steps`, of
            `fast` 1.25 `epsilon`, of `free` `epsilon`.
        random_start: Whether `pgd`, `fast` and `mart` start at a random point of the
            ball.
        weight: Weight of the divergence in `trades` and `mart`; 6 as published.
        replays: Number of steps in a row that see the same batch in `free`; 8 as
            published for CIFAR-10, 4 for ImageNet.
        gamma: First share of the radius in `boundary_projection`, see the attack; its
            authors have 0.3 for ImageNet and 0.7 for MNIST.
        alpha: Length of the first steps in `boundary_projection`; the authors' is 1.
        aim: Class whose cross-entropy crafting raises: the `label`, or the `predicted`
            one, so that no image tells its label.
        crafting_mode: Mode of norms and dropout while images are crafted: `evaluation`
            or `training`. Their statistics do not move in either. `free` crafts with
            the pass that it learns from.
        evaluation_steps: Number of steps of PGD when evaluated, 0 for no attack.

    Raises:
        ValueError: A setting out of range or without meaning for the method, or
            features that are kept.

    References:
        Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*,
        ICLR 2018, Eq. 2.1; Wong et al., *Fast is Better than Free*, ICLR 2020,
        Algorithm 3; Shafahi et al., *Adversarial Training for Free!*, NeurIPS 2019,
        Algorithm 1; Zhang et al., *Theoretically Principled Trade-off between
        Robustness and Accuracy*, ICML 2019, Algorithm 1; Wang et al., *Improving
        Adversarial Robustness Requires Revisiting Misclassified Examples*, ICLR 2020,
        Algorithm 1; Rony et al., *Decoupling Direction and Norm*, CVPR 2019, Section
        5.4; Zhang et al., *Walking on the Edge*, IEEE TIFS 16 (2021).

    Note:
        Wong et al. craft in training mode, which `crafting_mode` gives. Of `trades` and
        `mart`, norms see x and x' apart, and their statistics move once, to the mean of
        what the two leave; the authors' move twice. Both passes drop the same units.

        The public scripts of Zhang et al. that train craft by DDN.
    """
    ascent = _checked(method, norm, epsilon, steps, step_size, random_start)
    _check(method, weight, aim, crafting_mode, label_smoothing)
    _check_counts(evaluation_steps=(evaluation_steps, 0), replays=(replays, 1))
    input_gradients.check_images("adversarial", apply.inputs)
    usual = classify(apply, classes, label_smoothing=label_smoothing)
    craft = _craft(apply, method, ascent, crafting_mode, aim, gamma, alpha)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        keys, own = network.keys_of(key, batch["position"])
        images, labels = network.pixels(batch[apply.inputs]), batch["label"]
        checks.check_reach(epsilon, norm, images)
        changed = craft(variables, images, labels, keys, own)
        targets = losses.targets(labels, classes, label_smoothing)
        logits, statistics = apply.train(variables, changed, own)
        metrics = {"adversarial_accuracy": losses.correct(logits, labels)}
        if method not in TWICE:
            loss = losses.cross_entropy(logits, targets)
            return Outcome(loss, metrics, statistics)
        clean, other = apply.train(variables, images, own)
        metrics["accuracy"] = losses.correct(clean, labels)
        if method == "trades":
            loss = robust_losses.trades(clean, logits, targets, weight)
        else:
            loss = robust_losses.mart(clean, logits, labels, weight)
        mean = jax.tree.map(lambda a, b: (a + b) / 2, other, statistics)
        return Outcome(loss, metrics, mean)

    plain = not epsilon or method == "plain" or (method == "trades" and not weight)
    trained = usual if plain and method != "mart" else usual._replace(train=train)
    if method == "free":
        trained = free.replayed(usual, apply, classes, ascent, replays, label_smoothing)
    return _measured(method, trained, apply, classes, ascent, evaluation_steps)


def _measured(
    method: Method,
    trained: Objective,
    apply: Apply,
    classes: int,
    ascent: Ascent,
    steps: int,
) -> Objective:
    """Let an objective measure accuracy under attack, see `robust_evaluation`."""
    whole = robust_evaluation.extended(
        *(trained, apply, classes, _evaluated(ascent, steps)),
        single_step=ascent.steps == 1,
    )
    # What never saw an attack has not overfitted to one.
    return whole._replace(notice=trained.notice) if method == "plain" else whole


def _checked(
    method: Method,
    norm: Norm,
    epsilon: float,
    steps: int,
    step_size: float,
    random_start: bool,
) -> Ascent:
    """Check the settings of the ball and of the steps, and fill in what is open."""
    choices.check("method", method, Method)
    checks.check_settings({"norm": norm, "epsilon": epsilon}, ("linf", "l2"))
    if method in NEAREST and norm != "l2":
        raise ValueError(
            f"`norm`={norm!r} with `method`={method!r}, which seeks the least l2 "
            "change; expected norm='l2'."
        )
    if steps < 0 or (method in SINGLE and steps > 1):
        wanted = SINGLE.get(method, "at least 1, or 0")
        raise ValueError(
            f"`steps`={steps} with `method`={method!r}; expected {wanted}."
        )
    if not step_size >= 0:
        raise ValueError(f"`step_size`={step_size}; expected 0 or more.")
    if method == "free" and norm != "linf":
        raise ValueError(
            f"`norm`={norm!r} with `method`='free', which moves by signs; expected "
            "'linf'."
        )
    if step_size and method in NEAREST:
        raise ValueError(
            f"`step_size`={step_size} with `method`={method!r}, whose steps have their "
            "own lengths; expected 0."
        )
    if not random_start and method in ("trades", "free", *NEAREST):
        raise ValueError(
            f"`random_start`=False with `method`={method!r}, which does not start in "
            "the whole ball anyway; expected True."
        )
    steps = steps or STEPS.get(method, 10)
    share = {"fast": FAST if random_start else 1.0, "free": 1.0}.get(method, SHARE)
    return Ascent(
        norm, epsilon, steps, step_size or share * epsilon / steps, random_start
    )


def _check(
    method: Method,
    weight: float,
    aim: Aim,
    mode: Mode,
    label_smoothing: float,
) -> None:
    choices.check("aim", aim, Aim)
    choices.check("crafting_mode", mode, Mode)
    if not weight >= 0:
        raise ValueError(f"`weight`={weight}; expected 0 or more.")
    if aim == "predicted" and method in ("trades", "free"):
        why = {"trades": "crafts without labels", "free": "has the loss of labels"}
        raise ValueError(
            f"`aim`='predicted' with `method`={method!r}, which {why[method]}; "
            "expected 'label'."
        )
    if label_smoothing and method == "mart":
        raise ValueError(
            f"`label_smoothing`={label_smoothing} with `method`='mart', whose loss is "
            "of one class; expected 0."
        )


def _check_counts(**counts: tuple[int, int]) -> None:
    """Refuse numbers below their least."""
    for name, (number, least) in counts.items():
        if number < least:
            raise ValueError(f"`{name}`={number}; expected {least} or more.")


def _craft(
    apply: Apply,
    method: Method,
    ascent: Ascent,
    mode: Mode,
    aim: Aim,
    gamma: float,
    alpha: float,
) -> Craft:
    if method == "trades":
        return crafting.diverging(apply, ascent, mode)
    if method in NEAREST:
        given = method, ascent.steps, ascent.epsilon, mode, aim
        if method == "ddn":
            return crafting.nearest(apply, *given)
        return crafting.nearest(apply, *given, gamma=gamma, alpha=alpha)
    return crafting.climbing(apply, ascent, mode, aim)


def _evaluated(ascent: Ascent, steps: int) -> Ascent:
    """Give the attack of evaluations, in the ball of the training."""
    size = SHARE * ascent.epsilon / max(steps, 1)
    return ascent._replace(steps=steps, step_size=size, random_start=True)

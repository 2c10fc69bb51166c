"""Supervised classification by parts, with constraints on them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax.objectives import constraints, losses, network
from unlir_jax.objectives.classify import evaluation
from unlir_jax.objectives.objective import Apply, Batch, Objective, Outcome
from unlir_jax.types import RandomKey, Variables

NONE: Mapping[str, float] = {}


def parts(
    apply: Apply,
    classes: int,
    *,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    terms: Mapping[str, float] = NONE,
    anneal: float = 1.0,
) -> Objective:
    """Minimise the cross-entropy of the right class, and weighted terms on parts.

    Metrics: as `classify`, and in training each term that counts. The loss that is
    reported when evaluated is the cross-entropy alone.

    Args:
        apply: A network that decides by parts.
        classes: Number of classes.
        label_smoothing: Share of the mass that is spread over all classes, in [0, 1).
        mixup: Must be 0: of a mixture, no part is one class's.
        cutmix: Must be 0.
        terms: Weights of `constraints.TERMS`, by name; 0 for those not given.
        anneal: What the temperature of learned gates falls to in the course of the
            training, of what it is at first; geometrically, by the batch's `done`.

    Raises:
        ValueError: A network without parts, a setting out of range, or a term that
            does not suit the network.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing`={label_smoothing}; expected it in [0, 1).")
    if mixup or cutmix:
        raise ValueError(
            f"`mixup`={mixup}, `cutmix`={cutmix}; expected 0 for both: what parts are "
            "of a mixture is not known."
        )
    if apply.traits is None:
        raise ValueError(
            "`objective.name`='parts' needs a network that decides by parts; expected "
            "a `model.decision`, or 'classify'."
        )
    if not 0 < anneal <= 1 or (anneal < 1 and "gates" not in apply.knows):
        raise ValueError(
            f"`anneal`={anneal}; expected 1, or with decision.assignment='learned' "
            "more than 0 and at most 1: it is the temperature of gates."
        )
    look, active = apply.traits, constraints.active(terms, apply)

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        # Devices of `pmap` would draw alike; the first row's place tells them apart.
        key, other = jax.random.split(jax.random.fold_in(key, batch["position"][0]))
        labels, inputs = batch["label"], network.pixels(batch[apply.inputs])
        if anneal < 1:
            variables = _annealed(variables, anneal ** jnp.asarray(batch["done"])[0])
        traits, statistics = look(variables, inputs, key)
        seen = constraints.Seen(traits, labels, batch["weight"], apply.axis_name)
        if "equivariance" in active:
            turned, _ = look(variables, inputs[:, :, ::-1], other)
            seen = seen._replace(flipped=turned.cells)
        targets = losses.targets(labels, classes, label_smoothing)
        loss = losses.cross_entropy(traits.logits, targets)
        metrics: dict[str, Any] = {"accuracy": losses.correct(traits.logits, labels)}
        for name, weight in active.items():
            term = jnp.broadcast_to(constraints.TERMS[name](seen), loss.shape)
            loss, metrics[name] = loss + weight * term, term
        return Outcome(loss, metrics, statistics)

    return Objective(train, *evaluation(apply, classes))


def _annealed(variables: Variables, temperature: jax.Array) -> Variables:
    """Divide gates by a temperature: what is open stays so, and slopes are steeper."""
    params = variables["params"]
    classifier = dict(params["classifier"])
    classifier["gates"] = classifier["gates"] / temperature
    return {**variables, "params": {**params, "classifier": classifier}}

"""Relevance for transformers: CP-LRP and AttnLRP."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.saliency import derivatives
from unlir_jax.saliency.relevance import lrp, rules
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import linear, scores
from unlir_jax.split.linear import Linear
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    Module,
    PyTree,
    SplitModel,
    Variables,
)

Weights = Literal["constant", "shared"]
"""Whether attention weights take relevance: not at all, or half of it."""
OPERATIONS = derivatives.Rules(products=True, divisors=True)


@explainer(
    title="CP-LRP / AttnLRP",
    family="relevance",
    formula=(
        "relevance of the standardised pixels; norms constant, and attention or "
        "half of each factor"
    ),
    passes="1 forward + backward",
    source="Ali et al., ICML 2022; Achtibat et al., ICML 2024",
    degree=1,
    head="linen",
    signed=True,
)
def attn_lrp(
    model: SplitModel,
    *,
    attention: Weights = "constant",
    gamma: float = 0.05,
    patch_gamma: float = 0.25,
    attention_gamma: float = 0.0,
    stabilizer: float = rules.STABLE,
    score: scores.ScoreLike = "logit",
) -> Explainer:
    """Pass the score back to the pixels of a transformer, and add up colours.

    The scales of norms are constants, GELU passes relevance on, the factors of a gated
    perceptron have half of it each, and linear layers follow the rule gamma.

    Args:
        model: A Linen transformer; where it is cut makes no difference.
        attention: `constant` weights take no relevance, as in CP-LRP: it is the form
            that the authors of AttnLRP use for images. `shared` is AttnLRP within
            attention: both factors of its two products have half of the relevance, and
            softmax follows its derivative (Eq. 13-15).
        gamma: Gamma of linear layers.
        patch_gamma: Gamma of the projection of patches, and of all convolutions.
        attention_gamma: Gamma of linear layers that belong to attention; 0 as in the
            published code for torchvision.
        stabilizer: Number that is added to what relevance is divided by, with its sign.
        score: Score to explain, see `scores.resolve`.

    Raises:
        ValueError: A negative gamma, or an unknown form. When called: see `lrp`.

    References:
        Ali et al., *XAI for Transformers: Better Explanations through Conservative
        Propagation*, ICML 2022; Achtibat et al., *AttnLRP: Attention-Aware Layer-Wise
        Relevance Propagation for Transformers*, ICML 2024.
    """
    choices.check("attention", attention, Weights)
    gammas = {
        "gamma": gamma,
        "patch_gamma": patch_gamma,
        "attention_gamma": attention_gamma,
    }
    for name, value in gammas.items():
        if value < 0:
            raise ValueError(f"`{name}`={value}; expected 0 or more.")
    found = {n: rules.gamma(g, stabilizer=stabilizer) for n, g in gammas.items()}
    found |= {n: rules.epsilon(stabilizer) for n, g in gammas.items() if g == 0}
    explained = scores.resolve(score)

    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        inside = _attending(model, variables, images)

        def choose(layer: Linear) -> rules.Rule:
            if layer.convolves:
                return found["patch_gamma"]
            within = any(layer.path.startswith(f"{path}/") for path in inside)
            return found["attention_gamma" if within else "gamma"]

        given = variables, images, labels
        others = _constant if attention == "constant" else _steady
        pixels = lrp.propagated(model, choose, explained, *given, others, OPERATIONS)
        return jnp.sum(pixels, axis=-1)

    @split.guarded(model, explained)
    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del key
        return compute(variables, images, labels)

    return explain


def _steady(module: Module, call: Any, args: Any, kwargs: Any) -> PyTree | None:
    """Take the scales of norms as constants."""
    del call
    return linear.steady_norm(module, args, kwargs)


def _constant(module: Module, call: Any, args: Any, kwargs: Any) -> PyTree | None:
    """Take attention weights and the scales of norms as constants."""
    normed = _steady(module, call, args, kwargs)
    if normed is not None:
        return normed
    stop = jax.lax.stop_gradient
    return split.attention.changed(module, call, args, kwargs, stop)


def _attending(model: SplitModel, variables: Variables, images: Images) -> set[str]:
    """List the paths of modules whose layers make or mix by attention weights."""
    found: set[str] = set()

    def note(module: Module, call: Any, args: Any, kwargs: Any) -> PyTree | None:
        own = module.path if not getattr(module, "gives_attention", False) else ()
        path = "/".join(own or module.path[:-1])

        def seen(weights: jax.Array) -> jax.Array:
            found.add(path)
            return weights

        return split.attention.changed(module, call, args, kwargs, seen)

    run = model.run
    if run is not None:
        watched = linear.replaced(run, lambda layer: layer.output, note)
        jax.eval_shape(watched, variables, images)
    return found

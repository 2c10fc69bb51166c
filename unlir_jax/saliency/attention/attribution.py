"""Attention weighted by derivatives, of the relevance that attention weights have."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.saliency import derivatives
from unlir_jax.saliency.attention import reading
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

RULE = rules.z_plus(stabilizer=1e-9, bias=False)
RULES = derivatives.Rules("passed", products=True, sums=True)


@explainer(
    title="Transformer attribution",
    family="attention",
    formula=(
        "the class token's row of `Π (I + mean(relu(g R)))`, `g = ∂y/∂A` and `R` the "
        "relevance of `A`"
    ),
    passes="2 × (forward + backward)",
    source="Chefer et al., CVPR 2021",
    degree=None,
    head="attention",
)
def transformer_attribution(
    model: SplitModel, *, score: scores.ScoreLike = "logit", start: int = 0
) -> Explainer:
    """Multiply `I + mean(relu(g R))` of all blocks, `R` the relevance of `A`.

    Relevance starts at the derivative of the score by the logits. It follows positive
    contributions in linear layers. Norms, activations and softmax pass it on. Products
    give each factor half, and the two terms of a sum share by Eq. 8 and 9.

    Args:
        model: A Linen transformer, see `split.attention`.
        score: Score to explain, see `scores.resolve`.
        start: Number of the first block; the published segmentations begin at 1.

    Raises:
        ValueError: When called: `start` is no block, or the network has no Linen
            modules that attend.

    References:
        Chefer, Gur & Wolf, *Transformer Interpretability Beyond Attention
        Visualization*, CVPR 2021, Eq. 1-13.

    Note:
        Rows are not normalised, as in the authors' code, whose numbers these are. That
        code shares sums over a whole batch; here each image is by itself. Where it
        has no rule, it is extended: gated perceptrons are products, layer scales and
        means follow their contributions.
    """
    reading.check_start(start)
    explained = scores.resolve(score)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        given = model, explained, variables, images, labels
        attended, gradients = reading.differentiated(*given)
        pairs = zip(gradients, _relevance(*given), strict=True)
        mixed = tuple(jnp.mean(jax.nn.relu(slope * r), axis=1) for slope, r in pairs)
        return reading.multiplied(mixed, start, reading.leading(model)), attended.logits

    return reading.explainer(model, relevance, explained)


def _relevance(
    model: SplitModel,
    score: scores.Score,
    variables: Variables,
    images: Images,
    labels: Labels,
) -> reading.Weights:
    """Give the relevance of the weights of each block."""
    run = lrp.run_of(model)

    def network(added: reading.Weights, images: Images) -> tuple[jax.Array, Any]:
        kept: list[jax.Array] = []
        others = functools.partial(_passed, kept, added)
        logits = linear.replaced(run, _linear, others)(variables, images)
        return jnp.asarray(logits), kept

    zeros = reading.zeros(model, variables, images)
    if len(jax.eval_shape(network, zeros, images)[1]) != len(zeros):
        raise ValueError(
            "`model` attends outside of Linen modules, where no relevance is known; "
            "expected a vision transformer of `unlir models` or of Linen, or another "
            "explainer, such as generic_attention."
        )
    ruled = derivatives.replaced(network, zeros, images, rules=RULES)

    def total(added: reading.Weights) -> tuple[jax.Array, Any]:
        logits, weights = ruled(added, images)
        known = jax.lax.stop_gradient(logits)
        first = jax.grad(lambda values: jnp.sum(score(values, labels)))(known)
        # What goes back is relevance divided by activation.
        share = jnp.where(known == 0, 0, first / jnp.where(known == 0, 1, known))
        return jnp.sum(share * logits), weights

    slopes, weights = jax.grad(total, has_aux=True)(zeros)
    return tuple(a * b for a, b in zip(slopes, weights, strict=True))


def _linear(layer: Linear) -> jax.Array:
    return derivatives.untouched(lambda: rules.follow(RULE, layer))()


def _passed(
    kept: list[jax.Array],
    added: reading.Weights,
    module: Module,
    call: Any,
    args: Any,
    kwargs: Any,
) -> PyTree | None:
    """Pass relevance through norms, and add to weights what is differentiated by."""
    if linear.normalizes(module, args, kwargs):
        return linear.identity(args[0], call(*args, **kwargs))

    def note(weights: jax.Array) -> jax.Array:
        kept.append(derivatives.untouched(jnp.add)(weights, added[len(kept)]))
        return kept[-1]

    return split.attention.changed(module, call, args, kwargs, note)

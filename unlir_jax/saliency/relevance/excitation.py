"""Excitation backpropagation: the chance that a random walk down ends at a pixel."""

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.saliency.relevance import lrp, rules
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import linear, scores
from unlir_jax.split.linear import Linear
from unlir_jax.types import Explainer, Images, Labels, SplitModel, Variables


@explainer(
    title="Excitation backpropagation",
    family="relevance",
    formula="`Σ_i P(i) x_j w_ji / Σ_k x_k w_ki` over positive terms, layer by layer",
    passes="1 forward + backward",
    source="Zhang et al., ECCV 2016",
    degree=0,
    head="linen",
    signed={"contrastive": (True,)},
)
def excitation_backpropagation(
    model: SplitModel,
    *,
    contrastive: bool = False,
    stabilizer: float = rules.STABLE,
    score: scores.ScoreLike = "logit",
) -> Explainer:
    """Share the label's probability of 1 along positive contributions, down to pixels.

    The map adds up to 1, and does not depend on the size of the score. It is LRP by the
    rule z-plus without biases, divided by the score. A score of 0 gives zeros.

    Args:
        model: A Linen network, see `lrp`; where it is cut makes no difference.
        contrastive: Whether to subtract the map of a label with opposite weights in the
            last layer. Then the map has a sign and adds up to 0.
        stabilizer: Number that is added to what is divided by, with its sign.
        score: Score to explain, see `scores.resolve`.

    Raises:
        ValueError: When called: see `lrp`.

    References:
        Zhang, Lin, Brandt, Shen & Sclaroff, *Top-down Neural Attention by Excitation
        Backprop*, ECCV 2016, Eq. 3 and Section 3.3.

    Note:
        The paper stops at an inner layer, whose activations are not negative, and sets
        negative values of the contrastive map to 0. Here, products of two negative
        numbers count as positive, and signs stay.
    """
    plus = rules.z_plus(stabilizer=stabilizer, bias=False)
    against = _contrast(stabilizer)
    explained = scores.resolve(score)

    def relative(logits: jax.Array, labels: Labels) -> jax.Array:
        value = explained(logits, labels)
        return value / jax.lax.stop_gradient(jnp.where(value == 0, 1, value))

    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        last = _last(model, variables, images) if contrastive else -1

        def choose(layer: Linear) -> rules.Rule:
            return against if layer.place == last else plus

        pixels = lrp.propagated(model, choose, relative, variables, images, labels)
        return jnp.sum(pixels, axis=-1)

    @split.guarded(model, explained)
    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del key
        return compute(variables, images, labels)

    return explain


def _contrast(stabilizer: float) -> rules.Rule:
    """Make the rule that adds positive contributions and subtracts negative ones."""
    both = rules.alpha_beta(2.0, 1.0, stabilizer=stabilizer, bias=False)

    def parts(layer: Linear, scale: jax.Array | float) -> list[rules.Part]:
        above, below = both.parts(layer, scale)
        return [above._replace(share=1.0), below._replace(share=-1.0)]

    return rules.Rule("contrast", parts, stabilizer)


def _last(model: SplitModel, variables: Variables, images: Images) -> int:
    """Give the number of the last linear layer."""
    places = [-1]

    def note(layer: Linear) -> jax.Array:
        places.append(layer.place)
        return layer.output

    run = model.run
    if run is not None:
        jax.eval_shape(linear.replaced(run, note), variables, images)
    return max(places)

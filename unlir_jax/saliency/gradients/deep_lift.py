"""DeepLIFT: differences to a baseline, passed back layer by layer."""

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import memoize
from unlir_jax.saliency import differences
from unlir_jax.saliency.gradients.gradient import Channels, check_channels, merge
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel


@explainer(
    title="DeepLIFT",
    family="gradients",
    formula="`Σ m (x - x0)`, `m` ratios of differences to a baseline, layer by layer",
    passes="2 × (forward + backward)",
    source="Shrikumar et al., ICML 2017",
    degree=1,
    signed={"channels": ("sum",)},
)
def deep_lift(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    baseline: maps.Baseline = "black",
    channels: Channels = "sum",
) -> Explainer:
    """Pass the difference to a baseline back by the rule rescale, and add up colours.

    The map adds up to the difference of the scores, whatever the network and the score:
    `saliency.completeness` gives the rounding. Layers are found in the network's traced
    equations, so a ReLU that is used twice is two.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        baseline: Image that differences are taken to, see `maps.background`; `noise`
            needs `key`.
        channels: Merging of colours, see `gradients.merge`; `sum` and `keep` add up to
            the difference of the scores.

    Raises:
        ValueError: When called: the network has an operation without a rule, such as a
            loop.

    References:
        Shrikumar, Greenside & Kundaje, *Learning Important Features Through Propagating
        Activation Differences*, ICML 2017, Eq. 2-4 and Section 3.5.1.

    Note:
        The paper has no rule for products of two layers, which attention, gates and
        norms make of a transformer. They follow the Shapley values of their two
        factors, as in the code of Lundberg & Lee, *A Unified Approach to Interpreting
        Model Predictions*, NeurIPS 2017. A softmax is `exp(x - log(sum(exp(x))))`.
    """
    check_channels(channels)
    maps.background(jnp.zeros((1, 1, 1, 3)), baseline, key=jax.random.key(0))
    explained = scores.resolve(score)
    slope = _slope(model, explained)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        start = maps.background(images, baseline, mean=model.mean, key=key)
        found = slope(variables, start, images, labels)
        return merge((images - start) * found, channels)

    return explain


@memoize.remember
def _slope(model: SplitModel, score: scores.Score) -> PyTree:
    """Make `(variables, baseline, images, labels) -> ratios`, compiled."""

    @jax.jit
    def slope(variables, start, images, labels):
        def scored(given):
            logits = model.head(variables, model.features(variables, given))
            return score(jnp.asarray(logits), labels)

        paired = differences.of_pair(scored, images)
        return jax.grad(lambda given: jnp.sum(paired(given, start)))(images)

    return slope

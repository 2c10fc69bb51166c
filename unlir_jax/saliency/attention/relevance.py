"""Attention weighted by the derivatives of a score."""

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.saliency.attention import reading
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Images, Labels, SplitModel, Variables


@explainer(
    title="Generic attention",
    family="attention",
    formula="the class token's row of `Π (I + mean(relu(g A)))`, `g = ∂y/∂A`",
    passes="1 forward + backward",
    source="Chefer et al., ICCV 2021",
    degree=None,
    head="attention",
)
def generic_attention(
    model: SplitModel, *, score: scores.ScoreLike = "logit", start: int = 0
) -> Explainer:
    """Multiply `I + mean(relu(g A))` of all blocks, `g` the derivative by `A`.

    Args:
        model: A transformer, see `split.attention`.
        score: Score to explain, see `scores.resolve`.
        start: Number of the first block; the published segmentations begin at 1.

    References:
        Chefer, Gur & Wolf, *Generic Attention-Model Explainability for Interpreting
        Bi-Modal and Encoder-Decoder Transformers*, ICCV 2021, Eq. 5 and 6.
    """
    reading.check_start(start)
    explained = scores.resolve(score)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        given = model, explained, variables, images, labels
        attended, gradients = reading.differentiated(*given)
        pairs = zip(attended.weights, gradients, strict=True)
        mixed = tuple(jnp.mean(jax.nn.relu(a * slope), axis=1) for a, slope in pairs)
        return reading.multiplied(mixed, start, reading.leading(model)), attended.logits

    return reading.explainer(model, relevance, explained)


@explainer(
    title="Attention Grad-CAM",
    family="attention",
    formula="`relu(mean(w A))` over heads, `w` the mean of `∂y/∂A` over the grid",
    passes="1 forward + backward",
    source="Chefer et al., CVPR 2021",
    degree=1,
    head="attention",
)
def attention_grad_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", block: int = -1
) -> Explainer:
    """Weigh the class token's row of each head by the mean of its derivatives.

    It is another method than Grad-CAM on tokens.

    Args:
        model: A transformer, see `split.attention`.
        score: Score to explain, see `scores.resolve`.
        block: Number of the block; negative ones count from the last.

    References:
        The baseline in the code of Chefer, Gur & Wolf, *Transformer Interpretability
        Beyond Attention Visualization*, CVPR 2021.
    """
    explained = scores.resolve(score)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        given = model, explained, variables, images, labels
        attended, slopes = reading.differentiated(*given)
        reading.check_block("block", block, slopes)
        leading = reading.leading(model)
        mixed = tuple(jnp.mean(each, axis=1) for each in attended.weights)
        row = reading.first_row(mixed, leading)
        weights, gradients = (
            reading.row_of(each, block, row) for each in (attended.weights, slopes)
        )
        scale = jnp.mean(gradients[..., leading:], axis=-1, keepdims=True)
        found = jax.nn.relu(jnp.mean(scale * weights, axis=1))
        return found, attended.logits

    return reading.explainer(model, relevance, explained)


@explainer(
    title="LeGrad",
    family="attention",
    formula="`Σ mean(relu(∂y_l/∂A_l))` over blocks, `y_l` read from block `l` itself",
    passes="1 forward + backward",
    source="Bousselham et al., ICCV 2025",
    degree=1,
    head="attention",
)
def legrad(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    blocks: int | None = None,
) -> Explainer:
    """Sum positive derivatives of each block's own score by that block's attention.

    A block's score is that of its own output: the mean of all tokens, the last norm,
    the classifier. Derivatives are averaged over heads and queries. Where attention
    pools, it pools the tokens of each block, and derivatives are by its weights.

    Args:
        model: A transformer of this library, see `split.attention`.
        score: Score to explain, see `scores.resolve`.
        blocks: Number of blocks from the last; all by default. The published code takes
            the last 2 for CLIP.

    References:
        Bousselham et al., *LeGrad: An Explainability Method for Vision Transformers via
        Feature Formation Sensitivity*, ICCV 2025, Eq. 4-7.
    """
    if blocks is not None and blocks < 1:
        raise ValueError(f"`blocks`={blocks}; expected at least 1, or None for all.")
    explained = scores.resolve(score)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        known = split.attention.check(model, variables, images)
        classify = known.classify
        if classify is None:
            raise ValueError(
                "`model` has no way to classify the tokens of a block; expected a "
                "vision transformer of `unlir models`."
            )

        zeros = reading.zeros(model, variables, images)
        _, readers = reading.parted(zeros)
        pools = bool(readers) and readers[0].shape[-1] == zeros[0].shape[-1]
        if pools:
            # The weights of each block are those by which its tokens are pooled.
            behind = known.run(variables, images).tokens
            zeros = (readers[0],) * len(behind)

        def total(added: reading.Weights) -> tuple[jax.Array, jax.Array]:
            if pools:
                both = zip(behind, added, strict=True)
                rows = [classify(variables, each, (more,)) for each, more in both]
            else:
                attended = known.run(variables, images, added, True)
                rows = [classify(variables, each) for each in attended.tokens]
            sums = [explained(each, labels) for each in rows]
            return jnp.sum(jnp.stack(sums)), rows[-1]

        gradients, logits = jax.grad(total, has_aux=True)(zeros)
        taken = gradients if blocks is None else gradients[-blocks:]
        tokens = zeros[0].shape[-1]
        each = [jnp.mean(jax.nn.relu(slope), axis=(1, 2)) for slope in taken]
        each = [found[:, found.shape[1] - tokens :] for found in each]
        return jnp.sum(jnp.stack(each), axis=0), logits

    return reading.explainer(model, relevance, explained)

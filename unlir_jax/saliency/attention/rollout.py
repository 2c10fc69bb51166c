"""Attention itself: of one block, and rolled out through all of them."""

import jax
import jax.numpy as jnp

from unlir_jax.saliency.attention import reading
from unlir_jax.saliency.spec import explainer
from unlir_jax.types import Explainer, Images, Labels, SplitModel, Variables


@explainer(
    title="Raw attention",
    family="attention",
    formula="the class token's row of `mean(A)` over the heads of a block",
    passes="1 forward",
    source="Abnar and Zuidema, ACL 2020",
    degree=None,
    head="attention",
    representative=True,
)
def raw_attention(
    model: SplitModel, *, block: int = -1, heads: reading.Heads = "mean"
) -> Explainer:
    """Show which tokens the class token attends to in one block.

    Nothing here depends on the label. Without a class token it is the mean over all
    queries, or what attention pooling or class attention reads from them; such layers
    are the last blocks, with a row of their own.

    Args:
        model: A transformer, see `split.attention`.
        block: Number of the block; negative ones count from the last.
        heads: How heads are fused: `mean`, `max` or `min`.

    References:
        Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020.
    """
    reading.check_heads(heads)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        del labels
        attended = reading.read(model, variables, images)
        mixed = tuple(reading.fused(each, heads) for each in attended.weights)
        reading.check_block("block", block, mixed)
        row = reading.first_row(mixed, reading.leading(model))
        apart = tuple(each[:, None] for each in mixed)
        return reading.row_of(apart, block, row)[:, 0], attended.logits

    return reading.explainer(model, relevance)


@explainer(
    title="Attention rollout",
    family="attention",
    formula="the class token's row of `Π (mean(A) + I)`, rows divided by their sums",
    passes="1 forward",
    source="Abnar and Zuidema, ACL 2020",
    degree=None,
    head="attention",
)
def attention_rollout(
    model: SplitModel,
    *,
    start: int = 0,
    normalise: bool = True,
    heads: reading.Heads = "mean",
) -> Explainer:
    """Multiply the attention of all blocks, with the way around it.

    Nothing here depends on the label. Attention pooling, which has no way around it,
    gives the row that is multiplied; class attention takes part as a block of one row.

    Args:
        model: A transformer, see `split.attention`.
        start: Number of the first block; those before it are left out.
        normalise: Whether each row of `mean(A) + I` is divided by its sum, as the
            published baseline does. The form inside the relevance method of the same
            authors does not.
        heads: How heads are fused: `mean`, `max` or `min`.

    References:
        Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020, Eq. 1.
        Both forms are in the code of Chefer et al., CVPR 2021.
    """
    reading.check_heads(heads)
    reading.check_start(start)

    def relevance(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[jax.Array, jax.Array]:
        del labels
        attended = reading.read(model, variables, images)
        mixed = tuple(reading.fused(each, heads) for each in attended.weights)
        blocks, _ = reading.parted(mixed)
        reading.check_block("start", start, blocks)
        row = reading.first_row(mixed, reading.leading(model), normalise=normalise)
        # The last factor first: one row is enough.
        for each in reversed(blocks[start:]):
            total = jnp.sum(each, axis=-1) + 1
            row = row / total if normalise else row
            row = row + jnp.einsum("bq,bqk->bk", row, each)
        return row, attended.logits

    return reading.explainer(model, relevance)

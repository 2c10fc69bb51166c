"""Attention by which a network pools its maps."""

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.saliency.spec import explainer
from unlir_jax.types import Explainer, Images, Labels, SplitModel, Variables


@explainer(
    title="Attention pooling",
    family="attention",
    formula="scores of the locations by which a network pools, mean over its queries",
    passes="1 forward",
    source="Torres Figueroa et al., CVPR Workshops 2024",
    degree=None,
    head="pooling",
)
def attention_pooling(
    model: SplitModel, *, query: int | None = None, softmax: bool = False
) -> Explainer:
    """Show which locations a network that pools by attention takes its vector from.

    Nothing here depends on the label.

    Args:
        model: A network that pools by attention, see `models.attention_pooling`.
        query: Number of one query; None for the mean over all of them.
        softmax: Whether the map is of weights, which add up to 1, instead of scores
            before the softmax, as the paper shows them; scores less their minimum.

    References:
        Torres Figueroa et al., *CA-Stream: Attention-based Pooling for Interpretable
        Image Recognition*, CVPR Workshops 2024.
    """

    @jax.jit
    def compute(variables: Variables, images: Images) -> jax.Array:
        if model.pooling is None:
            raise ValueError(
                "`model` is a network that does not pool by attention; expected the "
                "workdir of a training with configs/attention_pooling.py, or another "
                "explainer, such as grad_cam."
            )
        found = model.pooling(variables, images)
        _check_query(query, found.shape[-1])
        found = jax.nn.softmax(found, axis=(1, 2)) if softmax else found
        logits = model.head(variables, model.features(variables, images))
        grid = found.mean(axis=-1) if query is None else found[..., query]
        if not softmax:
            grid = grid - grid.min(axis=(1, 2), keepdims=True)
        # A network that gives no numbers is not explained, whatever it attends to.
        wrong = split.meaningless(logits.reshape(len(images), 1, -1))
        return grid * jnp.where(wrong, jnp.nan, 1).astype(grid.dtype)

    @split.guarded(model)
    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del labels, key
        return compute(variables, images)

    return explain


def _check_query(query: int | None, count: int) -> None:
    if query is not None and not -count <= query < count:
        raise ValueError(
            f"`query`={query}, but the network has {count} queries; expected {-count} "
            f"to {count - 1}, or None for their mean."
        )

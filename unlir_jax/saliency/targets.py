"""Names that version 0.1 had for scores, see `split.scores`."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.split import scores
from unlir_jax.split.scores import contrast as contrast
from unlir_jax.split.scores import resolve as resolve
from unlir_jax.types import Array, Labels, PyTree

Score, Target, NAMED = scores.Function, scores.ScoreLike, scores.NAMED
logit, probability = NAMED["logit"], NAMED["softmax"]
log_probability, residual_softmax = NAMED["log_softmax"], NAMED["residual_softmax"]
margin = NAMED["margin"]


def region(mask: Array) -> scores.Score:
    """Sum the label's logit over a region of a dense output.

    Args:
        mask: `[rows, columns]`, the weight of each place of the network's output
            `[batch, rows, columns, classes]`.
    """
    weights = np.asarray(mask)

    def score(logits: PyTree, labels: Labels) -> jax.Array:
        if logits.ndim != 4 or logits.shape[1:3] != weights.shape:
            raise ValueError(
                f"`mask` has shape {weights.shape}, but the network gives "
                f"{logits.shape}; expected [batch, rows, columns, classes] with the "
                "mask's rows and columns."
            )
        chosen = jnp.take_along_axis(logits, labels[:, None, None, None], axis=-1)
        return jnp.einsum("bhw,hw->b", chosen[..., 0], weights.astype(logits.dtype))

    return scores.Score("region sum", score, "sum of the label's logits over a region")

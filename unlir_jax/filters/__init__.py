"""Adapt a frozen network by one number for each filter, a pure transform of parameters.

Ayache, Sicre and Artières, Transfer Learning by Weighting Convolution, IJCNN 2020. The
text is not open to all: where the weights sit, and what a norm does to them, is our
reconstruction.

Weights are a flat dictionary, `{"block7/expand/norm/output": ones, …}`: the path of the
module that is multiplied, and how (`KINDS`). So they say themselves what they belong
to, are stored as they are, and several adapters of one network are the same dictionary
with one more axis in front, which `jax.vmap` of `apply` takes.

A norm in train mode undoes whatever its convolution is multiplied by, and the gradient
of a weight there is zero but for rounding. Weights of outputs therefore multiply the
norm that follows: scale and bias. Which norm that is, is written down, not guessed. In
a transformer no norm follows a layer, but one precedes it; there weights multiply
kernels and biases: of neurons, of whole heads, or the gains of norms and layer scales.
"""

from unlir_jax.filters.pairing import heads as heads
from unlir_jax.filters.pairing import pairs as pairs
from unlir_jax.filters.pairing import pre_norm as pre_norm
from unlir_jax.filters.penalties import hard_concrete as hard_concrete
from unlir_jax.filters.penalties import penalty as penalty
from unlir_jax.filters.weighting import KINDS as KINDS
from unlir_jax.filters.weighting import Mode as Mode
from unlir_jax.filters.weighting import Weights as Weights
from unlir_jax.filters.weighting import apply as apply
from unlir_jax.filters.weighting import check as check
from unlir_jax.filters.weighting import fold as fold
from unlir_jax.filters.weighting import init as init
from unlir_jax.filters.weighting import unfold as unfold

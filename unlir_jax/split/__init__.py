"""Cut a classifier in two at the layer to explain; nothing else knows how."""

from unlir_jax.split import attention, scores
from unlir_jax.split.checks import (
    channels_of,
    check_array,
    check_batch,
    check_key,
    check_labels,
    check_pixels,
    check_shapes,
    guarded,
    located,
    regions,
    traced,
    withheld,
)
from unlir_jax.split.functions import BLACK, from_functions, meaningless, whole
from unlir_jax.split.linen import (
    from_linen,
    from_methods,
    run_from,
    run_to,
    watch,
)
from unlir_jax.split.listing import module_paths
from unlir_jax.split.nnx import from_nnx
from unlir_jax.split.tokens import Tokens
from unlir_jax.types import Features, SplitModel

__all__ = [
    "BLACK",
    "Features",
    "SplitModel",
    "Tokens",
    "attention",
    "channels_of",
    "check_array",
    "check_batch",
    "check_key",
    "check_labels",
    "check_pixels",
    "check_shapes",
    "from_functions",
    "from_linen",
    "from_methods",
    "from_nnx",
    "guarded",
    "located",
    "meaningless",
    "module_paths",
    "regions",
    "run_from",
    "run_to",
    "scores",
    "watch",
    "traced",
    "whole",
    "withheld",
]

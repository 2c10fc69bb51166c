"""Cut a classifier in two at the layer to explain; nothing else knows how."""

from unlir_jax.split.functions import (
    BLACK,
    check_batch,
    check_labels,
    check_shapes,
    from_functions,
    whole,
)
from unlir_jax.split.linen import (
    from_linen,
    from_methods,
    module_paths,
    run_from,
    run_to,
    watch,
)
from unlir_jax.split.nnx import from_nnx
from unlir_jax.types import Features, SplitModel

__all__ = [
    "BLACK",
    "Features",
    "SplitModel",
    "check_batch",
    "check_labels",
    "check_shapes",
    "from_functions",
    "from_linen",
    "from_methods",
    "from_nnx",
    "module_paths",
    "run_from",
    "run_to",
    "watch",
    "whole",
]

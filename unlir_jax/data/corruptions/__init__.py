"""Corruptions of ImageNet-C: fifteen kinds, each in five severities.

Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations*, ICLR 2019, arXiv 1903.12261.
"""

from unlir_jax.data.corruptions.corrupt import (
    NAMES as NAMES,
)
from unlir_jax.data.corruptions.corrupt import (
    SEVERITIES as SEVERITIES,
)
from unlir_jax.data.corruptions.corrupt import (
    check_severity as check_severity,
)
from unlir_jax.data.corruptions.corrupt import (
    corrupt as corrupt,
)

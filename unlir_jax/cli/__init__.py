"""The command line `unlir`: the program and its commands."""

from unlir_jax.cli.program import DEBUG as DEBUG
from unlir_jax.cli.program import DIVERGED as DIVERGED
from unlir_jax.cli.program import INTERNAL_ERROR as INTERNAL_ERROR
from unlir_jax.cli.program import main as main

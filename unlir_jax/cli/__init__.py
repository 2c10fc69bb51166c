"""The command line `unlir`: the program, and a file for each command."""

from unlir_jax.cli.program import DEBUG as DEBUG
from unlir_jax.cli.program import main as main
from unlir_jax.core.console import DIVERGED as DIVERGED
from unlir_jax.core.console import INTERNAL_ERROR as INTERNAL_ERROR

"""`python -m unlir_jax.cli`, which is `unlir`."""

import sys

from unlir_jax.cli import program

sys.exit(program.main())

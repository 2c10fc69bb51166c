#!/bin/sh
# Train on this machine: one process, which uses every device that JAX finds here.
#
#   sh launch/local.sh --config configs/FILE.py --workdir runs/NAME
#
# Required environment: unlir_jax, so that `unlir` is on the PATH.
# Optional: UNLIR, the command that stands for `unlir`. JAX_PLATFORMS=cpu.
# Restart: the same command resumes from the last checkpoint in --workdir. SIGTERM goes
#   to the training itself, which saves and ends with exit code 0. Nothing is restarted
#   by this script.
set -eu

# A command may have arguments of its own, as in UNLIR="python -m unlir_jax.cli".
# shellcheck disable=SC2086
exec ${UNLIR:-unlir} train "$@"

#!/bin/sh
#SBATCH --job-name=unlir-sweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
# Train the variants of a sweep as one SLURM array, a variant each.
#
#   python launch/sweep.py list --config configs/FILE.py --root /shared/runs/SWEEP
#   sbatch --array=0-7%2 --gpus-per-node=1 --cpus-per-task=8 --time=8:00:00 \
#       launch/slurm_array.sh --config configs/FILE.py --root /shared/runs/SWEEP
#
# The first command shows the indices of the variants. They are those of the config, not
# of what is left to do, so that they mean the same for every task, however late it
# starts; a task whose variant is finished ends at once.
#
# Submit from the folder that holds launch/, or say where it is with UNLIR_LAUNCH.
#
# Required environment: that of slurm.sh.
# Optional: that of slurm.sh. PYTHON, the interpreter with unlir_jax (python).
#   UNLIR_LAUNCH, the folder of these scripts (launch).
# Restart: that of slurm.sh, for each task by itself.
set -eu

launch=${UNLIR_LAUNCH:-launch}
command=$("${PYTHON:-python}" "$launch/sweep.py" command "$SLURM_ARRAY_TASK_ID" \
    --with "sh '$launch/slurm.sh'" "$@")
# The words come quoted for the shell. Without any, the variant is finished.
eval "exec ${command:-true}"

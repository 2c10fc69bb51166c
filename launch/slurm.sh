#!/bin/sh
#SBATCH --job-name=unlir
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
# Train as one SLURM job, on one or more nodes.
#
#   sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=32 --time=8:00:00 \
#       launch/slurm.sh --config configs/FILE.py --workdir /shared/runs/NAME
#
# One process a node, which uses all of the node's GPUs: then one set of workers reads
# the data for all of them, as on a TPU host, and no GPU has to be bound to a process.
# For one process a GPU, `sbatch --ntasks-per-node=4 --gpus-per-task=1 …`: the number of
# processes and their ids are those of SLURM's tasks, whatever these are.
#
# Required environment: unlir_jax on every node; a --workdir that all nodes share.
# Optional: UNLIR, the command that stands for `unlir`. UNLIR_PORT, the coordinator's
#   port (12000 to 31999 by the job's id). UNLIR_REQUEUES, how often at most the job is
#   put back by this script (100; 0 for never).
# Restart: two minutes before the time limit SLURM sends SIGTERM to the training, which
#   saves and ends with exit code 0. If --workdir has no summary.json then, this script
#   puts the job back into the queue, and the next start resumes. SLURM itself does so
#   after preemption or when a node fails. A training that fails is not restarted, nor is
#   a job that was cancelled.
set -eu

workdir='' previous=''
for argument; do
    case $argument in --workdir=*) workdir=${argument#--workdir=} ;; esac
    if [ "$previous" = --workdir ]; then workdir=$argument; fi
    previous=$argument
done

host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export UNLIR_COORDINATOR="$host:${UNLIR_PORT:-$((12000 + SLURM_JOB_ID % 20000))}"
# Newer versions of srun do not take this from the job by themselves.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

# Only the end of the whole job brings SIGTERM here. It must not go to srun, which would
# kill the tasks at once; scancel with a signal's name reaches the tasks alone.
stopped='' interrupted=''
trap 'stopped=yes interrupted=yes; scancel --signal=TERM "$SLURM_JOB_ID" || true' TERM

# The task becomes the training, so that SLURM's signals reach it.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 sh -c '
    if [ "$SLURM_NTASKS" -gt 1 ]; then
        export UNLIR_PROCESSES="$SLURM_NTASKS" UNLIR_PROCESS="$SLURM_PROCID"
    else
        unset UNLIR_COORDINATOR
    fi
    exec ${UNLIR:-unlir} train "$@"' unlir "$@" &
step=$!
while :; do
    code=0
    wait "$step" || code=$?
    # A signal ends `wait` before its time.
    if [ -z "$interrupted" ] || [ "$code" -le 128 ]; then break; fi
    interrupted=''
done

if [ "$code" -eq 0 ] && [ -z "$stopped" ] && [ -d "$workdir" ] &&
    [ ! -e "$workdir/summary.json" ] &&
    [ "${SLURM_RESTART_COUNT:-0}" -lt "${UNLIR_REQUEUES:-100}" ]; then
    echo "slurm.sh: stopped before the end, putting job $SLURM_JOB_ID back" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

#!/bin/sh
# Train on a TPU VM slice on Google Cloud: the same command on all of its workers.
#
#   TPU_NAME=my-slice ZONE=us-central2-b FOLDER=unlir_jax \
#       sh launch/tpu_vm.sh --config configs/FILE.py --workdir /shared/runs/NAME
#
# JAX finds the other workers by itself: the training is started with
# UNLIR_DISTRIBUTED=auto.
#
# Required environment: TPU_NAME and ZONE of a slice that is up, whose workers have
#   unlir_jax installed with the extra `tpu`; gcloud, logged in; a --workdir that all
#   workers share.
# Optional: FOLDER, where the command runs on the workers (the home folder). PROJECT.
#   UNLIR, the command that stands for `unlir` there, as "$HOME/.venv/bin/unlir".
# Restart: the same command resumes. A preempted slice is gone: make a new one of the same
#   name first, or let a queued resource do it; whether the training gets SIGTERM in time
#   to save is up to Google Cloud. Should this connection end, the training may end with
#   it: start it from a machine, or in a tmux, that stays.
set -eu

: "${TPU_NAME:?is required: the name of the slice}"
: "${ZONE:?is required: the zone of the slice}"

# One word for the shell of the workers, whatever is in it.
quote() {
    printf '%s' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"
}

words=''
for argument; do
    if [ -z "$argument" ]; then
        words="$words ''"
    else
        words="$words $(quote "$argument")"
    fi
done

exec gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" \
    ${PROJECT:+"--project=$PROJECT"} --worker=all \
    --command="cd $(quote "${FOLDER:-.}") && \
UNLIR_DISTRIBUTED=auto exec ${UNLIR:-unlir} train$words"

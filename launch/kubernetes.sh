#!/bin/sh
# Train on Kubernetes: fill jobset.yaml in and hand it to kubectl.
#
#   IMAGE=registry.example/unlir CLAIM=shared NODES=2 DEVICES=8 \
#       ACCELERATOR=nvidia-h100-80gb \
#       sh launch/kubernetes.sh --config configs/FILE.py --workdir /data/runs/NAME
#   IMAGE=… CLAIM=… NODES=4 DEVICES=4 ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4 \
#       sh launch/kubernetes.sh --config … --workdir /data/runs/NAME
#
# One pod a node, one process a pod, which uses all of the node's devices. KUBECTL=cat
# shows the document instead of sending it.
#
# Required environment: IMAGE with unlir_jax in it; CLAIM, a persistent volume claim
#   that all pods can write to; ACCELERATOR, the node's label; kubectl, logged in to a
#   cluster with JobSet; envsubst (gettext). --workdir lies under MOUNT.
# Optional: NAME of the job (UNLIR_JOB or unlir). NODES (1). DEVICES a node (1).
#   TOPOLOGY, which makes it a TPU slice. MOUNT, where CLAIM appears (/data).
#   SELECTOR, a nodeSelector in JSON, and RESOURCE, for clusters other than GKE.
#   RESTARTS (100). GRACE, seconds from SIGTERM to SIGKILL (120). KUBECTL.
#   UNLIR, the command that stands for `unlir` in the image.
# Restart: a pod that is evicted or fails restarts all pods, RESTARTS times; the training
#   resumes. SIGTERM goes to the training, which saves and ends with exit code 0; the
#   container then ends with 75 unless --workdir has its summary.json, for Kubernetes
#   would take 0 for the end of the job. To start a job of the same name again, first
#   `kubectl delete jobset NAME`.
set -eu

: "${IMAGE:?is required: the image with unlir_jax}"
: "${CLAIM:?is required: a persistent volume claim}"
if [ -z "${SELECTOR:-}" ]; then
    : "${ACCELERATOR:?is required: the label of the nodes, or SELECTOR}"
fi

# One string of JSON.
quote() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

workdir='' previous='' arguments=''
for argument; do
    case $argument in --workdir=*) workdir=${argument#--workdir=} ;; esac
    if [ "$previous" = --workdir ]; then workdir=$argument; fi
    previous=$argument
    # Kubernetes reads $(NAME) in arguments as a variable; $$ stands for a dollar.
    arguments="$arguments, $(quote "$(printf '%s' "$argument" | sed 's/\$/$$/g')")"
done
if [ -z "$workdir" ]; then
    echo "kubernetes.sh: --workdir is required, under ${MOUNT:-/data}" >&2
    exit 2
fi

if [ -n "${TOPOLOGY:-}" ]; then
    labels="\"cloud.google.com/gke-tpu-accelerator\": \"${ACCELERATOR:-}\", \
\"cloud.google.com/gke-tpu-topology\": \"$TOPOLOGY\""
    resource=google.com/tpu
else
    labels="\"cloud.google.com/gke-accelerator\": \"${ACCELERATOR:-}\""
    resource=nvidia.com/gpu
fi

# Names in Kubernetes are short, of small letters, digits and dashes. One that had to be
# changed gets a checksum, so that two variants never have the same.
asked=${NAME:-${UNLIR_JOB:-unlir}}
NAME=$(printf '%s' "$asked" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' |
    sed 's/^[-0-9]*//' | cut -c 1-30 | sed 's/-*$//')
if [ "$NAME" != "$asked" ]; then
    NAME="${NAME:-unlir}-$(printf '%s' "$asked" | cksum | cut -d ' ' -f 1)"
fi
ARGUMENTS="[${arguments#, }]"
WORKDIR=$(quote "$workdir")
COMMAND=$(quote "${UNLIR:-unlir}")
NODES=${NODES:-1} DEVICES=${DEVICES:-1} MOUNT=${MOUNT:-/data}
RESTARTS=${RESTARTS:-100} GRACE=${GRACE:-120}
SELECTOR=${SELECTOR:-"{$labels}"} RESOURCE=${RESOURCE:-$resource}
export NAME IMAGE CLAIM ARGUMENTS WORKDIR COMMAND NODES DEVICES MOUNT RESTARTS GRACE
export SELECTOR RESOURCE

# The names are listed so that the shell's own variables in the file stay as they are.
# shellcheck disable=SC2016
names='$NAME $IMAGE $CLAIM $ARGUMENTS $WORKDIR $COMMAND $NODES $DEVICES $MOUNT'
# shellcheck disable=SC2016
names="$names"' $RESTARTS $GRACE $SELECTOR $RESOURCE'
document=$(envsubst "$names" <"$(dirname "$0")/jobset.yaml")
# shellcheck disable=SC2086
printf '%s\n' "$document" | ${KUBECTL:-kubectl apply -f -}

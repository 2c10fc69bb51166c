#!/bin/sh
# Closing orbax's CheckpointManager does not wait for its cleanup of temporary folders.
#
# With `cleanup_tmp_directories=True` a manager removes what a killed run left, in the
# background. Only the first `save` waits for that: a manager that restores and is closed
# returns while files are still being removed. The next manager of the folder begins to
# remove the same files, and on a busy machine its `save` raises FileNotFoundError.
# One would expect the constructor, or at least closing, to end what creation began.
# Source: orbax/checkpoint/checkpoint_manager.py, where only `save` awaits the removal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1 orbax-checkpoint==0.12.8
"$folder/venv/bin/python" - "$folder/run" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

FILES = 20_000
place = Path(sys.argv[1])
options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)
with ocp.CheckpointManager(place, options=options) as manager:
    manager.save(1, args=ocp.args.StandardSave({"weight": np.ones(3)}))
left = place / "2.orbax-checkpoint-tmp" / "state"
left.mkdir(parents=True)
for number in range(FILES):
    (left / str(number)).touch()

with ocp.CheckpointManager(place, options=options) as manager:
    print("orbax-checkpoint", version("orbax-checkpoint"), "restores step", manager.latest_step())
there = len(list(left.iterdir())) if left.exists() else 0
print(f"the manager is closed, and {there} of {FILES} files are still to be removed")
# Leave after the thread, which the interpreter waits for.
raise SystemExit(0 if there else 1)
PYTHON

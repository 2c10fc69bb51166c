"""SLURM as far as launch/slurm.sh uses it: srun, scontrol and scancel on one machine.

`install(folder)` puts the three into a folder for the PATH and gives the environment of
a job. srun starts FAKE_TASKS processes (2), whose ids lie in FAKE_SLURM/tasks, and
passes their output through. Like the real one it kills them at once on SIGTERM
(`_srun_signal_mgr` of SLURM's srun_job.c), ends the others when one fails, and returns
the highest exit code, which is 137 if it had to kill one (`_task_finish` of launch.c).
`scancel --signal=TERM` reaches the tasks only, and what
`scontrol requeue` and `scancel` were given lies in FAKE_SLURM/scontrol and …/scancel.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Seconds until something has gone wrong, also on a machine that is busy.
LONG = 60


def install(folder, tasks=2, hosts="localhost,node2"):
    """Write the commands to folder/bin; give the environment of a batch script."""
    binaries = Path(folder, "bin")
    binaries.mkdir(parents=True, exist_ok=True)
    for name in ("srun", "scontrol", "scancel"):
        path = binaries / name
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" {name} "$@"\n'
        )
        path.chmod(0o755)
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "FAKE_SLURM": str(folder),
        "FAKE_TASKS": str(tasks),
        "SLURM_JOB_ID": "40021",
        "SLURM_JOB_NODELIST": hosts,
        "SLURM_NODELIST": hosts,
        "SLURM_JOB_NUM_NODES": str(len(hosts.split(","))),
    }


def srun(arguments):
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[1:]
    count = int(os.environ.get("FAKE_TASKS", "2"))
    tasks = [
        subprocess.Popen(
            arguments,
            env=os.environ
            | {
                "SLURM_PROCID": str(task),
                "SLURM_NODEID": str(task),
                "SLURM_LOCALID": "0",
                "SLURM_NTASKS": str(count),
                "SLURM_STEP_NUM_TASKS": str(count),
                "SLURM_STEP_NODELIST": os.environ["SLURM_JOB_NODELIST"],
            },
        )
        for task in range(count)
    ]

    def kill(*_):
        for task in tasks:
            task.kill()

    signal.signal(signal.SIGTERM, kill)
    # A file that can be seen is complete.
    part = folder() / "tasks.part"
    part.write_text(" ".join(str(task.pid) for task in tasks))
    part.rename(folder() / "tasks")
    while any(task.poll() is None for task in tasks):
        if any(task.poll() for task in tasks):
            kill()
        time.sleep(0.02)
    codes = [task.wait() for task in tasks]
    return max(128 - code if code < 0 else code for code in codes)


def scontrol(arguments):
    if arguments[:2] == ["show", "hostnames"]:
        print("\n".join(arguments[2].split(",")))
    else:
        record("scontrol", arguments)
    return 0


def scancel(arguments):
    record("scancel", arguments)
    if arguments != ["--signal=TERM", os.environ["SLURM_JOB_ID"]]:
        return 1
    tasks = folder() / "tasks"
    # The tasks may be seen to run before srun has come to write down their ids.
    end = time.monotonic() + LONG
    while not tasks.exists() and time.monotonic() < end:
        time.sleep(0.01)
    for task in tasks.read_text().split():
        # One that fails at once takes the other with it, which is then gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(task), signal.SIGTERM)
    return 0


def folder():
    return Path(os.environ["FAKE_SLURM"])


def record(name, arguments):
    with folder().joinpath(name).open("a") as file:
        file.write(" ".join(arguments) + "\n")


if __name__ == "__main__":
    command = {"srun": srun, "scontrol": scontrol, "scancel": scancel}[sys.argv[1]]
    sys.exit(command(sys.argv[2:]))

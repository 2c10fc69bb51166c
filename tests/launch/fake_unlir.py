"""`unlir train` as far as launch/ knows it: a workdir, a summary, SIGTERM, exit codes.

Each process leaves its arguments and its environment (UNLIR_* and SRUN_*) in
FAKE_UNLIR/ID.json. With FAKE_UNLIR_WAIT it waits for SIGTERM and then saves without a
summary; it returns FAKE_UNLIR_CODE (0), or 3 if the workdir is named FAKE_UNLIR_FAILS.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(arguments):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("UNLIR_", "SRUN_"))
    }
    place = Path(os.environ["FAKE_UNLIR"])
    code = int(os.environ.get("FAKE_UNLIR_CODE", "0"))
    workdir = Path(arguments[arguments.index("--workdir") + 1])
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    # A file that can be seen is complete.
    part = place / f"{os.getpid()}.part"
    part.write_text(json.dumps({"arguments": arguments, "environment": environment}))
    part.rename(part.with_suffix(".json"))
    workdir.mkdir(parents=True, exist_ok=True)
    if workdir.name == os.environ.get("FAKE_UNLIR_FAILS"):
        return 3
    if os.environ.get("FAKE_UNLIR_WAIT"):
        end = time.monotonic() + 60
        while not stopped and time.monotonic() < end:
            time.sleep(0.01)
        (workdir / f"saved-{environment.get('UNLIR_PROCESS', '0')}").touch()
        return code if stopped else 99
    if code == 0:
        (workdir / "summary.json").write_text(json.dumps({"test/accuracy": 0.75}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

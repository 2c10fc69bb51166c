"""Photos that wait to be explained, one after another, in a thread of their own."""

import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Record

MOST_WAITING, MOST_KEPT = 16, 100
PHOTO, REPORT = "photo", "report"

Progress = Callable[[str, float], None]
Work = Callable[[Path, Path, Progress], None]
"""Explains the files of one folder, and writes a report to another."""


class Cancelled(Exception):
    """Nobody waits for the report any more."""


class Desk(NamedTuple):
    """Hold what can be done with jobs.

    Attributes:
        submit: `(name of the photo, its bytes, work) -> name of the job`.
        look: `name -> record`, or None where there is no such job. The record has
            `state` (waiting, running, done, failed or cancelled), `doing`, `share`,
            `ahead` and `error`.
        report: `name -> folder` of a job that is done, else None.
        cancel: Ends a job, or forgets it.
        close: Ends all jobs.
    """

    submit: Callable[[str, bytes, Work], str]
    look: Callable[[str], Record | None]
    report: Callable[[str], Path | None]
    cancel: Callable[[str], None]
    close: Callable[[], None]


def opened(folder: Path) -> Desk:
    """Open a desk that keeps photos and reports in a folder.

    A photo is removed as soon as its report is there.

    Args:
        folder: An empty folder.
    """
    jobs: dict[str, Record] = {}
    lock = threading.Lock()
    numbers = itertools.count(1)
    pool = ThreadPoolExecutor(1, "explain")

    def submit(name: str, content: bytes, work: Work) -> str:
        with lock:
            waiting = [job for job in jobs.values() if job["state"] == "waiting"]
            if len(waiting) >= MOST_WAITING:
                raise ValueError(
                    f"{MOST_WAITING} photos wait already; expected fewer at a time."
                )
            _forget_oldest(jobs, folder)
            job = f"{next(numbers)}-{secrets.token_hex(4)}"
            jobs[job] = {"state": "waiting", "doing": "", "share": 0.0, "error": ""}
        place = folder / job / PHOTO
        place.mkdir(parents=True)
        (place / name).write_bytes(content)
        pool.submit(_run, jobs[job], folder / job, work)
        return job

    def look(job: str) -> Record | None:
        with lock:
            if job not in jobs:
                return None
            names = itertools.takewhile(lambda each: each != job, jobs)
            ahead = sum(jobs[each]["state"] in ("waiting", "running") for each in names)
            return {**jobs[job], "ahead": ahead}

    def report(job: str) -> Path | None:
        found = jobs.get(job)
        return folder / job / REPORT if found and found["state"] == "done" else None

    def cancel(job: str) -> None:
        if job in jobs and jobs[job]["state"] in ("waiting", "running"):
            jobs[job]["state"] = "cancelled"

    def close() -> None:
        for job in jobs:
            cancel(job)
        pool.shutdown(cancel_futures=True)

    return Desk(submit, look, report, cancel, close)


def _forget_oldest(jobs: dict[str, Record], folder: Path) -> None:
    ended = [job for job, each in jobs.items() if each["state"] not in _OPEN]
    for job in ended[: max(len(jobs) - MOST_KEPT + 1, 0)]:
        del jobs[job]
        shutil.rmtree(folder / job, ignore_errors=True)


_OPEN = ("waiting", "running")


def _run(job: Record, place: Path, work: Work) -> None:
    """Do the work of a job; what goes wrong is said in its record."""

    def progress(doing: str, share: float) -> None:
        if job["state"] == "cancelled":
            raise Cancelled
        job.update(doing=doing, share=share)

    try:
        progress("", 0.0)
        job["state"] = "running"
        work(place / PHOTO, place / REPORT, progress)
        job.update(state="done", share=1.0)
    except Cancelled:
        job["doing"] = ""
    except Exception as error:
        # Whatever it is, the next photo has its turn.
        # The folder says nothing to whoever dropped the photo.
        told = str(error).replace(f"{place / PHOTO}{os.sep}", "")
        job.update(state="failed", error=told or type(error).__name__)
    finally:
        shutil.rmtree(place / PHOTO, ignore_errors=True)

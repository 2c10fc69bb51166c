"""What is written is complete or not there, and what a kill leaves is swept away."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from unlir_jax.adapters import file as adapters
from unlir_jax.models import conversion
from unlir_jax.storage import files as record
from unlir_jax.storage import staging
from unlir_jax.weights import readers

WRITING = """
import pathlib, sys
from unlir_jax.storage import staging
folder = pathlib.Path(sys.argv[1])
with staging.new_folder(folder) as place, staging._new_file(folder):
    (place / "half.png").write_bytes(b"half")
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, in the middle of writing a folder and a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_what_a_killed_process_left_goes_and_nothing_else(other, tmp_path):
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 2
    foreign = [".unlir-notes", ".unlir-0123456789ab.txt", ".unlir-0123456789AB", "keep"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"mine")
    # A file of a folder's name, a folder of a file's name, and a way out.
    (tmp_path / ".unlir-000000000001").write_bytes(b"mine")
    (tmp_path / ".unlir-000000000002.tmp").mkdir()
    (tmp_path / ".unlir-000000000003").symlink_to(tmp_path / "keep")
    kept = sorted(set(os.listdir(tmp_path)) - set(left))
    assert staging.sweep(tmp_path) == []
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert staging.sweep(tmp_path) == left
    assert sorted(os.listdir(tmp_path)) == kept
    assert (tmp_path / "keep").read_bytes() == b"mine"
    assert staging.sweep(tmp_path / "none") == []


def test_a_report_sweeps_where_it_is_written(other, tmp_path):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    # What is left in it does not make a folder one that is not empty.
    record.check_folder(tmp_path, ["a"], overwrite=False)
    assert os.listdir(tmp_path) == []
    with record.new_folder(tmp_path / "new") as place:
        (place / "a").write_text("a")
    assert os.listdir(tmp_path) == ["new"] and os.listdir(tmp_path / "new") == ["a"]


def test_a_file_appears_complete_and_under_its_own_name_only(tmp_path):
    staging.write_bytes(tmp_path / "a", b"one")
    staging.write_bytes(tmp_path / "a", b"two")
    with pytest.raises(FileExistsError):
        staging.write_bytes(tmp_path / "a", b"three", replace=False)
    staging.write_bytes(tmp_path / "b", b"four", replace=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "a": b"two",
        "b": b"four",
    }


def test_a_folder_that_cannot_be_written_to_has_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"none/a.*No such file.*expected a place"):
        staging.write_bytes(tmp_path / "none" / "a", b"")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    told = r"'.*/a' cannot be written: no space .* [0-9,]+ bytes free .*for 12 bytes"
    with pytest.raises(ValueError, match=told):
        staging.write_bytes(tmp_path / "a", b"twelve bytes")
    with (
        pytest.raises(ValueError, match=r"/new/a' cannot") as caught,
        record.new_folder(tmp_path / "new") as place,
    ):
        (place / "new").mkdir()
        record.write_text(place / "new" / "a", "")
    assert ".unlir-" not in str(caught.value)
    assert os.listdir(tmp_path) == []
    error = OSError(errno.EROFS, os.strerror(errno.EROFS))
    with pytest.raises(ValueError, match="Read-only file system.*expected a place"):
        raise staging.refusal(tmp_path / "a", error)


@pytest.mark.parametrize("empty", [False, True])
def test_two_reports_of_one_new_folder_do_not_replace_each_other(tmp_path, empty):
    output = tmp_path / "report"
    if empty:
        output.mkdir()
    record.check_folder(output, ["results.json"], overwrite=False)
    told = "made by another process|is not empty"
    with (
        pytest.raises(ValueError, match=told),
        record.new_folder(output) as place,
    ):
        with record.new_folder(output) as other:
            (other / "results.json").write_text("first")
        (place / "results.json").write_text("second")
    assert os.listdir(output) == ["results.json"]
    assert (output / "results.json").read_text() == "first"
    assert os.listdir(tmp_path) == ["report"]


def test_many_writers_and_sweepers_lose_nothing(tmp_path):
    """A file that was just made, and not yet locked, may be swept: then another is."""
    ended = threading.Event()

    def sweep():
        while not ended.is_set():
            staging.sweep(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(200):
            staging.write_bytes(tmp_path / f"{number}", b"all of it")
            with record.new_folder(tmp_path / f"folder {number}") as place:
                (place / "a").write_bytes(b"all of it")
    finally:
        ended.set()
        sweeper.join()
    assert len(os.listdir(tmp_path)) == 400
    assert all((tmp_path / f"folder {n}" / "a").exists() for n in range(200))


def report(folder, files, **more):
    folder.mkdir(exist_ok=True)
    document = {"schema": 1, "files": files} | more
    record.write_text(folder / record.RESULTS, record.to_json(document))


def overwrite(folder, names):
    record.check_folder(folder, names, overwrite=True)
    with record.new_folder(folder, overwrite=True) as place:
        for name in names:
            (place / name).write_text("new")


def test_overwriting_removes_only_what_such_a_report_can_have_written(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    (tmp_path / "parts.png").write_text("mine")
    (tmp_path / "a__sheet.png").write_text("old")
    (tmp_path / "b__folder.png").mkdir()
    names = ["report.html", "a__sheet.png", "b__folder.png", "keep.txt", "parts.png"]
    names += [record.RESULTS]
    odd = ["..", ".", "../keep.txt", "", "a\0b__c.png", f"{'a' * 5000}__b.png", 7, None]
    report(tmp_path, [*names, *odd])
    (tmp_path / "report.html").write_text("old")
    overwrite(tmp_path, ["report.html", record.RESULTS])
    assert sorted(os.listdir(tmp_path)) == [
        "b__folder.png",
        "keep.txt",
        "parts.png",
        "report.html",
        "results.json",
    ]
    assert (tmp_path / "keep.txt").read_text() == "mine"


def test_a_report_that_was_half_replaced_is_replaced_whole(tmp_path, monkeypatch):
    """Whatever moment it was stopped at: nothing of the earlier one stays."""
    old = ["report.html", "a__x.png", record.RESULTS]
    new = ["b__x.png", "c__x.png", "report.html", record.RESULTS]

    def write(folder):
        record.check_folder(folder, new, overwrite=True)
        with record.new_folder(folder, overwrite=True) as place:
            for name in new:
                (place / name).write_text("new")
            report(place, new)

    left, moment = 1, 0
    while left > 0:
        folder = tmp_path / str(moment)
        report(folder, old)
        for name in old[:-1]:
            (folder / name).write_text("old")
        left = moment = moment + 1
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            for name in ("replace", "unlink"):
                patched.setattr(Path, name, stopping(getattr(Path, name), left))
            write(folder)
            left = 0
        write(folder)
        assert sorted(os.listdir(folder)) == sorted(new)
        assert (folder / "report.html").read_text() == "new"
    assert moment > len(new)


CALLS = []


def stopping(call, most):
    """Stop at the call of that number, as a signal does."""
    CALLS.clear()

    def counted(*arguments, **settings):
        CALLS.append(call)
        if len(CALLS) == most:
            raise KeyboardInterrupt
        return call(*arguments, **settings)

    return counted


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema": 1, "files": ' + "[" * 100_000, "{", "[1]"]
)
def test_a_list_of_files_that_is_none_names_nothing(tmp_path, text):
    (tmp_path / record.RESULTS).write_text(text)
    with pytest.raises(ValueError, match="which no previous report wrote"):
        record.check_folder(tmp_path, [record.RESULTS], overwrite=True)


def test_who_is_killed_after_a_file_has_appeared_leaves_nothing_for_ever(tmp_path):
    """Between its two names, which are one file: the command then refuses to go on."""
    (tmp_path / "w.safetensors").write_bytes(b"whole")
    hidden = tmp_path / f".unlir-{'0' * 12}.tmp"
    for write in (
        lambda path: readers.write_safetensors(path, {"a": np.zeros(1)}),
        lambda path: adapters.output(path, False),
        lambda path: conversion.convert("cifar_resnet8", "x.npz", path),
    ):
        os.link(tmp_path / "w.safetensors", hidden)
        with pytest.raises(FileExistsError):
            write(tmp_path / "w.safetensors")
        assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_folder_in_the_way_is_found_before_anything_is_replaced(tmp_path):
    report(tmp_path, ["report.html", "a__b.png"])
    (tmp_path / "a__b.png").mkdir()
    with pytest.raises(ValueError, match=r"holds 'a__b.png', which no previous"):
        record.check_folder(tmp_path, ["report.html", "a__b.png"], overwrite=True)


def test_texts_are_written_so_that_nothing_acts_or_hides(tmp_path):
    record.write_text(tmp_path / "a.html", "<b>\x1b[31m\x07\u202eb\u200d\udcff</b>\n\t")
    found = (tmp_path / "a.html").read_text("utf-8")
    assert found == "<b>\\u001b[31m\\u0007\\u202eb\u200d\\udcff</b>\n\t"


def test_the_package_imports_where_there_is_no_fcntl(tmp_path):
    """As on Windows, where nothing is locked that is renamed while it is open."""
    code = f"""
import importlib, pathlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
sys.modules["fcntl"] = None
import unlir_jax
for module in pkgutil.walk_packages(unlir_jax.__path__, "unlir_jax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from unlir_jax.storage import locks, staging
staging._LOCKS = False
folder = pathlib.Path({str(tmp_path)!r})
staging.write_bytes(folder / "a", b"all of it")
with locks.alone(folder / locks.LOCK):
    assert not staging.sweep(folder)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "a").read_bytes() == b"all of it"

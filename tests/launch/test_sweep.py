"""The sweep tool, with a pretended trainer behind UNLIR."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Seconds until something has gone wrong, also on a machine that is busy.
LONG = 60
SWEEP = Path(__file__).parents[2] / "launch" / "sweep.py"
UNLIR = shlex.join(
    [sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_unlir.py"))]
)
CONFIG = """
import ml_collections
def get_config(argument=""):
    return ml_collections.ConfigDict({"seed": 0, "rate": 0.1, "steps": 100})
def get_variants(argument=""):
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Give a function that runs the tool on a config with three variants."""
    (tmp_path / "a.py").write_text(CONFIG)
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("UNLIR", UNLIR)
    monkeypatch.setenv("FAKE_UNLIR", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)

    def sweep(*arguments, config="a.py"):
        command, *rest = arguments
        words = [str(SWEEP), command, "--config", config, "--root", "out", *rest]
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=LONG
        )

    return sweep


def trained(folder=Path("records")):
    """List what the trainers were given, in the order of their starts."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text())["arguments"] for path in paths]


def words(seed, *more):
    changes = [f"--config.seed={seed}", *more]
    return ["--config", "a.py", "--workdir", f"out/seed={seed}", *changes]


def finish(seed, accuracy=0.5):
    Path(f"out/seed={seed}").mkdir(parents=True)
    summary = json.dumps({"test/accuracy": accuracy})
    Path(f"out/seed={seed}/summary.json").write_text(summary)


def test_list(sweep):
    finish(1, 0.98765)
    Path("out/seed=2").mkdir()
    done = sweep("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["variant", "state", "test/accuracy", "settings"],
        ["0", "seed=0", "new", "seed=0"],
        ["1", "seed=1", "finished", "0.9877", "seed=1"],
        ["2", "seed=2", "interrupted", "seed=2"],
        ["unfinished:", "0,2"],
    ]


def test_run(sweep):
    """What is finished is left alone, and the rest gets the settings given here too."""
    finish(1)
    done = sweep("run", "--config.steps=5", "--config.rate=0.5")
    assert (done.returncode, done.stderr) == (0, "")
    more = ["--config.steps=5", "--config.rate=0.5"]
    expected = [["train", *words(0, *more)], ["train", *words(2, *more)]]
    assert trained() == expected
    assert "unfinished: none" in sweep("list").stdout
    assert sweep("run").returncode == 0
    assert len(trained()) == 2


def test_run_continues_after_a_failure(sweep, monkeypatch):
    monkeypatch.setenv("FAKE_UNLIR_FAILS", "seed=1")
    done = sweep("run")
    assert done.returncode == 1
    assert done.stderr == "sweep: not finished: seed=1 (exit code 3)\n"
    assert len(trained()) == 3
    monkeypatch.delenv("FAKE_UNLIR_FAILS")
    assert sweep("run").returncode == 0
    assert trained()[3:] == [["train", *words(1)]]


def test_run_stops_when_told(sweep, monkeypatch):
    """The training is told, it saves, and the next one is not started."""
    monkeypatch.setenv("FAKE_UNLIR_WAIT", "1")
    command = [sys.executable, str(SWEEP), "run", "--config", "a.py", "--root", "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + LONG
    while not trained() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LONG)[1] == "sweep: stopped in seed=0\n"
    assert process.returncode == 0
    assert os.listdir("out") == ["seed=0"]
    assert os.listdir("out/seed=0") == ["saved-0"]


def test_dry_run(sweep):
    done = sweep("run", "--dry-run")
    assert [shlex.split(line) for line in done.stdout.splitlines()] == [
        [*shlex.split(UNLIR), "train", *words(seed)] for seed in range(3)
    ]
    done = sweep("submit", "--with", "sbatch 'my job.sh'", "--dry-run")
    assert [shlex.split(line) for line in done.stdout.splitlines()] == [
        ["sbatch", "my job.sh", *words(seed)] for seed in range(3)
    ]
    assert not trained()
    assert not Path("out").exists()


def test_default_command(sweep, monkeypatch):
    monkeypatch.delenv("UNLIR")
    command = shlex.split(sweep("command", "2").stdout)
    assert command == [sys.executable, "-m", "unlir_jax.cli", "train", *words(2)]


def test_submit(sweep):
    finish(0)
    program = (
        "import os, sys; open('jobs', 'a').write(' '.join([os.environ['UNLIR_JOB'], "
        "os.environ['SBATCH_JOB_NAME'], *sys.argv[1:]]) + '\\n'); "
        "sys.exit('seed=1' in sys.argv[4])"
    )
    prefix = shlex.join([sys.executable, "-c", program])
    done = sweep("submit", "--with", prefix)
    assert done.returncode == 1
    assert "seed=1 (exit code 1)" in done.stderr
    assert Path("jobs").read_text().splitlines() == [
        " ".join([f"seed={seed}"] * 2 + words(seed)) for seed in (1, 2)
    ]


def test_command_keeps_its_index(sweep):
    """An index means the same variant whatever has been finished meanwhile."""
    before = sweep("command", "2").stdout
    assert shlex.split(before) == [*shlex.split(UNLIR), "train", *words(2)]
    finish(0)
    assert sweep("command", "2").stdout == before
    done = sweep("command", "0")
    assert (done.returncode, done.stdout) == (0, "")
    assert "seed=0 is finished" in done.stderr
    done = sweep("command", "1", "--with", "sh 'a b.sh'")
    assert shlex.split(done.stdout) == ["sh", "a b.sh", *words(1)]


BAD = {
    "index": (["command", "3"], "Variant 3 does not exist; expected 0 to 2."),
    "variant's": (["list", "--config.seed=1"], "is what variant 'seed=0' sets"),
    "unknown": (["list", "--config.step=1"], "did you mean `--config.steps`?"),
    "type": (["run", "--config.steps=many"], "expected an int"),
    "stray": (["run", "--quick"], "Argument '--quick' is none of this command's"),
    "no prefix": (["submit"], "--with"),
    "summary": (["list"], "summary.json' is not a summary in JSON."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(sweep, case):
    arguments, expected = BAD[case]
    if case == "summary":
        finish(0)
        Path("out/seed=0/summary.json").write_text("{")
    done = sweep(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not trained()


def test_missing_config(sweep):
    done = sweep("list", config="b.py")
    assert done.returncode == 2
    assert "Config 'b.py' is not a file" in done.stderr

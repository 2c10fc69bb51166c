"""The launch scripts against commands that only pretend to be a cluster."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_srun
import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
UNLIR = shlex.join(
    [sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_unlir.py"))]
)
AWKWARD = ["--config", "a.py:x=1", "it's $HOME", 'a "b"', "c\\d $(e)", ""]
CONFIG = """
import ml_collections
def get_config(): return ml_collections.ConfigDict({"seed": 0})
def get_variants(): return {f"seed={seed}": {"seed": seed} for seed in (1, 2)}
"""


@pytest.fixture
def cluster(tmp_path):
    """Give the environment of a SLURM job of two nodes with a pretended trainer."""
    records = tmp_path / "records"
    records.mkdir()
    environment = fake_srun.install(tmp_path / "slurm")
    ours = {"UNLIR": UNLIR, "FAKE_UNLIR": str(records), "PYTHON": sys.executable}
    given = {n: v for n, v in os.environ.items() if n != "UNLIR_JAX_CACHE"}
    return given | environment | ours


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "runs" / "one"


def launch(script, arguments, environment, **settings):
    command = ["sh", str(LAUNCH / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **settings)


def wait(script, arguments, environment):
    """Run a script to its end; give the exit code."""
    return launch(script, arguments, environment).wait(fake_srun.LONG)


def records(environment, count=0):
    """Read what the trainers left, after waiting for as many as there should be."""
    end = time.monotonic() + fake_srun.LONG
    while True:
        found = sorted(Path(environment["FAKE_UNLIR"]).glob("*.json"))
        if len(found) >= count or time.monotonic() > end:
            return [json.loads(path.read_text()) for path in found]
        time.sleep(0.01)


def told(environment, command):
    path = Path(environment["FAKE_SLURM"], command)
    return path.read_text().splitlines() if path.exists() else []


def test_shellcheck():
    beside = Path(sys.executable).parent
    shellcheck = shutil.which("shellcheck", path=f"{beside}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not on this machine")
    done = subprocess.run(
        [shellcheck, *SCRIPTS], capture_output=True, text=True, check=False
    )
    assert len(SCRIPTS) == 5
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_header(script):
    source = script.read_text()
    for part in ("Required environment:", "Optional:", "Restart:", "set -eu"):
        assert part in source


def test_local_passes_arguments_and_exit_code(cluster, workdir):
    for code in (0, 7):
        environment = cluster | {"FAKE_UNLIR_CODE": str(code)}
        arguments = [*AWKWARD, "--workdir", workdir]
        assert wait("local.sh", arguments, environment) == code
    for record in records(cluster):
        assert record["arguments"] == ["train", *AWKWARD, "--workdir", str(workdir)]
        assert not record["environment"], "a run of one process is told nothing"


def test_local_forwards_the_signal(cluster, workdir):
    environment = cluster | {"FAKE_UNLIR_WAIT": "1", "FAKE_UNLIR_CODE": "5"}
    process = launch("local.sh", ["--workdir", workdir], environment)
    records(cluster, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(fake_srun.LONG) == 5
    assert (workdir / "saved-0").exists()


def test_slurm_tells_each_process_its_place(cluster, workdir):
    arguments = [*AWKWARD, "--workdir", workdir]
    assert wait("slurm.sh", arguments, cluster) == 0
    found = records(cluster)
    for record in found:
        assert record["arguments"] == ["train", *AWKWARD, "--workdir", str(workdir)]
    places = [record["environment"] for record in found]
    assert {place["UNLIR_COORDINATOR"] for place in places} == {"localhost:12021"}
    assert {place["UNLIR_PROCESSES"] for place in places} == {"2"}
    assert sorted(place["UNLIR_PROCESS"] for place in places) == ["0", "1"]
    assert not told(cluster, "scontrol"), "a finished training is not put back"


def test_slurm_with_one_process_is_a_plain_run(cluster, workdir):
    environment = cluster | {"FAKE_TASKS": "1", "SLURM_CPUS_PER_TASK": "8"}
    assert wait("slurm.sh", ["--workdir", workdir], environment) == 0
    (record,) = records(cluster)
    assert record["environment"] == {"SRUN_CPUS_PER_TASK": "8"}


def test_slurm_returns_the_exit_code_of_a_failure(cluster, workdir):
    """And does not put back a training that would fail again."""
    environment = cluster | {"FAKE_UNLIR_CODE": "7", "FAKE_TASKS": "1"}
    assert wait("slurm.sh", ["--workdir", workdir], environment) == 7
    # Of two, srun kills the one that has not failed by itself yet, and says so.
    environment["FAKE_TASKS"] = "2"
    code = wait("slurm.sh", ["--workdir", workdir], environment)
    assert code in (7, 128 + signal.SIGKILL)
    assert not told(cluster, "scontrol")


@pytest.mark.parametrize(
    ("option", "changed", "requeued"),
    [
        (["--workdir", "{}"], {}, True),
        (["--workdir={}", "--workdir", "{}"], {}, True),
        (["--workdir", "{}"], {"UNLIR_REQUEUES": "0"}, False),
        (["--workdir", "{}"], {"SLURM_RESTART_COUNT": "100"}, False),
    ],
)
def test_slurm_before_the_time_limit(cluster, workdir, option, changed, requeued):
    """SLURM signals the tasks, they save; the script puts the job back."""
    environment = cluster | {"FAKE_UNLIR_WAIT": "1"} | changed
    arguments = [part.format(workdir) for part in option]
    process = launch("slurm.sh", arguments, environment)
    assert len(records(cluster, 2)) == 2
    subprocess.run(
        ["scancel", "--signal=TERM", cluster["SLURM_JOB_ID"]], env=cluster, check=True
    )
    assert process.wait(fake_srun.LONG) == 0
    assert sorted(path.name for path in workdir.iterdir()) == ["saved-0", "saved-1"]
    assert told(cluster, "scontrol") == (["requeue 40021"] if requeued else [])


@pytest.mark.parametrize("code", [0, 5])
def test_slurm_at_the_end_of_the_job(cluster, workdir, code):
    """SIGTERM to the batch script lets the tasks save and does not put it back."""
    environment = cluster | {"FAKE_UNLIR_WAIT": "1", "FAKE_UNLIR_CODE": str(code)}
    process = launch("slurm.sh", ["--workdir", workdir], environment)
    assert len(records(cluster, 2)) == 2
    process.send_signal(signal.SIGTERM)
    # With an exit code other than 0, srun may kill the second before it has saved.
    assert process.wait(fake_srun.LONG) in (
        (0,) if code == 0 else (code, 128 + signal.SIGKILL)
    )
    assert told(cluster, "scancel") == ["--signal=TERM 40021"]
    assert not told(cluster, "scontrol")
    assert len(list(workdir.glob("saved-*"))) == 2 or code


def test_slurm_array(cluster, tmp_path):
    """A task trains its own variant, and ends at once when that is finished."""
    config = tmp_path / "it's.py"
    config.write_text(CONFIG)
    root = tmp_path / "sweep"
    arguments = ["--config", config, "--root", root]
    environment = cluster | {"UNLIR_LAUNCH": str(LAUNCH), "SLURM_ARRAY_TASK_ID": "1"}
    assert wait("slurm_array.sh", arguments, environment) == 0
    found = records(cluster, 2)
    assert sorted(record["environment"]["UNLIR_PROCESS"] for record in found) == [
        "0",
        "1",
    ]
    for record in found:
        words = ["--config", str(config), "--workdir", str(root / "seed=2")]
        assert record["arguments"] == ["train", *words, "--config.seed=2"]
    assert (root / "seed=2" / "summary.json").exists()
    assert wait("slurm_array.sh", arguments, environment) == 0
    assert len(records(cluster)) == 2
    environment["SLURM_ARRAY_TASK_ID"] = "2"
    process = launch("slurm_array.sh", arguments, environment, stderr=subprocess.PIPE)
    assert "expected 0 to 1" in process.communicate(timeout=fake_srun.LONG)[1]
    assert process.returncode == 2


def fake(folder, name):
    """Put a command on the PATH that writes its arguments and its input to files."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    program = (
        "import json, sys; "
        f"open({str(folder / 'arguments')!r}, 'w').write(json.dumps(sys.argv[1:])); "
        f"open({str(folder / 'input')!r}, 'w').write(sys.stdin.read())"
    )
    path.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c {shlex.quote(program)} "$@"'
    )
    path.chmod(0o755)
    return dict(os.environ) | {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_tpu_vm(cluster, tmp_path, workdir):
    """What the workers' shells are given runs the trainer with the same arguments."""
    environment = fake(tmp_path / "bin", "gcloud")
    remote = tmp_path / "it's remote"
    remote.mkdir()
    environment |= {"TPU_NAME": "slice", "ZONE": "z", "FOLDER": str(remote)}
    environment |= {"UNLIR": UNLIR, "PROJECT": "p"}
    arguments = [*AWKWARD, "two\nlines", "--workdir", workdir]
    process = launch("tpu_vm.sh", arguments, environment, stdin=subprocess.DEVNULL)
    assert process.wait(fake_srun.LONG) == 0
    *given, command = json.loads((tmp_path / "bin" / "arguments").read_text())
    assert given == [
        *("compute", "tpus", "tpu-vm", "ssh", "slice", "--zone=z"),
        *("--project=p", "--worker=all"),
    ]
    command = command.removeprefix("--command=")
    subprocess.run(["bash", "-c", command], env=cluster, check=True)
    (record,) = records(cluster)
    assert record["arguments"][1:] == [str(argument) for argument in arguments]
    assert record["environment"] == {"UNLIR_DISTRIBUTED": "auto"}


@pytest.mark.parametrize("missing", ["TPU_NAME", "ZONE"])
def test_tpu_vm_needs_a_slice(tmp_path, missing):
    environment = fake(tmp_path / "bin", "gcloud") | {"TPU_NAME": "a", "ZONE": "z"}
    del environment[missing]
    process = launch("tpu_vm.sh", [], environment, stderr=subprocess.PIPE)
    assert missing in process.communicate(timeout=fake_srun.LONG)[1]
    assert process.returncode
    assert not (tmp_path / "bin" / "arguments").exists()


def kubernetes(tmp_path, arguments, **settings):
    if shutil.which("envsubst") is None:
        pytest.skip("envsubst, of gettext, is not on this machine")
    environment = fake(tmp_path / "bin", "kubectl") | {"IMAGE": "i:1", "CLAIM": "disk"}
    process = launch(
        "kubernetes.sh", arguments, environment | settings, stderr=subprocess.PIPE
    )
    process.communicate(timeout=fake_srun.LONG)
    assert process.returncode == 0
    given = json.loads((tmp_path / "bin" / "arguments").read_text())
    assert given == ["apply", "-f", "-"]
    return yaml.safe_load((tmp_path / "bin" / "input").read_text())


def pod_of(document):
    (job,) = document["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def test_kubernetes_gpu(tmp_path):
    arguments = ["--workdir", "/data/a", *AWKWARD]
    document = kubernetes(
        tmp_path, arguments, NODES="3", DEVICES="8", ACCELERATOR="nvidia-h100-80gb"
    )
    assert document["kind"] == "JobSet"
    assert document["metadata"]["name"] == "unlir"
    assert document["spec"]["failurePolicy"] == {"maxRestarts": 100}
    (job,) = document["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["completions"], spec["parallelism"]) == (3, 3)
    assert (spec["completionMode"], spec["backoffLimit"]) == ("Indexed", 0)
    pod = pod_of(document)
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb"
    }
    (container,) = pod["containers"]
    assert container["image"] == "i:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    # Kubernetes makes one dollar of two.
    assert [word.replace("$$", "$") for word in container["args"]] == arguments
    names = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert names == {
        "UNLIR": "unlir",
        "UNLIR_WORKDIR": "/data/a",
        "UNLIR_COORDINATOR": "unlir-workers-0-0.unlir:12345",
        "UNLIR_PROCESSES": "3",
        "UNLIR_PROCESS": None,
    }
    assert "job-completion-index" in str(container["env"][-1]["valueFrom"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "disk"}
    assert "${" not in str(document)


def test_kubernetes_tpu(tmp_path):
    document = kubernetes(
        tmp_path,
        ["--workdir=/data/a"],
        ACCELERATOR="tpu-v5-lite-podslice",
        TOPOLOGY="4x4",
        NODES="4",
        DEVICES="4",
    )
    pod = pod_of(document)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}


def test_kubernetes_names(tmp_path):
    """Variants get names that Kubernetes takes, and never the same."""
    names = [
        kubernetes(
            tmp_path, ["--workdir", "/data/a"], ACCELERATOR="x", UNLIR_JOB=variant
        )["metadata"]["name"]
        for variant in ("rate=0.1", "rate=0_1", "0.1", "x" * 60, "x" * 61)
    ]
    assert len(set(names)) == 5
    assert names[0].startswith("rate-0-1-")
    for name in names:
        assert len(name) <= 41
        assert name[0].isalpha() and name.replace("-", "a").isalnum()
        assert name.lower() == name


@pytest.mark.parametrize("missing", ["IMAGE", "CLAIM", "ACCELERATOR", "--workdir"])
def test_kubernetes_needs(tmp_path, missing):
    environment = fake(tmp_path / "bin", "kubectl")
    given = {"IMAGE": "i", "CLAIM": "c", "ACCELERATOR": "a"}
    environment |= {name: value for name, value in given.items() if name != missing}
    arguments = [] if missing == "--workdir" else ["--workdir", "/data/a"]
    process = launch("kubernetes.sh", arguments, environment, stderr=subprocess.PIPE)
    assert missing in process.communicate(timeout=fake_srun.LONG)[1]
    assert process.returncode
    assert not (tmp_path / "bin" / "arguments").exists()


@pytest.mark.parametrize(
    ("changed", "stop", "code"),
    [
        ({}, False, 0),
        ({"FAKE_UNLIR_CODE": "7"}, False, 7),
        ({"FAKE_UNLIR_WAIT": "1"}, True, 75),
        ({"FAKE_UNLIR_WAIT": "1", "FAKE_UNLIR_CODE": "5"}, True, 5),
    ],
)
def test_kubernetes_container(cluster, tmp_path, workdir, changed, stop, code):
    """Stopped before the end is a failure to Kubernetes, so that it starts again."""
    document = kubernetes(
        tmp_path, ["--workdir", workdir], ACCELERATOR="x", UNLIR=UNLIR
    )
    (container,) = pod_of(document)["containers"]
    given = {entry["name"]: entry.get("value", "0") for entry in container["env"]}
    command = [*container["command"], *container["args"]]
    process = subprocess.Popen(command, env=cluster | given | changed)
    assert len(records(cluster, 1)) == 1
    if stop:
        process.send_signal(signal.SIGTERM)
    assert process.wait(fake_srun.LONG) == code
    assert (workdir / "saved-0").exists() == stop

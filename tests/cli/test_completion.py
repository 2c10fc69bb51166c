"""Completion: the scripts, and what bash makes of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unlir_jax import cli, metrics, saliency
from unlir_jax.cli import completion, completion_scripts, program
from unlir_jax.models import zoo

ROOT = Path(__file__).parents[2]


def scripted(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_has_all_names(shell, capsys):
    text = scripted(shell, capsys)
    words = set(text.replace("'", " ").split())
    assert words >= {*program.COMMANDS, *saliency.METHODS, *metrics.FACTORIES}
    assert words >= {*zoo.networks(), "configs/quickstart.py", "merge", "gradcam"}
    assert "workdir" in text and "dry-run" in text
    assert ("bashcompinit" in text) == (shell == "zsh")


def test_commands_inside_of_commands():
    parser, _ = program.parser_of_all()
    found = {each.words: each for each in completion_scripts.commands(parser)}
    assert found[""].inner == program.COMMANDS
    assert found["adapters"].inner == ("apply", "merge", "diff", "explain")
    assert found["adapters apply"].first == "networks"
    assert found["explain"].options["--method"] == "methods"
    assert found["explain"].options["--overwrite"] is None
    assert found["completion"].first == "bash zsh fish"
    assert all(each.summary for words, each in found.items() if words)


def test_another_shell_is_refused(capsys):
    assert cli.main(["completion", "tcsh"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


COMPLETED = {
    "unlir exp": ["explain"],
    "unlir adapters m": ["merge"],
    "unlir adapters diff --l": ["--layers"],
    "unlir explain cat.jpg --over": ["--overwrite"],
    "unlir explain cat.jpg --method score_": ["score_cam"],
    "unlir explain cat.jpg --method=score_": ["score_cam"],
    "unlir explain --method grad_cam,opti_": ["grad_cam,opti_cam"],
    "unlir explain cat.jpg --model resnet1": ["resnet101", "resnet152", "resnet18"],
    "unlir explain cat.jpg --score resid": ["residual_softmax"],
    "unlir explain pho": ["photo.png"],
    "unlir methods eig": ["eigen_cam", "eigen_grad_cam"],
    "unlir metrics inser": ["insertion", "insertion_minus_deletion"],
    "unlir models mob": ["mobilenet_v2", "mobilenetv2_100"],
    "unlir configs configs/qui": ["configs/quickstart.py"],
    "unlir train --config configs/few": ["configs/few_shot.py"],
    "unlir train --workdir pho": ["photo.png"],
    "unlir completion f": ["fish"],
}
# Readline leaves the words of a line as it does here: `=` is one of its own.
DRIVER = r"""
source "$1"
line=$2
COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=() COMP_CWORD=0
spaced=${line//=/ = }
read -ra COMP_WORDS <<< "$spaced"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_unlir
if ((${#COMPREPLY[@]})); then
    printf '%s\n' "${COMPREPLY[@]}"
else
    compgen -f -- "${COMP_WORDS[COMP_CWORD]}"
fi
"""


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(tmp_path, capsys):
    script = tmp_path / "script"
    script.write_text(scripted("bash", capsys))
    (tmp_path / "photo.png").touch()
    for line, expected in COMPLETED.items():
        words = ["bash", "--norc", "-c", DRIVER, "bash", str(script), line]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.split() == expected, (line, done.stdout, done.stderr)
        assert not done.stderr


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_tab_key_completes(tmp_path, capsys):
    """In an interactive shell, with readline between."""
    pty = pytest.importorskip("pty", reason="no terminals")
    script = tmp_path / "script"
    script.write_text(scripted("bash", capsys))
    leader, follower = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=tmp_path,
        env=os.environ | {"PS1": "$ ", "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(follower)
    keys = f'source {script}; unlir() {{ echo "<$*>"; }}\n'
    keys += "unlir expl\tcat.jpg --meth\tscore_\t\n"
    keys += "unlir methods eigen_g\t\n"
    keys += "exit\n"
    os.write(leader, keys.encode())
    said = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux says so at the end of a terminal.
            break
        if not part:
            break
        said += part
    shell.wait()
    os.close(leader)
    assert b"<explain cat.jpg --method score_cam>" in said, said
    assert b"<methods eigen_grad_cam>" in said, said


@pytest.mark.process
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell, tmp_path, capsys):
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    script = tmp_path / "script"
    script.write_text(scripted(shell, capsys))
    begin = "autoload -Uz compinit && compinit -u; " if shell == "zsh" else ""
    words = [shell, "-c", f"{begin}source {script}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.process
def test_help_imports_nothing_for_it():
    program = (
        "import sys; from unlir_jax import cli; cli.main(['completion', '--help']); "
        "print(*({'jax', 'ml_collections'} & set(sys.modules)), file=sys.stderr)"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == "\n"

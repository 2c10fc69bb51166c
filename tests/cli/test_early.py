"""What is refused before JAX is imported."""

import re
import subprocess
import sys

import pytest

from unlir_jax import cli, metrics, saliency
from unlir_jax.cli import early
from unlir_jax.models import zoo


def test_sources_tell_what_is_registered():
    names, synonyms = early.registered("saliency", "explainer")
    assert set(names) == set(saliency.METHODS)
    assert set(synonyms) == set(saliency.SYNONYMS)
    names, synonyms = early.registered("metrics", "metric")
    assert set(names) == set(metrics.FACTORIES) and not synonyms


def test_every_network_passes_and_a_misspelt_one_does_not():
    for name in (*zoo.networks(), *zoo.synonyms(), "package.module:factory"):
        early.network(name)
    with pytest.raises(ValueError, match="did you mean 'efficientnet_lite"):
        early.network("efficientnet_lit0")


REFUSED = {
    "none.png": "Image 'none.png' does not exist",
    "program.py --method grad_cm": "did you mean 'grad_cam'",
    "program.py --model mobilnet": "did you mean 'mobilenet_v2'",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_misspelt_name_is_refused(line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").touch()
    assert cli.main(["explain", *line.split()]) == 2
    said = capsys.readouterr().err
    assert REFUSED[line] in said and len(said.splitlines()) == 1


def test_it_takes_no_jax():
    program = (
        "import sys; from unlir_jax import cli; code = cli.main("
        "['explain', sys.executable, '--method', 'grad_cm']); "
        "print(code, *({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"] and re.search("grad_cam", done.stderr)

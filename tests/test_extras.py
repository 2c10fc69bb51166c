"""Without extras the package loads, explains and scores; the rest is a sentence."""

import subprocess
import sys

EXTRAS = {
    "train": ("array_record", "grain", "tensorboardX", "tensorflow_datasets"),
    "report": ("jinja2", "markupsafe", "matplotlib", "pyarrow"),
    "hf": ("huggingface_hub",),
}
CORE = """
import jax, jax.numpy as jnp, numpy as np, unlir_jax
from unlir_jax import cli, metrics, saliency
network = unlir_jax.load("cifar_resnet8", "random")
images = jnp.asarray(np.random.default_rng(0).random((1, 32, 32, 3)), jnp.float32)
label = jnp.zeros(1, int)
maps = saliency.grad_cam(network.model)(network.variables, images, label)
assert maps.shape == (1, 8, 8)
scores = metrics.average_scores(network.model)(network.variables, images, label, maps)
assert np.isfinite(scores["average_drop"]).all()
assert cli.main(["models"]) == cli.main(["methods"]) == 0
"""


def run(code, hidden):
    """Run code in a process that finds none of some packages."""
    hide = f"import sys\nfor name in {hidden}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True
    )


def test_the_core_needs_no_extra():
    done = run(CORE, [name for names in EXTRAS.values() for name in names])
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_a_sentence_with_its_command():
    """The command line ends with code 2, and nothing is written."""
    code = """
from unlir_jax import cli
from unlir_jax.data import datasets
from unlir_jax.weights import hub
for words in (["explain", "photo.png"], ["retrieve", "a.png", "--index", "b"],
              ["parts", "--workdir", "w"],
              ["evaluate", "--config", "c", "--workdir", "w"],
              ["train", "--config", "configs/supervised.py", "--workdir", "w"]):
    assert cli.main(words) == 2, words
for ask in (datasets._library, hub._import_hub):
    try:
        ask()
    except ImportError as error:
        print(error, file=sys.stderr)
"""
    done = run(code, [name for names in EXTRAS.values() for name in names])
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "installed" in line]
    ends = {line.partition("expected it after ")[2] for line in lines}
    assert ends == {f"`pip install 'unlir_jax[{extra}]'`." for extra in EXTRAS}


def test_explaining_imports_no_library_that_it_does_not_need():
    """Each takes longer to import than a photograph to be drawn."""
    code = """
from unlir_jax.explanation import explain
unneeded = {"matplotlib", "orbax", "grain", "pyarrow", "tensorflow_datasets"}
unneeded |= {"scipy.ndimage", "tensorflow", "unlir_jax.part_report"}
assert not unneeded & set(sys.modules), unneeded & set(sys.modules)
"""
    done = run(code, [])
    assert done.returncode == 0, done.stderr

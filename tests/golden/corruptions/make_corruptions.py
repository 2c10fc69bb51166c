"""Write corruptions.npz beside this file: how far imagecorruptions moves an image.

    python make_corruptions.py

Needs imagecorruptions, scikit-image, opencv-python-headless and scipy; README.md names
the versions. The package is older than NumPy 2, so that what it misses is put back.
"""

import functools
import importlib.metadata
import pathlib
import sys
import types

import numpy as np
import scipy.ndimage
import skimage.filters

HERE = pathlib.Path(__file__).parent
SIDE, SEEDS = 96, 12
EXACT = "defocus_blur", "brightness", "contrast", "pixelate", "jpeg_compression"
SPREAD = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "fog"),
)


def put_back():
    """Give the package what newer libraries have taken away."""
    np.float_ = np.float64
    moved = types.ModuleType("scipy.ndimage.interpolation")
    moved.map_coordinates = scipy.ndimage.map_coordinates
    sys.modules["scipy.ndimage.interpolation"] = moved
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: name
    sys.modules["pkg_resources"] = resources
    plain = skimage.filters.gaussian

    @functools.wraps(plain)
    def gaussian(image, sigma, multichannel=False, **more):
        return plain(image, sigma, channel_axis=-1 if multichannel else None, **more)

    skimage.filters.gaussian = gaussian


def made_image():
    """Make smooth colours with some grain."""
    random = np.random.default_rng(0)
    coarse = random.random((6, 6, 3))
    smooth = scipy.ndimage.zoom(coarse, (SIDE / 6, SIDE / 6, 1), order=3)
    grain = random.normal(0, 0.04, smooth.shape)
    return np.rint(np.clip(0.1 + 0.8 * smooth + grain, 0, 1) * 255).astype(np.uint8)


def main():
    put_back()
    from imagecorruptions import corrupt

    image = made_image()
    facts = {"image": image}
    for name in (*EXACT, *SPREAD):
        for severity in range(1, 6):
            moves = []
            for seed in range(SEEDS if name in SPREAD else 1):
                np.random.seed(seed)
                found = corrupt(image, severity=severity, corruption_name=name)
                change = (found.astype(float) - image) / 255
                moves.append((np.sqrt(np.mean(change**2)), change.mean()))
            facts[f"{name}/{severity}/moves"] = np.mean(moves, axis=0)
            if name in EXACT:
                facts[f"{name}/{severity}"] = found[::3, ::3]
            print(name, severity, facts[f"{name}/{severity}/moves"].round(4))
    names = "imagecorruptions", "scikit-image", "opencv-python-headless", "scipy"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    facts["library"] = np.array(", ".join(versions))
    print(facts["library"])
    np.savez_compressed(HERE / "corruptions.npz", **facts)


if __name__ == "__main__":
    main()

#!/bin/sh
# The glass blur of imagecorruptions copies pixels where its comment says it swaps them.
#
# It exchanges two colours of an array by a tuple assignment. The right side holds views,
# which NumPy does not copy, so the second assignment reads what the first has written.
# One colour stays in both places, and the other is lost. Of 1,024 colours, each once in
# the image, many are gone at the least severity. The two blurs around the exchange are
# replaced by the identity here, so that it is seen alone.
# Source: imagecorruptions/corruptions.py, `glass_blur`, as in hendrycks/robustness, by
# which the errors of ImageNet-C were measured.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.3.5 scipy==1.18.1 scikit-image==0.26.0 \
    opencv-python-headless==5.0.0.93 pillow==13.0.0 numba==0.68.1 setuptools==79.0.1
"$folder/venv/bin/pip" install -q --no-deps imagecorruptions==1.1.2
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
from imagecorruptions import corruptions

corruptions.gaussian = lambda image, **settings: image
numbers = np.arange(32 * 32).reshape(32, 32)
image = np.stack([numbers // 256, numbers % 256, 0 * numbers], -1).astype(np.uint8)
np.random.seed(0)
found = np.rint(corruptions.glass_blur(image, 1)).astype(np.uint8)
left = len(np.unique(found.reshape(-1, 3), axis=0))
print("imagecorruptions", importlib.metadata.version("imagecorruptions"))
print(f"{left} of {image[..., 0].size} colours are left after the exchange")
raise SystemExit(0 if left < 1000 else 1)
PYTHON

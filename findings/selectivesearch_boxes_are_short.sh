#!/bin/sh
# The boxes of `selectivesearch` are a pixel short in both directions.
#
# A box is said as x, y, width, height, and its width is the last column minus the first.
# So the whole of an 80 × 60 image comes as 79 × 59, and a rectangle of 30 × 20 pixels as
# 29 × 19, while `size` of the same entry counts its 600 pixels. A line one pixel wide has
# an area of 0, and no overlap with the object that it is. Against edges, as evaluation
# tools take boxes, the box of a 10-pixel object has an overlap of 0.81 with it at best.
# Source: selectivesearch/selectivesearch.py, `selective_search`, where "rect" is built.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.3.5 scikit-image==0.26.0 selectivesearch==0.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import numpy as np
import selectivesearch

image = np.zeros((60, 80, 3), np.uint8)
image[10:30, 10:40] = 200, 30, 30
_, found = selectivesearch.selective_search(image, scale=100, sigma=0.0, min_size=10)
print("selectivesearch", importlib.metadata.version("selectivesearch"))
for each in found:
    print("x, y, width, height", each["rect"], "pixels", each["size"])
rectangle = next(each for each in found if each["size"] == 600)
whole = next(each for each in found if each["size"] == 4800)
short = rectangle["rect"] == (10, 10, 29, 19) and whole["rect"] == (0, 0, 79, 59)
raise SystemExit(0 if short else 1)
PYTHON

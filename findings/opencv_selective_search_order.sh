#!/bin/sh
# OpenCV's selective search gives its boxes in another order at every call, and no seed
# of OpenCV holds it.
#
# Two calls on one image in one process find the same set of boxes. Their order, which
# stands for how likely a box holds an object, differs, as each rank is multiplied by a
# number of C's `rand`. `cv2.setRNGSeed` sets another generator. So "the first 2,000
# proposals" are others in each call, and in each order in which images are read. A new
# process starts over: its first call agrees with the first of any other.
# Source: opencv_contrib, modules/ximgproc/src/selectivesearchsegmentation.cpp, where the
# regions are ranked; Uijlings et al., *Selective Search for Object Recognition*, 2013,
# section 4.2, have the random factor.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.3.5 opencv-contrib-python-headless==5.0.0.93
cat > "$folder/search.py" <<'PYTHON'
import cv2
import numpy as np

image = np.zeros((60, 80, 3), np.uint8)
image[10:30, 10:40] = 200, 30, 30
image[30:55, 45:70] = 30, 200, 60
image[::2, ::3] += 20


def proposals():
    cv2.setRNGSeed(0)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    search.switchToSelectiveSearchFast()
    return search.process().tolist()


first, second = proposals(), proposals()
same_set = sorted(first) == sorted(second)
print("opencv", cv2.__version__, len(first), "boxes x, y, width, height")
print("first call ", first[:3], "…")
print("second call", second[:3], "…")
print("same set:", same_set, "same order:", first == second)
raise SystemExit(0 if same_set and first != second else 1)
PYTHON
one=$("$folder/venv/bin/python" "$folder/search.py")
other=$("$folder/venv/bin/python" "$folder/search.py")
echo "$one"
echo "a new process gives the same again: $([ "$one" = "$other" ] && echo yes || echo no)"
[ "$one" = "$other" ]

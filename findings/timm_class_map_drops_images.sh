#!/bin/sh
# timm leaves out the images of folders that its class map does not name, silently.
#
# `create_dataset("folder/", root, class_map=…)` reads a list of classes. Where a folder
# is spelt another way than the list, such as with another case, its images are in no
# data set: no error, no warning, and the log says nothing. An accuracy is then one over
# fewer images and classes than lie there. Without a class map all images are read.
# Source: timm, data/readers/reader_image_folder.py, `find_images_and_targets`, keeps
# the images whose label is in the map.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 timm==1.0.31
cat > "$folder/read.py" <<'PYTHON'
import logging
import sys
import warnings
from pathlib import Path

import timm
from PIL import Image
from timm.data import create_dataset

logging.basicConfig(stream=sys.stdout, level=logging.INFO)
warnings.simplefilter("error", UserWarning)
root = Path(sys.argv[1])
for name, count in (("cat", 2), ("Dog", 3), ("owl", 4)):
    (root / name).mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
(root.parent / "classes.txt").write_text("cat\ndog\nowl\n")
whole = create_dataset("folder/", str(root))
given = create_dataset("folder/", str(root), class_map=str(root.parent / "classes.txt"))
labels = sorted({label for _, label in given})
print("timm", timm.__version__)
print("without a class map:", len(whole), "images; with one:", len(given))
print("labels that occur, of 3 in the list:", labels)
left_out = len(whole) == 9 and len(given) == 6 and labels == [0, 2]
print("silently left out" if left_out else "the behaviour has changed")
raise SystemExit(0 if left_out else 1)
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder/images"

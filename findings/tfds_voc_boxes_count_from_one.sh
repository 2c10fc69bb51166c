#!/bin/sh
# Boxes of VOC that come through tensorflow-datasets lack the first row and column.
#
# PASCAL VOC writes boxes in pixels that count from 1, and both ends belong to the box. A
# box over the whole of a 100 × 50 image is 1, 1, 100, 50. tensorflow-datasets divides by
# the size and nothing else, which gives xmin 0.01 and ymin 0.02 in place of 0. Normalised
# boxes are edges that count from 0, so every one starts a pixel late: an object of 10
# pixels loses a tenth of its width. detectron2 and torchvision's reference take 1 off.
# Source: tensorflow_datasets/object_detection/voc.py, `_get_example_objects`; VOC2007
# development kit, "The top-left pixel in the image has coordinates (1,1)".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.10
cat > "$folder/000001.xml" <<'XML'
<annotation>
  <size><width>100</width><height>50</height><depth>3</depth></size>
  <object>
    <name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>50</ymax></bndbox>
  </object>
</annotation>
XML
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - "$folder/000001.xml" 2>/dev/null <<'PYTHON'
import sys

import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import voc

(found,) = voc._get_example_objects(sys.argv[1])
box = found["bbox"]
print("tensorflow-datasets", tfds.__version__)
print(f"a box over the whole image: xmin {box.xmin}, ymin {box.ymin}, "
      f"xmax {box.xmax}, ymax {box.ymax}")
whole = box.xmax == box.ymax == 1
raise SystemExit(0 if whole and (box.xmin, box.ymin) == (0.01, 0.02) else 1)
PYTHON

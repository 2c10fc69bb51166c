"""Damaged files of weights, tables, arrays and records: read, or one sentence each.

`UNLIR_FUZZED` says how many files of each kind, `UNLIR_SEED` which. What has a checksum
may not be read as something else.
"""

import pytest
from fuzzing import made, made_objects

# Kind of file: what reads it, what makes it, how the names of those begin or end that
# are damaged, and whether it has sums.
KINDS = {
    "PyTorch": ("weights", made.torch, ".pth", False),
    "npz": ("weights", made.npz, ".npz", False),
    "safetensors": ("weights", made.safetensors, ".safetensors", False),
    "finished weights": ("purpose", made.finished, "weights.safetensors", False),
    "workdir": ("finished", made.finished, ".json", False),
    "adapter": ("adapter", made.adapter, ".safetensors", False),
    "gallery of parts": ("gallery", made.gallery, "", False),
    "report": ("report", made.report, ".json", False),
    "what a run began with": ("origin", made.origin, "began_with.json", False),
    "batch": ("batch", made.batch, "", False),
    "draw": ("draw", made.draw, "", True),
    "kept features": ("features", made.features, "", True),
    "checkpoint": ("restored", made.checkpoints, "", True),
    "metrics": ("metrics", made.metrics, "", False),
    "tables": ("table", made.table, ".csv", False),
    "arrays": ("stored", made.arrays, ".npz", False),
    "ONNX": ("weights", made_objects.onnx, ".onnx", False),
    "texts": ("texts", made_objects.texts, "", False),
    "given maps": ("given_map", made_objects.given_maps, "", False),
    "table of boxes": ("boxes", made_objects.box_table, ".csv", False),
    "XML of boxes": ("boxes", made_objects.box_xml, ".xml", False),
    "splits of boxes": ("boxes", made_objects.box_xml, "train.txt", False),
    "JSON of boxes": ("boxes", made_objects.box_json, ".json", False),
    "classes": ("classes", made_objects.class_lists, "", False),
    "open split": ("open_split", made_objects.open_split, "", True),
    "rejecter": ("rejecter", made_objects.rejecter, "", False),
    "detector": ("detector", made_objects.trained_detector, "", False),
    "stopped detector": ("stopped", made_objects.stopped_detector, "", False),
    "maps of a detector": ("maps", made_objects.kept_maps, "", False),
}


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused(name, fuzzed):
    kind, make, end, whole = KINDS[name]
    files = make()
    targets = [path for path in files if path.endswith(end)]
    fuzzed(name, kind, files, targets, whole=whole)

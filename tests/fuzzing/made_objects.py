"""Small valid files of boxes and of open sets, and what they are known to be."""

import json

import numpy as np
from fuzzing import made

from unlir_jax.open_set import (
    recogniser,
    rejecter_file,
    rejection,
    semantic_shift,
    split_files,
)
from unlir_jax.parts import clustering
from unlir_jax.weak_detection import descriptions, detector, state_file
from unlir_jax.weights import readers

BOX = 1, 2, 20, 18


def pictures(*places):
    """Draw an image of 24 x 20 pixels at each place."""
    return {place: made.encoded(made.picture(), "PNG") for place in places}


def box_table():
    table = "path,split,class,x0,y0,x1,y1\n"
    for number, split in enumerate(("train", "train", "test", "test")):
        for kind in ("ant", "bee"):
            table += f"{number}.png,{split},{kind},{','.join(map(str, BOX))}\n"
    named = [f"{number}.png" for number in range(4)]
    return pictures(*named) | {"boxes.csv": table.encode()}


def box_xml():
    """Write images and XML as Pascal VOC has them."""
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    size = "<size><width>24</width><height>20</height><depth>3</depth></size>"
    names, files = ("0", "1", "2", "3"), {}
    for name in names:
        objects = "".join(
            f"<object><name>{kind}</name><pose>Left</pose><difficult>{hard}"
            f"</difficult><bndbox>{box}</bndbox></object>"
            for kind, hard in (("ant", 0), ("bee", 0), ("ant", 1))
        )
        told = f"<annotation><filename>{name}.png</filename>{size}{objects}"
        files[f"Annotations/{name}.xml"] = f"{told}</annotation>".encode()
    files["ImageSets/Main/train.txt"] = b"0\n1\n"
    files["ImageSets/Main/test.txt"] = b"2\n3\n"
    return pictures(*(f"JPEGImages/{name}.png" for name in names)) | files


def box_json():
    """Write images and JSON as COCO has them."""
    files = {}
    x0, y0, x1, y1 = BOX
    for split in ("train", "test"):
        named = [f"{split}/{number}.png" for number in range(2)]
        files |= pictures(*named)
        rows = [
            {"id": number, "file_name": name, "width": 24, "height": 20}
            for number, name in enumerate(named)
        ]
        boxes = [
            {
                **{"id": 2 * number + kind, "image_id": number, "category_id": kind},
                **{"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 304.0, "iscrowd": kind},
            }
            for number in range(2)
            for kind in range(2)
        ]
        names = [{"id": 0, "name": "ant"}, {"id": 1, "name": "bee"}]
        boxes.append(boxes[1] | {"id": 9, "iscrowd": 0})
        document = {"images": rows, "annotations": boxes, "categories": names}
        place = f"annotations/instances_{split}2017.json"
        files[place] = json.dumps(document).encode()
    return files


CLASSES = tuple(f"class {number}" for number in range(9))


def class_lists():
    """Write which classes are known and unknown: lines, and the published form."""
    by_level = {"Easy": [5], "Medium": [6], "Hard": ["class 7", "class 8"]}
    published = {
        semantic_shift.KNOWN: list(range(5)),
        semantic_shift.UNKNOWN: by_level,
    }
    return {
        "known.txt": "\n".join(CLASSES[:5]).encode(),
        "unknown.txt": "# ours\n{}\n".format("\n".join(CLASSES[5:])).encode(),
        "unknown.json": json.dumps(published).encode(),
    }


WHOSE = split_files.Whose(
    *(0, "0" * 64, CLASSES[:5], CLASSES[5:], ("a.png", "b.png"), ("msp", "energy"))
)


def open_split():
    scores = {name: [0.5, -0.25] for name in WHOSE.scores}
    kept = {"scores": scores, "is_known": [1.0, 0.0], "right": [1.0, 0.0]}
    kept |= {"measures": {"msp": {"auroc": 1.0}}, "combination": None, "sets": {}}

    def write(root):
        split_files.write(root / "splits" / "000.json", kept, WHOSE)

    return made.folder_of(write)


def rejecter():
    plan = recogniser.Plan(("msp", "energy"), {"energy": {"temperature": 2.0}})
    labels = np.repeat(np.arange(3, dtype=np.int32), 4)
    train = recogniser.Described(made.numbers(12, 8))
    seen = rejecter_file.Seen(
        *("cifar_resnet8", "", "", "0" * 64, "gem", True, 32, 0.875, "bilinear"),
        *(CLASSES[:3], "msp"),
    )
    known = rejection.Rejecter(
        *(plan, train, labels, made.numbers(12, 3), None),
        *({"msp": -0.5, "energy": 1.0}, 0.95),
    )

    def write(root):
        stored = rejecter_file.Stored(seen, known, None)
        rejecter_file.save(root / rejecter_file.FILE, stored)

    return made.folder_of(write)


VARIABLES = {"wsddn": {"kernel": made.numbers(6, 3), "bias": made.numbers(3)}}


def trained_detector():
    whitening = clustering.Whitening(
        *(made.numbers(8), made.numbers(8, 6), np.ones(6, np.float32), 0.9)
    )

    def write(root):
        detector.write(root / detector.FILE, detector.Detector(whitening, VARIABLES))

    return made.folder_of(write)


def stopped_detector():
    return made.folder_of(lambda root: state_file.write(root, 7, VARIABLES))


def kept_maps():
    sizes = np.full((3, 2), 24)
    seen = descriptions.Described(made.numbers(3, 4, 4, 6), np.arange(3), sizes)
    return made.folder_of(lambda root: descriptions.keep(root / "train.npz", seen))


def texts():
    """Write embeddings of texts in the three forms that are read."""

    def write(root):
        arrays = {"embeddings": made.numbers(3, 8), "logit_scale": np.float32(4.6)}
        np.savez(root / "a.npz", **arrays, class_names=np.array(CLASSES[:3]))
        names = {"class_names": json.dumps(CLASSES[:3])}
        arrays = {name: np.asarray(each) for name, each in arrays.items()}
        readers.write_safetensors(root / "b.safetensors", arrays, names)
        np.save(root / "c.npy", arrays["embeddings"])
        (root / "c.txt").write_text("\n".join(CLASSES[:3]))

    return made.folder_of(write)


def onnx():
    """Write a graph of two arrays and a node, by the rules of protocol buffers."""

    def field(number, value):
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    arrays = {b"layer.weight": made.numbers(4, 3), b"layer.bias": made.numbers(4)}
    graph = field(1, field(1, b"layer.weight") + field(3, b"/layer/Gemm"))
    for name, array in arrays.items():
        sides = b"".join(field(1, side) for side in array.shape)
        tensor = sides + field(2, 1) + field(8, name) + field(9, array.tobytes())
        graph += field(5, tensor)
    # A graph of more than 127 bytes has two for its length.
    length = bytes([len(graph) & 127 | 128, len(graph) >> 7])
    head = field(1, 7) + field(2, b"pytorch")
    return {"a.onnx": head + bytes([7 << 3 | 2]) + length + graph}


def given_maps():
    """Write maps of explainers as an evaluation takes them from elsewhere."""

    def write(root):
        np.save(root / "a.npy", made.numbers(7, 7))
        np.savez(root / "b.npz", map=made.numbers(7, 7))
        np.savez_compressed(root / "c.npz", map=np.zeros((40, 50)))

    return made.folder_of(write)

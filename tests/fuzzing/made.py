"""Small valid files of every kind that is read, and what they are known to be."""

import io
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from unlir_jax import adapters
from unlir_jax.evaluation import batch_files
from unlir_jax.features import store
from unlir_jax.few_shot import episode_files
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.runtime import checkpoint
from unlir_jax.storage import files as record
from unlir_jax.weights import exported, readers

GOLDEN = Path(__file__).parents[1] / "golden" / "torch_files"
RANDOM = np.random.default_rng(0)


def folder_of(write):
    """Collect the files that a function writes into a folder."""
    root = Path(tempfile.mkdtemp())
    try:
        write(root)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}
    finally:
        shutil.rmtree(root)


def numbers(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def torch():
    """Take what PyTorch itself has written, in both of its layouts."""
    return {path.name: path.read_bytes() for path in sorted(GOLDEN.glob("*.pth"))}


def npz():
    def write(root):
        arrays = {"a/kernel": numbers(3, 4), "a/bias": numbers(4), "b": np.arange(9)}
        np.savez(root / "plain.npz", **arrays)
        np.savez_compressed(root / "packed.npz", **arrays, zeros=np.zeros((40, 50)))

    return folder_of(write)


def safetensors():
    def write(root):
        arrays = {"a/kernel": numbers(30, 40), "b": np.arange(9), "c": np.zeros((2, 0))}
        arrays |= {"d": np.zeros(70, np.float16), "e": np.ones((3, 3), bool)}
        readers.write_safetensors(root / "w.safetensors", arrays, {"format": "np"})

    return folder_of(write)


DECISION = {"name": "descriptors", "layer": "layer2", "parts": 5}


def finished():
    """Write the weights of a finished training, and what lies beside them."""

    def write(root):
        purpose = exported.Purpose(
            *("cifar_resnet8", ("ant", "bee"), 32, 0.875, DECISION, "bicubic"),
            mean=(0.5, 0.5, 0.5),
            deviation=(0.2, 0.2, 0.2),
        )
        path = exported.write(root, {"params/a": numbers(3, 4)}, purpose)
        known = {"weights_sha256": readers.sha256(path), "config": SETTINGS}
        known |= {"test/accuracy": 0.5, "unreadable": {"train": [], "test": []}}
        record.write_text(root / "summary.json", record.to_json(known))
        record.write_text(root / "config.json", record.to_json(SETTINGS))

    return folder_of(write)


SETTINGS = {
    "seed": 0,
    "model": {"name": "cifar_resnet8", "decision": {"name": ""}},
    "data": {"path": "x", "options": {"holdout": 0.0}, "threads": 1},
}


def adapter():
    def write(root):
        for name, head_type in (("a", "float16"), ("b", "int8")):
            adapters.save(
                root / f"{name}.safetensors",
                {"layer2/conv/output": 1 + 0.1 * numbers(16)},
                backbone="cifar_resnet8",
                fingerprint="0" * 64,
                head={"kernel": numbers(16, 3), "bias": numbers(3)},
                metadata={"class_names": ["a", "b", "c"], "image_size": 32},
                head_type=head_type,
            )

    return folder_of(write)


def gallery():
    region = {"picture": "a.png", "index": 0, "score": 0.5, "box": [0, 0, 8, 8]}
    added = {"contribution": 1.0}
    part = {"part": 0, "share": 0.5, "strength": 1.0, "keypoint": None}
    part |= {"classes": [added | {"class": 0}], "regions": [region | {"label": 0}]}
    category = {"class": 0, "pictures": 1, "regions": [region]}
    category["parts"] = [added | {"part": 0, "regions": [region]}]
    document = {"schema": part_gallery.SCHEMA, "classes": ["ant"], "pictures": 1}
    document["centres"] = {"rows": [4.0], "columns": [4.0]}
    document |= {"parts": [part], "categories": [category]}
    return folder_of(lambda root: part_gallery.write(root, document))


def report():
    files = ["results.json", "report.html", "a__sheet.png"]
    document = {"schema": 1, "files": files}

    def write(root):
        record.write_text(root / "results.json", record.to_json(document))
        record.write_text(root / "report.html", "<p>x</p>")

    return folder_of(write)


ORIGIN = {
    "weights": {"model": "0" * 64},
    "data": {
        "train": {
            **{"examples": 2, "names": "1" * 64, "classes": "2" * 64},
            **{"labels": "3" * 64, "sizes": "4" * 64, "times": "5" * 64},
            "listed": {"names": ["a", "b"], "labels": [0, 1], "sizes": [9, 9]},
        }
    },
}


def origin():
    def write(root):
        record.write_text(root / "began_with.json", record.to_json(ORIGIN))
        record.write_text(root / "config.json", "{}")

    return folder_of(write)


WHOSE = batch_files.Whose(
    weights={"model": "0" * 64},
    methods=("grad_cam", "random"),
    metrics=("average_drop",),
    curves=("insertion",),
    names=("a.png", "b.png", "c.png"),
    labels=np.array([0, 1, 2]),
    batch_size=3,
)


def batch():
    rows = batch_files.Rows(
        index=np.array([0, 2]),
        label=np.array([0, 2]),
        predicted=np.array([0, 1]),
        probability=np.array([0.5, 0.25], np.float32),
        values=numbers(2, 2, 1),
        flat=np.zeros((2, 2), bool),
        nearly_flat=np.zeros((2, 2), np.int8),
        curves={"insertion": numbers(2, 2, 5)},
        unreadable=np.array([1]),
    )
    return {"00000.npz": batch_files.encode(rows, WHOSE)}


OF_DRAW = episode_files.Whose(0, "0" * 64, ["ant", "bee"], ["a.png", "b.png"], 4)


def draw():
    kept = {"accuracy": 0.75, "loss": 1.0, "seconds": 0.5, "trained_parameters": 9}
    kept |= {"right": [1, 1, 1, 0]}

    def write(root):
        episode_files.write(root / "draws" / "000.json", kept, OF_DRAW)

    files = folder_of(write)
    return {"draws/000.json": files["draws/000.json"]}


FEATURES = {"format": 1, "network": "x", "weights": "0" * 64}
PARTS, SIZE = ("features", "label", "weight"), 6


def rows():
    yield {
        "features": np.arange(SIZE * 8, dtype=np.float32).reshape(SIZE, 1, 1, 8),
        "label": np.arange(SIZE, dtype=np.int32),
        "weight": np.ones(SIZE, np.float32),
        "index": np.arange(SIZE),
    }


def features():
    def write(root):
        final = root / "kept"
        store.rows_done(final, FEATURES, PARTS, SIZE)
        store.write(rows(), final, PARTS, 0, SIZE, lambda share: None)
        store.publish(final, FEATURES)

    return folder_of(write)


STATE = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.arange(5)}
NOTES = {"train": {"loss": 1.0}, "means": None}


def checkpoints():
    def write(root):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manager = checkpoint.open_manager(root / "checkpoints")
            checkpoint.save(manager, 3, STATE, NOTES)
            checkpoint.finish(manager)
            manager.close()

    return folder_of(write)


def metrics():
    rows = [{"step": step, "train/loss": 1.5 / step} for step in range(1, 9)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return {"metrics.jsonl": text.encode()}


def picture(width=24, height=20, seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def table():
    """Write a folder of pictures with classes, boxes, masks and keypoints."""
    index = "path,class,split,x0,y0,x1,y1,mask\n"
    points = "path,eye_x,eye_y,eye_vis\n"
    files = {}
    for number, split in enumerate(("train", "train", "test", "test")):
        name = f"{number}.png"
        files[f"images/{name}"] = encoded(picture(), "PNG")
        mask = Image.fromarray(np.eye(20, 24, dtype=np.uint8) * 255)
        files[f"m/{name}"] = encoded(mask, "PNG")
        kind = "ant" if number % 2 else "bee"
        index += f"images/{name},{kind},{split},1,2,20,18,m/{name}\n"
        points += f"images/{name},3,4,1\n"
    return files | {"index.csv": index.encode(), "parts.csv": points.encode()}


def arrays():
    def write(root):
        images = RANDOM.integers(0, 256, (6, 8, 8, 3), np.uint8)
        known = {"images": images, "labels": np.array([0, 1] * 3)}
        known["split"] = np.array(["train", "train", "test"] * 2)
        np.savez(root / "a.npz", **known, classes=np.array(["ant", "bee"]))
        shares = (images / 255).astype(np.float32)
        np.savez_compressed(root / "b.npz", **known | {"images": shares})

    return folder_of(write)

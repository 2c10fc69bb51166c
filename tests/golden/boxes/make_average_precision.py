"""Write pycocotools.npz next to this file: average precision by pycocotools.

    python make_average_precision.py

README.md names the versions. Coordinates are quarters, so that overlaps are exact, and
many scores are equal. `recalls` has 1 to 99 of 100 objects found, and other recalls that
are exactly a threshold.
"""

import contextlib
import io
import pathlib

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HERE = pathlib.Path(__file__).parent
CLASSES = 4


def made(seed: int, images: int, crowds: float, boxes: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(images):
        for _ in range(random.integers(0, 5)):
            start, side = random.integers(0, 200, 2), random.integers(20, 120, 2)
            label, crowd = random.integers(0, CLASSES - 1), random.random() < crowds
            true = np.concatenate([start, start + side]) / 4
            objects.append([image, *true, label, crowd])
            for _ in range(random.integers(0, 4)):
                moved = true + random.integers(-20, 21, 4) / 4
                moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
                wrong = random.random() < 0.2
                label_found = random.integers(0, CLASSES) if wrong else label
                found.append([image, *moved, label_found, round(random.random(), 1)])
    for _ in range(boxes):
        start, side = random.integers(0, 200, 2), random.integers(4, 120, 2)
        label, score = random.integers(0, CLASSES), round(random.random() / 2, 2)
        found.append([0, *(start / 4), *((start + side) / 4), label, score])
    return {"objects": np.asarray(objects), "found": np.asarray(found)}


def exact_recall(count: int, hits: int) -> dict[str, np.ndarray]:
    objects = [[place, 0, 0, 4, 4, 0, 0] for place in range(count)]
    found = []
    for place in range(hits):
        found.append([place, 0, 0, 4, 4, 0, 1 - place / count])
        found.append([place, 20, 20, 24, 24, 0, 1 - (place + 0.5) / count])
    return {"objects": np.asarray(objects, float), "found": np.asarray(found, float)}


def judged(objects: np.ndarray, found: np.ndarray, images: int) -> np.ndarray:
    def rows(table: np.ndarray, last: str) -> list[dict]:
        return [
            {
                "id": number + 1,
                "image_id": int(row[0]),
                "category_id": int(row[5]),
                "bbox": [row[1], row[2], row[3] - row[1], row[4] - row[2]],
                "area": (row[3] - row[1]) * (row[4] - row[2]),
                last: int(row[6]) if last == "iscrowd" else row[6],
            }
            for number, row in enumerate(table)
        ]

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(CLASSES)],
        "annotations": rows(objects, "iscrowd"),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        task = COCOeval(truth, truth.loadRes(rows(found, "score")), "bbox")
        task.evaluate()
        task.accumulate()
    # Overlaps, recalls, classes, the area "all", 100 detections.
    precision = task.eval["precision"][:, :, :, 0, -1]
    return np.where((precision == -1).all(1), np.nan, precision.mean(1))


def main() -> None:
    cases = {
        "plain": (made(0, 12, 0.0, 0), 12),
        "crowds": (made(1, 12, 0.3, 30), 12),
        "many": (made(2, 6, 0.1, 900), 6),
    }
    stored = {}
    for name, (case, images) in cases.items():
        stored |= {f"{name}/{key}": value for key, value in case.items()}
        stored[f"{name}/precision"] = judged(**case, images=images)
    pairs = [(100, hits) for hits in range(1, 100)]
    pairs += [(count, hits) for count in (28, 35, 57) for hits in range(1, count + 1)]
    values = [judged(**exact_recall(*pair), images=pair[0])[0, 0] for pair in pairs]
    stored |= {"recalls/pairs": np.asarray(pairs), "recalls/precision": values}
    np.savez_compressed(HERE / "pycocotools.npz", **stored)


if __name__ == "__main__":
    main()

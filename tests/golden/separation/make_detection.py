"""Write scikit_learn.npz next to this file: areas and rates by scikit-learn.

    python make_detection.py

README.md names the versions. Scores are rounded in some cases, so that many are equal.
"""

import pathlib

import numpy as np
from sklearn import metrics

HERE = pathlib.Path(__file__).parent
CASES = {"apart": None, "tied": 0, "tenths": 1}


def made(name: str, digits: int | None, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    positive = random.normal(1.0, 1.0, 137)
    negative = random.normal(0.0, 1.5, 211)
    if digits is not None:
        positive, negative = positive.round(digits), negative.round(digits)
    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    scores = np.r_[positive, negative]
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    found = {
        "positive": positive,
        "negative": negative,
        "auroc": metrics.roc_auc_score(truth, scores),
        "average_precision": metrics.average_precision_score(truth, scores),
        "precision_area": metrics.auc(recall, precision),
        "false_positive_rate": false[np.argmax(true >= 0.95)],
    }
    return {f"{name}/{key}": np.asarray(value) for key, value in found.items()}


def main() -> None:
    found = {}
    for seed, (name, digits) in enumerate(CASES.items()):
        found |= made(name, digits, seed)
    np.savez_compressed(HERE / "scikit_learn.npz", **found)


if __name__ == "__main__":
    main()

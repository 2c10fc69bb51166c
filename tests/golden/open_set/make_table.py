"""Write table.npz next to this file: stored logits, and the table that they give.

    python make_table.py LOGITS

LOGITS is an .npz file with `logits` [images, classes] and `labels` [images], which are
-1 for images of unknown classes. Scores are written down here once more, in NumPy
alone; areas and rates are scikit-learn's. README.md names the versions.
"""

import pathlib
import sys

import numpy as np
from sklearn import metrics

HERE = pathlib.Path(__file__).parent


def scores(logits):
    top = logits.max(1)
    exponentials = np.exp(logits - top[:, None])
    sums = exponentials.sum(1)
    shares = exponentials / sums[:, None]
    logs = logits - top[:, None] - np.log(sums)[:, None]
    yield "msp", shares.max(1)
    yield "max_logit", top
    yield "energy", top + np.log(sums)
    yield "entropy", (shares * logs).sum(1)
    yield "gen", -((shares * (1 - shares)) ** 0.1).sum(1)


def rate(positive, score):
    """Give the false positives at the highest threshold with 95 % of the positives."""
    false, true, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    return false[np.argmax(true >= 0.95)]


def row(known, right, score):
    precision, recall, _ = metrics.precision_recall_curve(known, score)
    turned, recalled, _ = metrics.precision_recall_curve(~known, -score)
    yield "auroc", metrics.roc_auc_score(known, score)
    yield "fpr95", rate(known, score)
    yield "fpr95_openood", rate(~known, -score)
    yield "aupr_in", metrics.average_precision_score(known, score)
    yield "aupr_out", metrics.average_precision_score(~known, -score)
    yield "aupr_in_trapezoid", metrics.auc(recall, precision)
    yield "aupr_out_trapezoid", metrics.auc(recalled, turned)
    # Pairs of a known and right image and an unknown one, among all pairs.
    pairs = np.sign(score[known & right][:, None] - score[~known]) / 2 + 0.5
    yield "oscr", pairs.sum() / known.sum() / (~known).sum()


given = np.load(sys.argv[1])
logits, labels = given["logits"].astype(np.float16), given["labels"].astype(np.int16)
wide = logits.astype(np.float64)
known = labels >= 0
right = wide.argmax(1) == labels
found = {
    f"{name}/{measure}": value
    for name, score in scores(wide)
    for measure, value in row(known, right, score)
}
found["accuracy"] = right[known].mean()
np.savez_compressed(HERE / "table.npz", logits=logits, labels=labels, **found)

"""Write scores.npz next to this file: scores by pytorch-ood and scikit-learn.

    python make_open_set.py

README.md names the versions. pytorch-ood gives scores that are high for unknown images;
here their sign is turned. Its arithmetic is that of float32.
"""

import pathlib

import numpy as np
import torch
from pytorch_ood import detector
from pytorch_ood.detector.ash import ash_b, ash_p, ash_s
from pytorch_ood.detector.scale import scale
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

HERE = pathlib.Path(__file__).parent
IMAGES, TESTS, CHANNELS, CLASSES = 120, 30, 24, 4
torch.set_num_threads(1)


def made():
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    centres = random.normal(0, 1.0, (CLASSES, CHANNELS))
    mixing = random.normal(0, 0.3, (CHANNELS, CHANNELS)) + np.eye(CHANNELS)
    train = np.maximum(
        centres[labels] + random.normal(0, 1, (IMAGES, CHANNELS)) @ mixing, 0
    )
    known = centres[np.arange(TESTS) % CLASSES]
    known[TESTS // 2 :] = random.normal(0, 1.5, (TESTS - TESTS // 2, CHANNELS))
    test = np.maximum(known + random.normal(0, 1, (TESTS, CHANNELS)) @ mixing, 0)
    kernel = (centres / 4).T
    bias = random.normal(0, 0.5, CLASSES)
    found = {
        "train": train,
        "labels": labels,
        "test": test,
        "kernel": kernel,
        "bias": bias,
    }
    return {
        key: np.asarray(v, np.float32 if v.dtype != int else v.dtype)
        for key, v in found.items()
    }


def of_logits(train, test, labels):
    d = detector
    yield "msp", -d.MaxSoftmax.score(test)
    yield "max_logit", -d.MaxLogit.score(test)
    yield "energy", -d.EnergyBased.score(test)
    yield "energy 2", -d.EnergyBased.score(test, t=2.0)
    yield "entropy", -d.Entropy.score(test)
    # It takes the mean of the terms, the paper their sum.
    yield "gen", -d.GEN.score(test, gamma=0.1) * test.shape[1]
    yield "gen 2", -d.GEN.score(test, gamma=0.1, M=2) * 2
    yield (
        "kl_matching",
        -d.KLMatching(None).fit_logits(train, labels).predict_logits(test),
    )


def of_features(train, test, labels, head):
    d, weight, bias = detector, head.weight, head.bias
    vim = d.ViM(None, d=8, w=weight, b=bias).fit_features(train, labels)
    yield "vim", -vim.predict_features(test)
    guided = d.NNGuide(None, head, k=10).fit_features(train, labels)
    yield "nnguide", -guided.predict_features(test)
    bounds = d.fDBD(None, head).fit_features(train, labels)
    yield "fdbd", -bounds.predict_features(test)
    react = d.ReAct(None, head, percentile=0.9).fit_feature_maps(train, labels)
    yield "react", -react.predict_feature_maps(test)
    maps = test[:, :, None, None]
    shaped = {"scale": scale, "ash s": ash_s, "ash p": ash_p, "ash b": ash_b}
    for name, shape in shaped.items():
        yield name, -d.EnergyBased.score(head(shape(maps.clone(), 0.75)[:, :, 0, 0]))


def main() -> None:
    given = made()
    head = torch.nn.Linear(CHANNELS, CLASSES)
    head.weight.data = torch.from_numpy(given["kernel"].T.copy())
    head.bias.data = torch.from_numpy(given["bias"])
    train, test = torch.from_numpy(given["train"]), torch.from_numpy(given["test"])
    labels = torch.from_numpy(given["labels"])
    with torch.no_grad():
        found = dict(of_logits(head(train), head(test), labels))
        found |= dict(of_features(train, test, labels, head))
    rows = given["train"].astype(float)
    unit = [
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (rows, given["test"].astype(float))
    ]
    apart, _ = NearestNeighbors(n_neighbors=5).fit(unit[0]).kneighbors(unit[1])
    found["knn"] = -apart[:, -1]
    scaled = (rows - rows.mean(0)) / rows.std(0)
    means = np.stack([scaled[given["labels"] == c].mean(0) for c in range(CLASSES)])
    found["ledoit_wolf"], _ = ledoit_wolf(
        scaled - means[given["labels"]], assume_centered=True
    )
    np.savez_compressed(
        HERE / "scores.npz", **given, **{k: np.asarray(v) for k, v in found.items()}
    )


if __name__ == "__main__":
    main()

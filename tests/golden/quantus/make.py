"""Make `quantus.npz`: metrics of Quantus 0.6.0 on a linear network, in torch.

pip install quantus==0.6.0 torch
python make.py
"""

from pathlib import Path

import numpy as np
import quantus
import torch

SIDE, CLASSES, COUNT, REGIONS = 8, 3, 5, 8
STEP = SIDE**2 // REGIONS


def main():
    random = np.random.default_rng(0)
    images = random.random((COUNT, 1, SIDE, SIDE)).astype(np.float32)
    # Quantus takes the least value of an image for black.
    images[:, 0, 0, 0] = 0
    weights = random.standard_normal((CLASSES, SIDE**2)).astype(np.float32)
    maps = random.standard_normal((COUNT, 1, SIDE, SIDE)).astype(np.float32)
    maps[0, 0, :5] = 0
    labels = random.integers(0, CLASSES, COUNT)
    linear = torch.nn.Linear(SIDE**2, CLASSES, bias=False)
    linear.weight.data = torch.from_numpy(weights)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
    quiet = {"disable_warnings": True, "display_progressbar": False}
    made = {
        "entropy": quantus.Complexity(normalise=False, **quiet),
        "effective_complexity": quantus.EffectiveComplexity(**quiet),
        "monotonicity_correlation": quantus.MonotonicityCorrelation(
            normalise=False,
            nr_samples=1,
            features_in_step=STEP,
            perturb_baseline="black",
            **quiet,
        ),
    }
    found = {
        name: np.asarray(
            metric(
                model=model,
                x_batch=images,
                y_batch=labels,
                a_batch=maps.copy(),
                device="cpu",
                softmax=False,
            ),
            np.float64,
        )
        for name, metric in made.items()
    }
    # Quarters, whose sums are exact: of a complete map, and of one that is not.
    whole = random.integers(0, 4, (2, 1, SIDE, SIDE)).astype(np.float32) / 4
    linear.weight.data = torch.ones(CLASSES, SIDE**2)
    broken = whole.copy()
    broken[1, 0, 0, 0] += 0.25
    found["complete"] = np.asarray(
        quantus.Completeness(normalise=False, **quiet)(
            model=model,
            x_batch=whole,
            y_batch=np.zeros(2, int),
            a_batch=broken,
            device="cpu",
            softmax=False,
        ),
        bool,
    )
    np.savez_compressed(
        Path(__file__).with_name("quantus.npz"),
        images=images,
        weights=weights,
        maps=maps,
        labels=labels,
        whole=whole,
        broken=broken,
        **found,
    )
    print({name: values.tolist() for name, values in found.items()})


if __name__ == "__main__":
    main()

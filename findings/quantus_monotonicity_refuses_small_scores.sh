#!/bin/sh
# quantus' monotonicity correlation refuses a batch with a score below 1e-5 and larger ones.
#
# `MonotonicityCorrelation` scales by the inverse of each score that is at least `eps`
# (1e-5). It assigns the inverses of the whole batch to those places alone, so that NumPy
# refuses the shapes. A probability of an unlikely class is often as small. Source:
# quantus/metrics/faithfulness/monotonicity_correlation.py.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 quantus==0.6.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import numpy as np
import quantus


class Sum:
    """A network whose score is the sum of the pixels."""

    def predict(self, x, **more):
        return x.reshape(len(x), -1).sum(1, keepdims=True)

    def shape_input(self, x, *more, **further):
        return x


random = np.random.default_rng(0)
images, maps = random.random((2, 3, 1, 4, 4))
images[:, 0, 0, 0] = 0
metric = quantus.MonotonicityCorrelation(
    nr_samples=1, perturb_baseline="black", disable_warnings=True
)


def measured(shown):
    return metric.evaluate_batch(Sum(), shown, np.zeros(len(shown), int), maps)


print("quantus", importlib.metadata.version("quantus"), "numpy", np.__version__)
print("three images:", measured(images))
images[1] *= 1e-7  # Its score is about 1e-6.
try:
    print("one of them dark:", measured(images))
    refused = False
except ValueError as error:
    print("one of them dark:", error)
    refused = "cannot assign 3 input values to the 2 output values" in str(error)
print("refused" if refused else "the behaviour has changed")
raise SystemExit(0 if refused else 1)
PYTHON

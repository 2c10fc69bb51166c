#!/bin/sh
# `scipy.stats.wilcoxon(method="exact")` is not exact where differences are tied.
#
# It counts the ranks 1 … n also where ranks are shared, so that p may be too small:
# 0.09375 for six differences of which all 64 signs give 0.125. `method="auto"` counts
# the signs up to 13 differences in SciPy 1.18, and did not in 1.14; beyond, it takes the
# normal. `PermutationMethod` counts at every n that it is given resamples for.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy scipy==1.18.1
"$folder/venv/bin/python" - <<'PYTHON'
import itertools

import numpy as np
import scipy
from scipy import stats

differences = np.array([1, 1, 2, -1, 3, 4.0])
ranks = stats.rankdata(np.abs(differences))
middle = ranks.sum() / 2
far = abs(ranks[differences > 0].sum() - middle)
signs = itertools.product((0, 1), repeat=6)
counted = np.mean([abs(np.dot(some, ranks) - middle) >= far for some in signs])
found = {
    name: float(stats.wilcoxon(differences, method=method).pvalue)
    for name, method in (
        ("exact", "exact"),
        ("auto", "auto"),
        ("permutation", stats.PermutationMethod(n_resamples=64)),
    )
}
print("scipy", scipy.__version__)
print("all 64 signs:", counted, "|", found)
same = counted == 0.125 and found["exact"] == 0.09375 and found["permutation"] == 0.125
print("exact is not" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

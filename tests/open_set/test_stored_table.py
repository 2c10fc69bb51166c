"""A whole table from stored logits, as another library gives it.

Who gets other figures than the published ones can tell here whether the scores and
measures of this installation are the reason.
"""

from pathlib import Path

import numpy as np
import pytest

from unlir_jax.open_set import measures, scores

STORED = np.load(Path(__file__).parents[1] / "golden" / "open_set" / "table.npz")
NAMES = "msp", "max_logit", "energy", "entropy", "gen"


@pytest.mark.parametrize("name", NAMES)
def test_stored_logits_give_the_stored_row_of_the_table(name):
    logits, labels = STORED["logits"].astype(np.float64), STORED["labels"]
    known = labels >= 0
    right = logits.argmax(1) == labels
    assert right[known].mean() == pytest.approx(float(STORED["accuracy"]), abs=1e-12)
    score = scores.SCORES[name](None)
    found = measures.measure(score.score((), logits, logits), known, right)
    compared = [measure for measure in found if f"{name}/{measure}" in STORED]
    assert len(compared) == 8
    for measure in compared:
        expected = float(STORED[f"{name}/{measure}"])
        # `msp` is a logarithm, which keeps apart what a probability rounds together.
        assert found[measure] == pytest.approx(expected, abs=1e-9), measure

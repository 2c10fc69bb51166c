"""Boxes that vote for each other's place, against a loop."""

import numpy as np
import pytest

from unlir_jax import detection


def slow(boxes, scores, threshold):
    overlaps = np.asarray(detection.overlaps(boxes, boxes))
    found = np.zeros((*scores.shape, 4))
    for row in range(len(boxes)):
        for label in range(scores.shape[1]):
            near = overlaps[row] >= threshold
            weights = scores[near, label]
            mean = boxes[row]
            if weights.sum() > 0:
                mean = (weights[:, None] * boxes[near]).sum(0) / weights.sum()
            found[row, label] = mean
    return found


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_votes_are_means_by_score(threshold):
    random = np.random.default_rng(3)
    start = random.uniform(0, 5, (20, 2))
    boxes = np.concatenate([start, start + random.uniform(2, 5, (20, 2))], 1)
    boxes, scores = boxes.astype(np.float32), random.random((20, 3)).astype(np.float32)
    scores[:, 2] = 0
    found = np.asarray(detection.vote(boxes, scores, threshold=threshold))
    np.testing.assert_allclose(found, slow(boxes, scores, threshold), rtol=1e-5)


def test_a_threshold_that_is_no_overlap_is_refused():
    with pytest.raises(ValueError, match="`threshold`=0.0; expected a value in"):
        detection.vote(np.ones((1, 4)), np.ones((1, 1)), threshold=0.0)

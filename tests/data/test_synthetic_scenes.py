"""Scenes of several animals: boxes, classes, and what they depend on."""

import numpy as np
import pytest

from unlir_jax.data import synthetic_parts, synthetic_scenes

SCENES = [synthetic_scenes.draw_scene("train", index) for index in range(12)]


def test_boxes_lie_in_the_image_and_do_not_meet():
    counts = {len(scene.boxes) for scene in SCENES}
    assert counts == {1, 2, 3}
    for scene in SCENES:
        assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
        assert len(scene.labels) == len(scene.boxes)
        covered = np.zeros((96, 96), int)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1


def test_all_that_was_drawn_on_the_ground_lies_in_the_boxes():
    table = synthetic_parts.classes(8, 4, 0)
    for index, scene in enumerate(SCENES[:4]):
        ground = synthetic_parts.draw(
            (0, 3, 0, index, 0),
            table[0],
            image_size=96,
            without=synthetic_parts.PARTS,
        )
        changed = (scene.image != ground.image).any(-1)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            inside = changed[y0:y1, x0:x1]
            # The box is as small as it can be, but for a pixel of the ground's colour.
            assert inside.any(0).mean() > 0.9 and inside.any(1).mean() > 0.9
            inside[:] = False
        assert not changed.any()


def test_classes_differ_in_every_part():
    for seed in range(5):
        table = synthetic_parts.classes(8, 4, seed)[: synthetic_scenes.CLASSES]
        assert all(len(set(column)) == 4 for column in table.T)


def test_a_scene_depends_on_its_split_index_and_seed_alone():
    again = synthetic_scenes.draw_scene("train", 5)
    for one, other in zip(again, SCENES[5], strict=True):
        np.testing.assert_array_equal(one, other)
    for other in (
        synthetic_scenes.draw_scene("test", 5),
        synthetic_scenes.draw_scene("train", 6),
        synthetic_scenes.draw_scene("train", 5, seed=1),
    ):
        assert (other.image != again.image).any()
    few = [synthetic_scenes.draw_scene("train", i, classes=2, most=1) for i in range(9)]
    assert {int(label) for scene in few for label in scene.labels} == {0, 1}
    assert all(len(scene.boxes) == 1 for scene in few)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"split": "tests"}, "`split`='tests'"),
        ({"index": -1}, "`index`=-1"),
        ({"image_size": 16}, "`image_size`=16"),
        ({"classes": 5}, "`classes`=5"),
        ({"most": 0}, "`most`=0"),
    ],
)
def test_wrong_settings_of_scenes_are_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        synthetic_scenes.draw_scene(**({"split": "train", "index": 0} | change))

"""What a report says of scores."""

from unlir_jax.report import words


def row(insertion, deletion, flat=False, nearly=False):
    scores = {"insertion": insertion, "deletion": deletion}
    return scores | {"flat": flat, "nearly_flat": flat or nearly}


CONTROLS = {"center": row(0.5, 0.3), "edges": row(0.2, 0.1)}


def test_nothing_to_say_where_the_controls_are_beaten():
    assert words.warnings({"grad_cam": row(0.6, 0.05)}, CONTROLS) == []
    assert words.warnings({"grad_cam": row(0.1, 0.9)}, {}) == []


def test_each_metric_has_its_own_strongest_control():
    methods = {"grad_cam": row(0.4, 0.2), "opti_cam": row(0.5, 0.01)}
    assert words.warnings(methods, CONTROLS) == [
        "On insertion, Grad-CAM (40.0) and Opti-CAM (50.0) do not beat Centre (50.0), "
        "which is computed without the network.",
        "On deletion, Grad-CAM (20.0) does not beat Edges (10.0), which is "
        "computed without the network.",
    ]


def test_controls_asked_for_still_count_as_controls():
    found = words.warnings({"cam": row(0.4, 0.0), "center": row(0.5, 0.3)}, {})
    assert len(found) == 1
    assert "CAM (40.0) does not beat Centre (50.0)" in found[0]


def test_a_flat_map_is_said_once():
    found = words.warnings({"grad_cam": row(0.1, 0.9, flat=True)}, CONTROLS)
    assert len(found) == 1
    assert found[0].startswith("Grad-CAM gave a flat map")


def test_a_nearly_flat_mask_is_said_of_methods_only():
    methods = {"occlusion": row(0.6, 0.05, nearly=True)}
    methods["fake_cam"] = row(0.1, 0.9, nearly=True)
    assert words.warnings(methods, {}) == [
        "The mask of Occlusion is nearly flat (deciles less than 0.1 apart): its "
        "average drop and gain say nothing."
    ]


def test_a_class_that_is_not_there_has_no_scores_to_compare():
    found = words.warnings({"grad_cam": row(0.0, 0.0)}, CONTROLS, probability=0.0001)
    assert len(found) == 1
    assert "next to no probability" in found[0]


def test_better_compares_what_is_printed():
    assert words.better("insertion", 0.502, 0.501)
    assert not words.better("insertion", 0.50101, 0.501)
    assert words.better("deletion", 0.1, 0.2)
    assert not words.better("insertion", float("nan"), 0.1)
    assert words.better("deletion", 0.9, float("nan"))


def test_best_is_marked_only_where_there_is_a_difference():
    same = {"a": row(0.5, 0.3), "b": row(0.50001, 0.2)}
    assert words.best("insertion", same) == []
    assert words.best("deletion", same) == ["b"]


def test_percent():
    assert words.percent(0.12345) == "12.3"
    assert words.percent(None) == words.percent(float("nan")) == "–"


def test_abbreviations_stay_within_a_sentence():
    titles = ("Average drop", "MaxBoxAccV2", "IoU at the best threshold", "CorLoc", "")
    assert [words.within(title) for title in titles] == ["average drop", *titles[1:]]

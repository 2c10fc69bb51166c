"""What a figure stands for, and whether rankings depend on the baseline."""

import inspect
import json

import numpy as np
import pytest

from unlir_jax import metrics
from unlir_jax.metrics import spec

TERMS = {
    *("metric", "mask_space", "score", "baseline", "ties", "normalization"),
    *("flat_map", "void", "unbounded", "signs", "resize"),
    *("higher_is_better", "settings"),
}


def test_every_metric_has_a_direction_a_sentence_and_a_contract():
    assert {*metrics.FACTORIES, "pxap", "ssim"} <= set(metrics.HIGHER_IS_BETTER)
    for name, factory in metrics.FACTORIES.items():
        assert factory is getattr(metrics, name)
        assert factory.__doc__.splitlines()[0].endswith((".", "`.", ": 1 or 0."))
        found = metrics.contract(name)
        assert set(found) == TERMS
        assert json.loads(json.dumps(found)) == found
        assert all(found[term] not in ("", None) for term in TERMS)
        assert "{" not in json.dumps({**found, "settings": 0})[1:-1]


def test_every_setting_that_changes_a_value_is_told():
    for name, factory in metrics.FACTORIES.items():
        own = {
            setting.name
            for setting in inspect.signature(factory).parameters.values()
            if setting.kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert set(metrics.contract(name)["settings"]) == own - {"loop"}


def test_settings_change_the_contract():
    found = metrics.contract("insertion", {"baseline": "mean", "steps": 7})
    assert found["baseline"] == "mean"
    assert found["settings"] == {"baseline": "mean", "steps": 7, "score": "softmax"}
    assert metrics.contract("insertion")["baseline"] == "blur"
    found = metrics.contract("aopc_morf", {"score": "logit"})
    assert found["score"] == "logit of the label"
    found = metrics.contract("road", {"percentiles": (5, 10)})
    assert found["settings"]["percentiles"] == [5, 10]
    assert metrics.contract("deletion@mean")["baseline"] == "mean"
    found = metrics.contract("random_labels@hog")
    assert found["score"].startswith("hog of the map")
    assert metrics.contract("road", {"loop": "host"}) == metrics.contract("road")


def test_the_contract_says_what_becomes_of_signs():
    masking = {name for name in metrics.FACTORIES if "signs" in spec.defaults(name)}
    averages = {f"average_{each}" for each in ("drop", "increase", "gain")}
    assert masking == {*averages, "coherency", "adcc", "complexity"}
    for name in masking:
        found = metrics.contract(name, {"signs": "abs"})
        assert found["signs"].startswith("abs where") and metrics.contract(name)[
            "settings"
        ]["signs"] == ("relu")
    for name in ("insertion", "deletion", "road", "pointing_game"):
        assert metrics.contract(name)["signs"] == "kept: they rank below zero"
    assert "signed means" in metrics.contract("aopc_morf")["signs"]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="average_drop, average_increase"):
        metrics.contract("accuracy")
    with pytest.raises(ValueError, match="baseline, steps"):
        metrics.contract("insertion", {"step": 3})
    with pytest.raises(ValueError, match="'accuracy' is no metric"):
        metrics.higher_is_better("accuracy")
    with pytest.raises(ValueError, match="'road' has no variants; .* insertion, "):
        spec.variant("road@mean")


def table(rng, means):
    noise = rng.normal(size=50)
    return {name: (mean + noise).tolist() for name, mean in means.items()}


def test_rankings_that_stay_and_rankings_that_turn():
    random = np.random.default_rng(0)
    scores = {
        "black": table(random, {"a": 3, "b": 2, "c": 1}),
        "mean": table(random, {"a": 9, "b": 8, "c": 7}),
    }
    found = metrics.baseline_sensitivity(scores)
    assert found.lowest == 1 and found.reversals == 0 and found.always_first == "a"
    assert metrics.baseline_sensitivity(
        scores, higher_is_better=False
    ).always_first == ("c")
    scores["blur"] = table(random, {"c": 5, "a": 4, "b": 3})
    found = metrics.baseline_sensitivity(scores)
    # Ranks 3, 2, 1 against 2, 1, 3: 1 - 6 * 6 / 24.
    np.testing.assert_allclose(found.agreement[0, 2], -0.5)
    np.testing.assert_allclose(found.agreement, found.agreement.T)
    assert found.lowest == pytest.approx(-0.5) and found.always_first == ""
    # The pairs (a, c) and (b, c) turn, (a, b) does not.
    assert found.reversals == pytest.approx(2 / 3)
    expected = [[np.mean(scores[b][m]) for m in "abc"] for b in scores]
    np.testing.assert_allclose(found.means, expected)


def test_tables_that_do_not_compare_are_refused():
    good = {"a": [1.0, 2.0], "b": [0.0, 1.0]}
    with pytest.raises(ValueError, match="two or more"):
        metrics.baseline_sensitivity({"black": good})
    with pytest.raises(ValueError, match="as for 'black'"):
        metrics.baseline_sensitivity({"black": good, "mean": {"a": [1.0, 2.0]}})
    with pytest.raises(ValueError, match="same images"):
        metrics.baseline_sensitivity({"black": good, "mean": good | {"a": [1.0]}})
    with pytest.raises(ValueError, match="not finite"):
        metrics.baseline_sensitivity({"black": good, "mean": good | {"a": [1, np.nan]}})

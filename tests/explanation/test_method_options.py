"""Settings of single methods, from a command line to the report."""

import json

import pytest
import small_network
from PIL import Image

from unlir_jax import cli
from unlir_jax.explanation import explainers, method_options

ACCEPTED = {
    "opti_cam.steps=50": 50,
    "rise.masks=200": 200,
    "opti_cam.learning_rate=1": 1.0,
    "grad_cam.rectify=false": False,
    "integrated_gradients.baseline=blur": "blur",
    "lime.kind='grid'": "grid",
    "ablation_cam.division=none": "none",
    "occlusion.window=none": None,
    "occlusion.window=[8, 4]": (8, 4),
    "extremal_perturbation.areas=[0.1, 1]": (0.1, 1.0),
    "gradient.score=[1, 2]": (1, 2),
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_value_becomes_the_type_of_its_setting(text):
    ((method, own),) = method_options.parse([text]).items()
    (found,) = method_options.checked(method, own).values()
    assert found == ACCEPTED[text] and type(found) is type(ACCEPTED[text])


REFUSED = {
    "opti_cam.steps": "expected METHOD.SETTING=VALUE",
    "steps=5": "expected METHOD.SETTING=VALUE",
    "opti_cam.step=5": "did you mean 'steps'\\? its settings: steps=100, learning_rate",
    "opti_cam.steps=5.5": "steps=5.5; expected a whole number, such as .* 100",
    "opti_cam.steps=true": "expected a whole number",
    "opti_cam.steps=9000000000": "expected a whole number",
    "opti_cam.learning_rate=1e400": "expected a number",
    "opti_cam.loop=hots": "'hots'; expected one of 'auto', 'host', 'device'",
    "grad_cam.rectify=1": "rectify=1; expected true or false",
    "occlusion.window=(1, 2, 3)": "a whole number or 2 numbers in a list or none",
    "center.width=3": "its settings: none",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_fits_no_setting_is_a_sentence(text):
    with pytest.raises(ValueError, match=REFUSED[text]) as error:
        for method, own in method_options.parse([text]).items():
            method_options.checked(method, own)
    assert str(error.value).count(". ") == 0


def test_what_configures_no_method_of_the_report_is_refused():
    chosen = ("grad_cam", "opti_cam")
    for text, said in {
        "rise.masks=5": "`set` has rise.masks, but the methods are grad_cam, opti_cam",
        "grad_cm.rectify=true": "did you mean 'grad_cam'",
    }.items():
        with pytest.raises(ValueError, match=said):
            method_options.check_methods(method_options.parse([text]), chosen)
    with pytest.raises(ValueError, match="opti_cam.steps again"):
        method_options.parse(["opti_cam.steps=1", "opti_cam.steps=2"])


def test_a_setting_of_one_method_goes_before_that_of_all():
    both = explainers.settings("rise", 100, "sigmoid", {"steps": 7, "target": "logit"})
    assert (both["masks"], both["score"].name) == (7, "logit")
    assert explainers.settings("rise", 100)["masks"] == 100


def test_settings_reach_the_report(tmp_path, capsys):
    Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "a.png")
    words = ["explain", str(tmp_path / "a.png"), "--model", small_network.NAME]
    words += ["--weights", str(small_network.write(tmp_path)), "--no-controls"]
    words += ["--output", str(tmp_path / "out"), "--method", "gradient"]
    assert cli.main([*words, "--set", "gradient.channels=rgb"]) == 2
    assert "'absolute_sum'" in capsys.readouterr().err
    assert cli.main([*words, "--set", "opti_cam.steps=3"]) == 2
    assert "the methods are gradient" in capsys.readouterr().err
    given = ["--set", "gradient.channels=norm", "--set", "gradient.score=softmax"]
    assert cli.main([*words, *given]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = results["settings"]["hyper_parameters"]["gradient"]
    assert found == {"score": "softmax", "channels": "norm"}

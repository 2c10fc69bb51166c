"""The number of passes has several names, and specs state it in words."""

import inspect

import pytest

from unlir_jax import metrics, saliency, split
from unlir_jax.core import passes
from unlir_jax.evaluation import scorers, setup
from unlir_jax.evaluation import settings as default_settings
from unlir_jax.explanation import explainers
from unlir_jax.runtime import config

MODEL = split.from_functions(
    lambda variables, images: images, lambda variables, maps: maps.mean((1, 2))
)
FACTORIES = saliency.METHODS | metrics.FACTORIES
SPECS = saliency.SPECS | metrics.SPECS
OWN = {
    name: passes.setting(inspect.signature(factory).parameters)
    for name, factory in FACTORIES.items()
}


def test_no_factory_has_two_numbers_of_passes():
    for factory in FACTORIES.values():
        known = inspect.signature(factory).parameters
        assert len({*passes.SPELLINGS} & {*known}) <= 1, factory
    assert {OWN[name] for name in FACTORIES} == {"", *passes.SPELLINGS}


@pytest.mark.parametrize("name", [name for name in saliency.METHODS if OWN[name]])
def test_every_method_takes_every_name(name):
    factory = saliency.METHODS[name]
    first = factory(MODEL, **{OWN[name]: 3})
    for other in passes.SPELLINGS:
        assert factory(MODEL, **{other: 3}) is first
    with pytest.raises(ValueError, match="two names of one setting") as refused:
        factory(MODEL, **dict.fromkeys(("masks", "samples"), 3))
    assert str(refused.value).endswith(f"expected `{OWN[name]}` alone.")


def test_a_metric_takes_every_name_too():
    assert metrics.insertion(MODEL, samples=3) is metrics.insertion(MODEL, steps=3)
    assert metrics.infidelity(MODEL, steps=3) is metrics.infidelity(MODEL, samples=3)


def test_a_method_without_passes_takes_none():
    with pytest.raises(TypeError, match="steps"):
        saliency.grad_cam(MODEL, steps=3)


def test_a_command_sets_the_number_of_every_method():
    for name, own in OWN.items():
        if own and name in saliency.METHODS:
            assert explainers.settings(name, 7)[own] == 7
    assert explainers.check(["grad_cam", "rise"], 7) == ("grad_cam", "rise")
    with pytest.raises(ValueError, match="`steps`=7 is a setting of methods such as"):
        explainers.check(["grad_cam"], 7)


CONFIG = "configs/evaluate.py:methods=rise+smooth_grad,metrics=infidelity"


def test_options_of_an_evaluation():
    overrides = [
        "--config.method_options.rise.steps=5",
        "--config.method_options.smooth_grad={'steps': 6, 'level': 0.1}",
        "metric_options.infidelity.steps=4",
    ]
    found = config.load(CONFIG, default_settings.renamed(overrides))
    chosen = setup._parameters(tuple(found.methods), found.method_options.to_dict())
    assert chosen["rise"]["masks"] == 5 and chosen["smooth_grad"]["samples"] == 6
    assert found.metric_options.infidelity.samples == 4
    # A config file writes what it likes.
    options = {"rise": {"steps": 5}}
    assert setup._parameters(("rise",), options)["rise"]["masks"] == 5
    values = scorers._values(("infidelity",), {"infidelity": {"masks": 2}}, ())
    assert values["infidelity"]["samples"] == 2
    chosen, _ = default_settings.choose(
        "", model="resnet18", methods=("rise",), method_options=options
    )
    assert chosen.method_options.rise.masks == 5


@pytest.mark.parametrize(
    "overrides",
    [
        ["method_options.rise.steps=5", "--config.method_options.rise.masks=5"],
        ["method_options.rise={'steps': 5, 'samples': 5}"],
    ],
)
def test_two_names_in_options_are_refused(overrides):
    with pytest.raises(ValueError, match="`method_options.rise.masks` alone"):
        default_settings.renamed(overrides)


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_can_be_counted(name):
    own = explainers.defaults(name) or scorers.defaults(name)
    sizes = {"filter": 7, "window": 9}
    before = passes.count(SPECS[name].passes, own, sizes)
    assert before is not None
    if OWN[name]:
        more = passes.count(SPECS[name].passes, own | {OWN[name]: 10**6}, sizes)
        assert sum(more) - sum(before) > 10**5


COUNTED = {
    "0": (0, 0, 0, 0),
    "2 forwards and 1 explanation": (2, 0, 0, 1),
    "1 forward, 1 head a filter": (1, 0, 7, 0),
    "1 + `steps` a filter": (22, 0, 0, 0),
    "1 + 1 a window": (10, 0, 0, 0),
    "1 forward + backward": (1, 1, 0, 0),
    "(`steps` + 1) × (forward + backward)": (4, 4, 0, 0),
    "1 + `steps` (100) × (forward + backward)": (4, 3, 0, 0),
    "`areas` (1) × `steps` (800) × (forward + backward)": (6, 6, 0, 0),
    "`steps` (10) explanations": (0, 0, 0, 3),
}


@pytest.mark.parametrize("text", COUNTED)
def test_words_are_counted(text):
    settings, sizes = {"steps": 3, "areas": (0.1, 0.2)}, {"filter": 7, "window": 9}
    assert passes.count(text, settings, sizes) == COUNTED[text]


def test_other_words_are_not_guessed():
    for text in ("a few", "1 a feature", "`other` forwards", "2 ** 9 forwards"):
        assert passes.count(text, {}, {}) is None

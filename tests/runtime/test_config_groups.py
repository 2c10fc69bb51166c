"""Groups of settings given as one literal, and options that a new optimiser lacks."""

from pathlib import Path

import pytest

from unlir_jax.runtime import config
from unlir_jax.training import optim

FILE = str(Path(__file__).parents[2] / "configs" / "quickstart.py")


def load(*overrides):
    return config.load(FILE, overrides)


def test_options_are_replaced_and_other_groups_are_changed():
    found = load("optimizer.options={'b1': 0.9}", "optimizer.schedule={'warmup': 0.2}")
    assert found.optimizer.options.to_dict() == {"b1": 0.9}
    assert found.optimizer.schedule.warmup == 0.2
    assert found.optimizer.schedule.name == load().optimizer.schedule.name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.options={1: 2}", "is no group"),
        ("optimizer.options={'a'", "is no literal"),
        ("optimizer.schedule={'warmupp': 1}", "did you mean"),
        ("seed.a={'b': 1}", "no such setting"),
    ],
)
def test_what_is_no_group_is_refused(override, message):
    with pytest.raises(ValueError, match=message):
        load(override)


def test_another_optimiser_leaves_out_what_it_lacks():
    asked = ["--config.optimizer.name=lion"]
    settings, notice = optim.replaced(load(*asked), asked)
    assert settings.optimizer.options.to_dict() == {}
    assert notice.startswith("optax.lion has no momentum, nesterov")
    assert load(*asked).optimizer.options.momentum == 0.9
    # What was asked for is not left out: making the optimiser refuses it.
    asked += ["--config.optimizer.options.momentum=0.5"]
    settings, notice = optim.replaced(load(*asked), asked)
    assert settings.optimizer.options.to_dict() == {"momentum": 0.5}
    assert optim.replaced(load(), [])[1] == ""

"""Settings, paths and numbers: what may be, and the sentence about what may not."""

import math

import pytest

from unlir_jax.core import finite
from unlir_jax.evaluation import settings as evaluations
from unlir_jax.few_shot import settings as few_shots
from unlir_jax.open_set import settings as open_sets
from unlir_jax.runtime import config, ranges
from unlir_jax.storage import paths
from unlir_jax.training import defaults


@pytest.mark.parametrize(
    "given",
    [defaults.training, evaluations.evaluation, few_shots.few_shot, open_sets.open_set],
    ids=lambda given: given.__name__,
)
def test_defaults_are_allowed_and_every_number_has_a_range(given):
    settings = given()
    ranges.check(settings)
    leaves = config.to_dict(settings)

    def numbers(group, above=""):
        for name, value in group.items():
            if isinstance(value, dict):
                yield from numbers(value, f"{above}{name}.")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield above + name

    assert not [name for name in numbers(leaves) if name not in ranges.RANGES]


@pytest.mark.parametrize("name", ranges.RANGES)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "a"])
def test_what_is_no_such_number_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}`=.*; expected a number ") as error:
        ranges.check_one(name, value)
    assert str(value) in str(error.value)


def test_the_ends_of_ranges():
    for name, good, bad in (
        ("average", (0, 0.999), (1, 1.5)),
        ("statistics.confidence", (0.001, 0.999), (0, 1)),
        ("data.image_size", (0, 1, 4096), (4097,)),
        ("data.crop", (0, 0.05, 1), (0.04, 1.01)),
        ("seed", (0, 2**32 - 1), (2**32,)),
        ("head_rate", (1e-9,), (0,)),
    ):
        for value in good:
            ranges.check_one(name, value)
        for value in bad:
            with pytest.raises(ValueError, match=name):
                ranges.check_one(name, value)
    ranges.check({"shots": (1, 5), "probe": {"steps": [3]}, "model": {"dropout": None}})
    with pytest.raises(ValueError, match="`shots`=0"):
        ranges.check({"shots": (1, 0)})
    with pytest.raises(ValueError, match="`mesh.mode`='pjit'; expected one of 'jit'"):
        ranges.check({"mesh": {"mode": "pjit"}})


def test_places(tmp_path, monkeypatch):
    assert paths.check("a" * 255, "output").name == "a" * 255
    assert paths.check(tmp_path, "output") == tmp_path
    for bad in ("", "a\0", "a" * 256, "é" * 128, "a/" * 2048):
        with pytest.raises(ValueError, match="^`output`=.*; expected a path"):
            paths.check(bad, "output")
        assert not paths.is_folder(bad) and not paths.is_file(bad)
    (tmp_path / "a").write_text("")
    assert paths.is_file(tmp_path / "a") and paths.is_folder(str(tmp_path))
    assert paths.shown("a" * 60) == repr("a" * 60)
    assert paths.shown("a" * 61) == f"{'a' * 60!r}… (61 letters)"


def test_numbers():
    finite.check({"a": 1.0, "b": [1, {"c": 2.0}], "d": "nan", "e": None}, "here")
    for value in (math.nan, math.inf, [1.0, -math.inf], {"x": (math.nan,)}):
        with pytest.raises(FloatingPointError, match="^b of here is not a finite num"):
            finite.check({"a": 1.0, "b": value}, "here")
    many = {str(place): math.nan for place in range(10)}
    with pytest.raises(FloatingPointError, match="5, 6, 7 and 2 more of .* are not"):
        finite.check(many, "here")
    names = [f"{place}.png" for place in range(7)]
    with pytest.raises(FloatingPointError, match="'4.png' and 2 more; wait.$") as error:
        finite.check({"a": math.nan}, "here", names, "wait")
    assert "5.png" not in str(error.value)

"""Every explainer and metric under every condition of `conditions`."""

import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, saliency

sys.path.insert(0, str(Path(__file__).parent))

import conditions as grid  # noqa: E402

FAST = {"grad_cam", "rise", "average_drop", "iou"}
# The networks of the grid do not pool by attention, nor attend in Linen modules.
ELSEWHERE = {"attention_pooling", "transformer_attribution"}
METHODS = tiers.by_tier([m for m in saliency.METHODS if m not in ELSEWHERE], FAST)
MEASURES = tiers.by_tier(metrics.FACTORIES, FAST)


@pytest.fixture(autouse=True)
def _own_errors(unchecked):
    """See the package's own errors, not those of the shape checks of the tests."""


def values(found):
    """List all that is floating point and belongs to images."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
    leaves = [leaf.astype(float) for leaf in leaves if leaf.dtype.kind not in "iub"]
    return [leaf.reshape((len(leaf), -1)) for leaf in leaves]


@functools.cache
def compiled(name, channels):
    """Compile an explainer, for all cases of so many channels."""
    return jax.jit(grid.explainer(name, grid.case(channels=channels)))


def explained(name, given):
    explain = compiled(name, given.images.shape[-1])
    found = explain(given.variables, given.images, given.labels, key=grid.KEY)
    return values(found)[0]


@pytest.mark.parametrize("name", METHODS)
def test_an_explainer_gives_finite_maps_or_a_sentence(name):
    for told, given in grid.FINE.items():
        try:
            found = explained(name, given)
        except ValueError as error:
            assert "one class" in told, told
            assert "class" in str(error) or "has 1 output" in str(error), told
        else:
            assert np.isfinite(found).all(), told


def representative(names):
    """List those that stand for the others, of which some are in the fast tier."""
    return tiers.by_tier([n for n in names if n in tiers.REPRESENTATIVE], FAST)


@pytest.mark.parametrize("name", representative(saliency.METHODS))
def test_an_explainer_of_one_class_in_bfloat16_is_finite_or_refused(name):
    try:
        found = explained(name, grid.ONE_CLASS)
    except ValueError as error:
        assert "has 1 output" in str(error)
    else:
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", representative(metrics.FACTORIES))
def test_a_metric_of_one_class_in_bfloat16_is_finite_or_refused(name):
    try:
        found = grid.measure(name, grid.ONE_CLASS, grid.maps_for(grid.ONE_CLASS))
    except ValueError as error:
        assert "1 class" in str(error) or "has 1 output" in str(error)
    else:
        assert all(np.isfinite(each).all() for each in values(found))


@pytest.mark.parametrize("name", METHODS)
def test_an_explainer_gives_nan_for_what_it_cannot_see(name):
    """A network without numbers, and an image that was not checked in `jax.jit`."""
    for told, given in grid.BROKEN.items() if name not in grid.BLIND else ():
        assert np.isnan(explained(name, given)).any(axis=1).all(), told
    for told, change in grid.TRACED.items():
        first, second = explained(name, change(grid.case()))
        assert np.isfinite(first).all() and np.isnan(second).all(), told


@pytest.mark.parametrize("name", METHODS)
def test_an_explainer_refuses_by_a_sentence(name):
    for told, (change, said) in grid.REFUSED.items():
        given = change(grid.case())
        explain = grid.explainer(name, given)
        with pytest.raises((ValueError, TypeError), match=said) as caught:
            explain(given.variables, given.images, given.labels, key=grid.KEY)
        assert len(str(caught.value)) < 250, told


@pytest.mark.parametrize("name", METHODS)
def test_an_explainer_refuses_what_is_no_key(name):
    given = grid.case()
    explain = grid.explainer(name, given)
    for key in (0, np.zeros(2, np.uint32), jax.random.PRNGKey(0)):
        with pytest.raises(TypeError, match="expected a typed key"):
            explain(given.variables, given.images, given.labels, key=key)


@pytest.mark.parametrize("name", MEASURES)
def test_a_metric_gives_finite_values_or_a_sentence(name):
    for told, given in grid.FINE.items():
        try:
            found = grid.measure(name, given, grid.maps_for(given))
            found.pop("pointing_distance", None)  # Infinite where a map is flat.
        except ValueError as error:
            assert "1 x 1" in told, (told, error)
        else:
            assert all(np.isfinite(each).all() for each in values(found)), told


@pytest.mark.parametrize("name", MEASURES)
def test_a_metric_of_a_network_without_numbers_gives_nan(name):
    looks = name in ("official_metric", *grid.EXPLAINING, *grid.PLAIN)
    for told, given in grid.BROKEN.items():
        found = grid.measure(name, given, grid.maps_for(given))
        main = found.get(name, found.get(f"{name}_curve"))
        every = np.isnan(values(main)[0]).any(axis=1).all()
        assert every == (looks and name not in grid.BLIND), told


@pytest.mark.parametrize("name", MEASURES)
def test_a_metric_refuses_by_a_sentence(name):
    for told, (change, said) in grid.REFUSED.items():
        given = change(grid.case())
        with pytest.raises((ValueError, TypeError), match=said) as caught:
            grid.measure(name, given, grid.maps_for(grid.case()))
        assert len(str(caught.value)) < 250, told
    given = grid.case()
    for told, (change, said) in grid.MAPS.items():
        with pytest.raises((ValueError, TypeError), match=said) as caught:
            grid.measure(name, given, change(grid.maps_for(given)))
        assert len(str(caught.value)) < 250, told


@pytest.mark.parametrize(
    "name",
    tiers.by_tier([*grid.PLAIN, *grid.REGIONS], FAST),
)
def test_a_metric_gives_nan_for_what_it_cannot_see(name):
    if name == "saliency_metric":
        pytest.skip("boxes are drawn on the host")
    given = grid.case()
    maps = grid.maps_for(given)

    @jax.jit
    def traced(images, labels):
        return grid.measure(name, given._replace(images=images, labels=labels), maps)

    for told, change in grid.TRACED.items():
        wrong = change(given)
        for each in values(traced(wrong.images, wrong.labels)):
            whole = np.isfinite(each).all(axis=1)
            assert whole.tolist() == [True, False], told

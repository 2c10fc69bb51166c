"""A start from elsewhere takes what fits, and says of each name what became of it."""

import numpy as np
import pytest

from unlir_jax import tree
from unlir_jax.models import pretrained, zoo
from unlir_jax.runtime import checkpoint
from unlir_jax.training import init_from, optim, state
from unlir_jax.weights import readers

NETWORK = zoo.find("cifar_resnet8")[1]


@pytest.fixture(scope="module")
def variables():
    return pretrained.load("cifar_resnet8", "random", num_classes=4).variables


@pytest.fixture(scope="module")
def others():
    return pretrained.load("cifar_resnet8", "random", num_classes=6, seed=1).variables


def leaves(of):
    return {path: np.asarray(leaf) for path, leaf in tree.flatten(of).items()}


def check(start, variables, others):
    """All but the classifier is theirs."""
    got, mine, theirs = map(leaves, (start.variables, variables, others))
    assert got.keys() == mine.keys()
    for path in got:
        expected = mine if "classifier" in path else theirs
        np.testing.assert_array_equal(got[path], expected[path])
    assert len(start.taken) == len(got) - 2
    assert all("classifier" in name for name in start.misshaped)
    text = "\n".join(start.sentences())
    assert f"{len(got) - 2} of {len(got)} arrays are taken" in text
    assert "(64, 6) for params/classifier/kernel (64, 4)" in text


def test_a_file_of_weights(variables, others, tmp_path):
    path = tmp_path / "other.safetensors"
    readers.write_safetensors(path, leaves(others))
    check(init_from.start_from(str(path), variables, NETWORK), variables, others)


def test_a_checkpoint_by_its_folder_or_its_workdir(variables, others, tmp_path):
    found = optim.rules(others["params"], ((".*", {}),))
    optimizer = optim.make(found, optim.schedule(0.1, 3))
    begun = state.create(others, found, optimizer)
    folder = tmp_path / checkpoint.FOLDER
    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, 7, begun, {})
        checkpoint.finish(manager)
    for place in (tmp_path, folder, folder / "7"):
        check(init_from.start_from(str(place), variables, NETWORK), variables, others)


@pytest.mark.exhaustive
def test_the_average_is_preferred(variables, others, tmp_path):
    found = optim.rules(variables["params"], ((".*", {}),))
    optimizer = optim.make(found, optim.schedule(0.1, 3))
    begun = state.create(variables, found, optimizer, average=True)
    moved = tree.map_with_path(lambda path, leaf: leaf + 1, begun.average)
    with checkpoint.open_manager(tmp_path / checkpoint.FOLDER) as manager:
        checkpoint.save(manager, 1, begun._replace(average=moved), {})
        checkpoint.finish(manager)
    start = init_from.start_from(str(tmp_path), variables, NETWORK)
    got, mine = leaves(start.variables), leaves(variables)
    for path in got:
        np.testing.assert_array_equal(got[path], mine[path] + 1)


def test_names_that_nobody_has_are_told(variables, tmp_path):
    some = {"params/stem/conv/kernel": leaves(variables)["params/stem/conv/kernel"] * 2}
    path = tmp_path / "some.safetensors"
    readers.write_safetensors(path, some | {"extra/kernel": np.ones(3, np.float32)})
    start = init_from.start_from(str(path), variables, NETWORK)
    assert start.taken == ["params/stem/conv/kernel"]
    assert "extra/kernel" in start.unused
    assert len(start.kept) == len(leaves(variables)) - 1


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"nothing": np.ones(3, np.float32)}, "has nothing for this network"),
        (
            {"params/stem/conv/kernel": np.full((3, 3, 3, 16), np.nan, np.float32)},
            "not finite in params/stem/conv/kernel",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arrays, sentence, variables, tmp_path):
    path = tmp_path / "odd.safetensors"
    readers.write_safetensors(path, arrays)
    with pytest.raises(ValueError, match=sentence):
        init_from.start_from(str(path), variables, NETWORK)

"""A classifier goes from one list of classes to another by name, and says the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import split, tree
from unlir_jax.models import heads, pretrained, zoo
from unlir_jax.runs import workdir
from unlir_jax.training import init_from
from unlir_jax.weights import exported

NETWORK = zoo.find("cifar_resnet8")[1]
ANIMALS = ("ant", "bee", "cow", "dog")
PROTOTYPES = {"name": "prototypes", "per_class": 3}


def load(classes, seed=0, decision=None):
    network = pretrained.load(
        "cifar_resnet8", "random", num_classes=classes, seed=seed, decision=decision
    )
    # A classifier of which every number is another.
    keys = iter(jax.random.split(jax.random.key(seed), 400))
    variables = tree.map_with_path(
        lambda path, leaf: (
            jax.random.normal(next(keys), leaf.shape) if heads.HEAD in path else leaf
        ),
        network.variables,
    )
    return network._replace(variables=variables, new_classifier=False)


def logits(network, variables=None):
    images = jnp.asarray(np.random.default_rng(0).random((3, 32, 32, 3)), jnp.float32)
    found = split.whole(network.model)(variables or network.variables, images)
    return np.asarray(found)


def write(folder, network, names, decision=None):
    leaves = {p: np.asarray(x) for p, x in tree.flatten(network.variables).items()}
    purpose = exported.Purpose(network.name, names, 32, 1.0, decision or {})
    return str(exported.write(folder, leaves, purpose))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "decision", tiers.by_tier([None, PROTOTYPES], 1), ids=["linear", "prototypes"]
)
def test_the_same_classes_in_another_order(decision, tmp_path):
    theirs, mine = load(4, 0, decision), load(4, 1, decision)
    path = write(tmp_path, theirs, ANIMALS, decision)
    names = ("dog", "ant", "Cow", "bee")
    begun = init_from.start_from(
        path, mine.variables, NETWORK, names, blocks=decision is not None
    )
    order = [3, 0, 2, 1]
    np.testing.assert_allclose(
        logits(mine, begun.variables), logits(theirs)[:, order], rtol=1e-5, atol=1e-5
    )
    assert "taken over by name: 'dog', 'ant', 'Cow', 'bee'" in begun.sentences()[-1]
    if decision:
        # The prototypes of a class move with it, three for each.
        (one, other) = (
            np.asarray(tree.flatten(v)["params/classifier/parts/kernel"])
            for v in (theirs.variables, begun.variables)
        )
        columns = np.concatenate([np.arange(3) + 3 * place for place in order])
        np.testing.assert_array_equal(other, one[:, columns])


def test_rows_of_known_classes_are_taken_and_named(tmp_path):
    theirs, mine = load(4, 0), load(3, 1)
    path = write(tmp_path, theirs, ANIMALS)
    begun = init_from.start_from(path, mine.variables, NETWORK, ("dog", "eel", "bee"))
    found = logits(mine, begun.variables)
    np.testing.assert_allclose(found[:, 0], logits(theirs)[:, 3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[:, 2], logits(theirs)[:, 1], rtol=1e-5, atol=1e-5)
    kernel = "params/classifier/kernel"
    drawn, kept = (tree.flatten(v)[kernel] for v in (begun.variables, mine.variables))
    np.testing.assert_array_equal(drawn[:, 1], kept[:, 1])
    assert begun.sentences()[-1].endswith("2 classes, 'dog', 'bee'; new are 'eel'.")


def test_a_classifier_that_knows_none_is_left(tmp_path):
    theirs, mine = load(4, 0), load(4, 1)
    path = write(tmp_path, theirs, ANIMALS)
    begun = init_from.start_from(path, mine.variables, NETWORK, ("w", "x", "y", "z"))
    kernel = "params/classifier/kernel"
    np.testing.assert_array_equal(
        tree.flatten(begun.variables)[kernel], tree.flatten(mine.variables)[kernel]
    )
    assert kernel in begun.kept and "knows none of the classes" in begun.classes


def test_without_names_the_order_is_taken_and_said(tmp_path):
    theirs, mine = load(4, 0), load(4, 1)
    path = write(tmp_path, theirs, ())
    begun = init_from.start_from(path, mine.variables, NETWORK, ANIMALS)
    np.testing.assert_allclose(
        logits(mine, begun.variables), logits(theirs), rtol=1e-5, atol=1e-5
    )
    assert "does not name its 4 classes" in begun.classes


def test_a_loaded_network_is_numbered_as_the_data():
    network = load(4)._replace(class_names=ANIMALS)
    names = ("dog", "ant", "cow", "bee")
    moved, said = init_from.own_classes(network, names)
    np.testing.assert_allclose(
        logits(moved), logits(network)[:, [3, 0, 2, 1]], rtol=1e-5, atol=1e-5
    )
    assert moved.class_names == names and "taken over by name" in said[0]
    same, said = init_from.own_classes(network, ("Ant", "bee", "cow", "dog"))
    assert same.variables is network.variables and not said
    new, _ = init_from.own_classes(network._replace(new_classifier=True), names)
    assert new.variables is network.variables


def test_arrays_that_differ_in_more_are_refused():
    path = "params/classifier/kernel"
    with pytest.raises(ValueError, match=r"shape \(5, 2\); expected \(4, 2\)"):
        heads.carry({path: np.ones((5, 2))}, {path: np.ones((4, 2))}, "ab", "ba")


def test_a_workdir_knows_its_classes(tmp_path):
    place = tmp_path / "run"
    workdir.claim(place, {}, "", ("ant", "bee"))
    assert workdir.classes_of(place) == ("ant", "bee")
    inside = place / "checkpoints" / "4"
    inside.mkdir(parents=True)
    assert workdir.classes_of(inside) == ("ant", "bee")
    workdir.claim(place, {}, "", ("ant", "bee"))
    with pytest.raises(ValueError, match="without 'bee', with 'cow'"):
        workdir.claim(place, {}, "", ("ant", "cow"))
    with pytest.raises(ValueError, match="in another order"):
        workdir.claim(place, {}, "", ("bee", "ant"))
    (place / "classes.json").unlink()
    workdir.claim(place, {}, "", ("ant", "bee"))
    (place / "classes.json").unlink()
    with pytest.raises(ValueError, match="may have numbered the classes 1, 2, 10"):
        workdir.claim(place, {}, "", ("1", "2", "10"))


def test_a_setting_that_came_later_is_at_its_default(tmp_path):
    place = tmp_path / "run"
    workdir.claim(place, {"data": {"path": "x"}}, "", ("ant", "bee"))
    later = {"data": {"path": "x", "ignore": 255}}
    with pytest.raises(ValueError, match="another config: data.ignore"):
        workdir.check(place, later)
    assert workdir.check(place, later, defaults=later) is None
    with pytest.raises(ValueError, match="another config: data.ignore"):
        workdir.check(place, later, defaults={"data": {"ignore": 0}})


def test_options_of_folders_that_came_later_are_at_their_defaults(tmp_path):
    place = tmp_path / "run"
    data = {"source": "folder", "options": {"holdout": 0.2}}
    workdir.claim(place, {"data": data}, "", ("ant", "bee"))
    later = {"holdout": 0.2, "annotations": "stored", "mask": "auto", "ignore": 255}
    assert workdir.check(place, {"data": data | {"options": later}}) is None
    with pytest.raises(ValueError, match="data.options.mask: 'object' here"):
        workdir.check(place, {"data": data | {"options": later | {"mask": "object"}}})

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unlir_jax import tree
from unlir_jax.training import optim

TREE = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "b": [1.0, 2.0]}


def test_flatten_names_leaves_by_path():
    assert list(tree.flatten(TREE)) == ["a/bias", "a/kernel", "b/0", "b/1"]


def test_unflatten_is_the_inverse():
    nested = {"a": {"kernel": 1, "bias": 2}, "c": 3}
    assert tree.unflatten(tree.flatten(nested)) == nested


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a")])
def test_a_leaf_is_not_a_folder(paths):
    with pytest.raises(ValueError, match="leaf"):
        tree.unflatten(dict.fromkeys(paths, 0))


class Slashed(nn.Module):
    """Linen takes such a name."""

    @nn.compact
    def __call__(self, values):
        return nn.Dense(2, name="a/b")(values)


NAMED_BY_PATH = {
    "flatten": tree.flatten,
    "map_with_path": lambda given: tree.map_with_path(lambda path, leaf: leaf, given),
    "sha256": tree.sha256,
    "select": lambda given: tree.select(given, ".*"),
    "covered": lambda given: optim.rules(given, ((".*", {}),)),
    "listed": tree.listed,
}


@pytest.mark.parametrize("name", NAMED_BY_PATH)
def test_a_name_with_a_slash_and_two_leaves_of_one_path_are_refused(name):
    function = NAMED_BY_PATH[name]
    twice = {"a": {"b": jnp.ones(2)}, "a/b": jnp.zeros(3)}
    with pytest.raises(ValueError, match="two leaves of one path, `a/b`; expected"):
        function(twice)
    slashed = Slashed().init(jax.random.key(0), jnp.ones((1, 2)))
    if name == "listed":
        assert set(function(slashed)) == {"params/a/b/kernel", "params/a/b/bias"}
        return
    with pytest.raises(ValueError, match="the name 'a/b' on the path `params/a/b/bia"):
        function(slashed)


def test_map_with_path_sees_the_path():
    doubled = tree.map_with_path(
        lambda path, leaf: leaf * 2 if path.endswith("kernel") else leaf, TREE
    )
    assert doubled["a"]["kernel"][0, 0] == 2 and doubled["b"] == [1.0, 2.0]


def test_select_matches_whole_paths_and_lists_them_when_nothing_does():
    assert set(tree.select(TREE, "a/.*")) == {"a/bias", "a/kernel"}
    with pytest.raises(ValueError, match="a/bias, a/kernel, b/0, b/1"):
        tree.select(TREE, "kernel")


def test_count_counts_numbers():
    assert tree.count(TREE) == 6 + 3 + 2


def test_sha256_depends_on_names_types_shapes_and_values_only():
    one = {"x": np.arange(6, dtype=np.float32), "y": np.zeros(2)}
    same = {"y": jnp.zeros(2, jnp.float32), "x": jnp.arange(6.0)}
    assert tree.sha256({"x": one["x"]}) == tree.sha256({"x": same["x"]})
    different = [
        {"z": one["x"]},
        {"x": one["x"].astype(np.float16)},
        {"x": one["x"].reshape(2, 3)},
        {"x": one["x"] + 1},
    ]
    hashes = {tree.sha256(d) for d in [{"x": one["x"]}, *different]}
    assert len(hashes) == 5

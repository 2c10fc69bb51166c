"""Linen modules are cut behind functions, and at values that they sow or perturb."""

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
from flax import linen as nn

from unlir_jax import split


class Inner(nn.Module):
    """A value that is sown, and one that is perturbed."""

    @nn.compact
    def __call__(self, images):
        maps = nn.relu(nn.Conv(4, (3, 3), name="conv")(images))
        self.sow("intermediates", "maps", maps)
        maps = self.perturb("moved", maps)
        return nn.Conv(4, (3, 3), name="last")(maps) ** 2


class Network(nn.Module):
    """A module with names inside, and a value that is sown where nobody reads it."""

    @nn.compact
    def __call__(self, images):
        maps = nn.max_pool(Inner(name="inner")(images), (2, 2), (2, 2))
        self.sow("intermediates", "unread", 2 * maps)
        for _ in range(2):
            self.sow("intermediates", "twice", maps)
        return nn.Dense(3, name="dense")(maps.mean((1, 2)))


@pytest.fixture(scope="module")
def world(pictures):
    images, module = jnp.asarray(pictures[:2, :8, :8]), Network()
    variables = own_networks.drawn(
        jax.eval_shape(module.init, jax.random.key(0), images[:1])
    )
    return module, {"params": variables["params"]}, images


@pytest.mark.parametrize(
    ("at", "same"),
    [
        ("inner/maps", "inner/conv>relu"),
        ("inner/moved", "inner/conv>relu"),
        ("inner>reduce_window_max", ""),
    ],
)
def test_the_halves_make_the_whole(world, at, same):
    module, variables, images = world
    model = split.from_linen(module, at)
    features = model.features(variables, images)
    expected = module.apply(variables, images)
    np.testing.assert_allclose(model.head(variables, features), expected, atol=1e-5)
    silent = features._replace(maps=0 * features.maps)
    bias = np.broadcast_to(variables["params"]["inner"]["last"]["bias"] ** 2, (2, 4))
    dense = variables["params"]["dense"]
    alone = bias @ dense["kernel"] + dense["bias"][None]
    if same:
        # Zeros in front of the last convolution leave its bias, everywhere.
        np.testing.assert_allclose(model.head(variables, silent), alone, atol=1e-5)
        other = split.from_linen(module, same).features(variables, images)
        np.testing.assert_allclose(features.maps, other.maps, atol=1e-6)
    else:
        assert features.maps.shape == (2, 4, 4, 4)


def test_variables_that_hold_perturbations_are_taken(world):
    module, variables, images = world
    held = {"perturbations": {"inner": {"moved": jnp.zeros((1, 8, 8, 4))}}}
    model = split.from_linen(module, "inner/moved")
    found = split.whole(model)(variables | held, images)
    np.testing.assert_allclose(found, module.apply(variables, images), atol=1e-5)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("inner/map", r"no module of Network.*inner, inner/conv.*dense.*inner/maps"),
        ("twice", "2 calls"),
        ("unread", "no logit follows"),
        ("inner/conv>gelu", "'gelu', which does not follow that module; .*relu"),
        ("inner/conf>relu", "no module of Network"),
    ],
)
def test_what_is_no_place_is_a_sentence(world, at, message):
    module, variables, images = world
    with pytest.raises(ValueError, match=message):
        split.from_linen(module, at).features(variables, images)


def test_a_name_inside_a_checkpoint_is_refused(world):
    class Checkpointed(nn.Module):
        @nn.compact
        def __call__(self, images):
            maps = nn.remat(Inner)(name="inner")(images)
            return maps.mean((1, 2))

    _, variables, images = world
    inner = {"params": {"inner": variables["params"]["inner"]}}
    model = split.from_linen(Checkpointed(), "inner/maps")
    with pytest.raises(ValueError, match=r"no logit follows .*nn.remat"):
        model.features(inner, images)

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx

from unlir_jax import split
from unlir_jax.types import Features


def flops(function, *arguments):
    """Count the operations that are left after XLA has removed what is unused."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.fixture(scope="module")
def plain(pictures):
    module = toy.Plain()
    return module, toy.random_variables(module, pictures)


@pytest.mark.parametrize("at", ["conv0", "conv1", "conv2"])
def test_the_halves_make_the_whole_exactly(plain, pictures, at):
    module, variables = plain
    model = split.from_linen(module, at)
    features = model.features(variables, pictures)
    assert features.maps.shape == (4, 32, 32, 8)
    logits = model.head(variables, features)
    whole = jax.jit(module.apply)(variables, pictures)
    assert (logits == whole).all()
    assert (split.whole(model)(variables, pictures) == logits).all()


@pytest.mark.parametrize(("at", "layers_before"), [("conv0", 1), ("conv1", 2)])
def test_each_half_is_a_half(plain, pictures, at, layers_before):
    module, variables = plain
    model = split.from_linen(module, at)
    features = jax.eval_shape(model.features, variables, pictures)
    whole = flops(module.apply, variables, pictures)
    first = flops(model.features, variables, pictures)
    second = flops(model.head, variables, features)
    # The first convolution reads 3 channels, the others 8: 3, 8 and 8 parts of 19.
    share = (3 + 8 * (layers_before - 1)) / 19
    assert first / whole == pytest.approx(share, abs=0.04)
    assert second / whole == pytest.approx(1 - share, abs=0.04)


def test_the_head_uses_the_maps_it_is_given(plain, pictures):
    module, variables = plain
    model = split.from_linen(module, "conv1")
    features = model.features(variables, pictures)
    changed = model.head(variables, features._replace(maps=0 * features.maps))
    assert not np.allclose(changed, model.head(variables, features))


def test_the_gradient_at_the_cut_is_that_of_a_perturbation(plain, pictures):
    module, variables = plain
    model = split.from_linen(module, "conv1")
    features = model.features(variables, pictures)

    def through_head(maps):
        return model.head(variables, features._replace(maps=maps))[:, 1].sum()

    class Perturbed(toy.Plain):
        @toy.nn.compact
        def __call__(self, images):
            maps = toy.nn.relu(toy.nn.Conv(8, (3, 3), name="conv0")(images))
            maps = toy.nn.Conv(8, (3, 3), name="conv1")(maps)
            maps = toy.nn.relu(self.perturb("cut", maps))
            maps = toy.nn.relu(toy.nn.Conv(8, (3, 3), name="conv2")(maps))
            return toy.nn.Dense(5, name="dense")(jnp.mean(maps, (1, 2)))

    def through_perturbation(extra):
        variables_ = dict(variables) | {"perturbations": {"cut": extra}}
        return Perturbed().apply(variables_, jnp.asarray(pictures))[:, 1].sum()

    zeros = jnp.zeros_like(features.maps)
    np.testing.assert_allclose(
        jax.grad(through_head)(features.maps),
        jax.grad(through_perturbation)(zeros),
        atol=1e-8,
    )


@pytest.mark.exhaustive
def test_a_path_around_the_cut_stays(pictures):
    module = toy.Skipping()
    variables = toy.random_variables(module, pictures)
    model = split.from_linen(module, "conv")
    features = model.features(variables, pictures)
    whole = module.apply(variables, pictures)
    np.testing.assert_allclose(model.head(variables, features), whole, atol=1e-6)
    silent = features._replace(maps=0 * features.maps)
    moved = module.apply(variables, 0.5 * pictures)
    assert not np.allclose(model.head(variables, silent), moved)
    dense = variables["params"]["dense"]
    expected = pictures.mean((1, 2)) @ dense["kernel"] + dense["bias"][None]
    np.testing.assert_allclose(model.head(variables, silent), expected, atol=1e-6)


@pytest.mark.parametrize("at", ["conv9", "", "conv", "Conv0"])
def test_a_path_that_matches_nothing_lists_the_modules(plain, pictures, at):
    module, variables = plain
    model = split.from_linen(module, at)
    with pytest.raises(ValueError, match=r"no module.*conv0, conv1, conv2, dense"):
        model.features(variables, pictures)


def test_a_module_that_runs_twice_is_refused(pictures):
    module = toy.Shared()
    variables = toy.random_variables(module, pictures)
    model = split.from_linen(module, "conv")
    with pytest.raises(ValueError, match="2 calls"):
        model.features(variables, pictures)
    features = Features(jnp.asarray(pictures), jnp.asarray(pictures))
    with pytest.raises(ValueError, match="2 calls"):
        model.head(variables, features)


def test_from_methods_and_from_linen_agree(pictures):
    module = toy.Halves()
    variables = toy.random_variables(module, pictures)
    model = split.from_methods(module)
    logits = split.whole(model)(variables, pictures)
    np.testing.assert_allclose(logits, module.apply(variables, pictures), atol=1e-6)
    with pytest.raises(ValueError, match=r"no method 'trunk'.*from_linen"):
        split.from_methods(module, features="trunk")


def test_arguments_reach_the_module(plain, pictures):
    module, variables = plain
    model = split.from_linen(module, "conv1", train=False)
    assert split.whole(model)(variables, pictures).shape == (4, 5)
    with pytest.raises(TypeError):
        split.from_linen(module, "conv1", nonsense=1).features(variables, pictures)


def test_from_nnx_is_pure_and_exact(pictures):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
            self.dense = nnx.Linear(6, 4, rngs=rngs)

        def features(self, images):
            return nnx.relu(self.conv(images))

        def head(self, maps):
            return self.dense(maps.mean((1, 2)))

    net = Net(nnx.Rngs(0))
    images = jnp.asarray(pictures)
    model, variables = split.from_nnx(net)
    logits = split.whole(model)(variables, images)
    np.testing.assert_allclose(logits, net.head(net.features(images)), atol=1e-6)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)
    assert not np.allclose(split.whole(model)(doubled, images), logits)
    again = split.whole(model)(variables, images)
    assert (again == logits).all()
    with pytest.raises(ValueError, match="no method 'tail'"):
        split.from_nnx(net, head="tail")


def test_from_functions_takes_bare_maps_or_features(pictures):
    bare = split.from_functions(
        lambda v, images: images * v, lambda v, maps: maps.mean((1, 2))
    )
    full = split.from_functions(
        lambda v, images: Features(images * v, images),
        lambda v, cut: (cut.maps + cut.context).mean((1, 2)),
    )
    images = jnp.asarray(pictures)
    mean = images.mean((1, 2))
    np.testing.assert_allclose(split.whole(bare)(2.0, images), 2 * mean, rtol=1e-5)
    np.testing.assert_allclose(split.whole(full)(2.0, images), 3 * mean, rtol=1e-5)


def test_module_paths_come_in_call_order(pictures):
    shape = jax.ShapeDtypeStruct(pictures.shape, pictures.dtype)
    assert split.module_paths(toy.Plain(), shape) == [
        "conv0",
        "conv1",
        "conv2",
        "dense",
    ]


def test_the_head_can_be_vmapped_over_masks(plain, pictures):
    module, variables = plain
    model = split.from_linen(module, "conv2")
    features = model.features(variables, pictures)
    factors = jnp.linspace(0, 1, 3)

    def scaled(factor):
        return model.head(variables, features._replace(maps=factor * features.maps))

    together = jax.vmap(scaled)(factors)
    apart = jnp.stack([scaled(factor) for factor in factors])
    np.testing.assert_allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 8, 8)), [0, 0], ValueError, "[batch, height, width, channels]"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, 0], TypeError, "divide 8-bit"),
        (np.zeros((2, 8, 8, 3)), [0.0, 0.0], TypeError, "one integer an image"),
        (np.zeros((2, 8, 8, 3)), [0, 0, 0], ValueError, "each of the 2 images"),
        (np.zeros((2, 8, 8, 3)), [0, 5], ValueError, "classes 0 to 4"),
        (np.zeros((2, 8, 8, 3)), [-1, 0], ValueError, "holds -1"),
    ],
)
def test_wrong_batches_are_refused(unchecked, images, labels, error, message):
    module = toy.Plain()
    variables = toy.random_variables(module, np.zeros((1, 8, 8, 3), np.float32))
    model = split.from_linen(module, "conv2")
    images = images if images.dtype == np.uint8 else images.astype(np.float32)
    with pytest.raises(error, match=re.escape(message)):
        split.check_batch(model, variables, images, jnp.asarray(labels))

"""NNX modules are cut by path, and the user's module stays as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
from flax import nnx

from unlir_jax import saliency, split


class Small(nnx.Module):
    """One layer in a list that runs twice, one in a dictionary, one never."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])
        self.named = nnx.Dict(last=nnx.Linear(3, 2, rngs=rngs))
        self.idle = nnx.Linear(3, 3, rngs=rngs)
        self.alias = self.layers[0]

    def __call__(self, images):
        maps = self.alias(images)
        maps = self.layers[1](nnx.relu(self.layers[1](maps)))
        return self.named["last"](maps).mean((1, 2))


@pytest.fixture
def promoted():
    """Let others' networks add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def vit():
    return own_networks.nnx_module(own_networks.ViT)


@pytest.fixture(scope="module")
def small():
    return own_networks.nnx_module(Small)


@pytest.fixture(scope="module")
def images(pictures):
    return jnp.asarray(pictures[:2, :16, :16])


def test_paths_have_attributes_and_indices(vit, small):
    paths = split.module_paths(vit)
    assert {
        "patches",
        "dense",
        "blocks/0",
        "blocks/1/norm",
        "blocks/1/attention/query",
    } <= set(paths)
    # NNX sorts the attributes of a module that it merges.
    assert split.module_paths(small) == [
        *("alias", "idle", "layers/0", "layers/1", "named/last"),
    ]
    # With images: what runs, in the order in which it does, under its first path.
    called = split.module_paths(small, jnp.zeros((1, 2, 2, 3)))
    assert called == ["alias", "layers/1", "named/last"]
    with pytest.raises(TypeError, match="from_functions"):
        split.module_paths(lambda images: images)


def test_the_halves_make_the_whole_and_the_module_stays(vit, images):
    kind, held = type(vit.blocks[0]), dict(vars(vit.blocks[0]))
    model, variables = split.from_nnx(vit, at="blocks/0", tokens=(2, "square"))
    features = model.features(variables, images)
    assert features.maps.shape == (2, 4, 4, 8)
    expected = nnx.jit(vit)(images)
    np.testing.assert_allclose(model.head(variables, features), expected, atol=1e-5)
    silent = features._replace(maps=0 * features.maps)
    assert not np.allclose(model.head(variables, silent), expected, atol=1e-2)
    assert type(vit.blocks[0]) is kind and vars(vit.blocks[0]) == held


def test_the_maps_are_the_output_of_the_submodule(vit, images):
    model, variables = split.from_nnx(vit, at="patches")
    found = model.features(variables, images).maps
    np.testing.assert_allclose(found, jax.jit(vit.patches)(images), atol=1e-5)


def test_other_variables_are_heard(small, images):
    model, variables = split.from_nnx(small, at="named/last")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)
    own = model.features(variables, images).maps
    assert not np.allclose(model.features(doubled, images).maps, own)


def test_an_alias_and_a_function_behind_a_module(small, images):
    first = split.from_nnx(small, at="alias")[0]
    same, variables = split.from_nnx(small, at="layers/0")
    maps = same.features(variables, images).maps
    np.testing.assert_array_equal(first.features(variables, images).maps, maps)
    behind, _ = split.from_nnx(small, at="layers/0>relu")
    features = behind.features(variables, images)
    expected = jax.nn.relu(small.layers[1](maps))
    np.testing.assert_allclose(features.maps, expected, atol=1e-5)
    logits = behind.head(variables, features)
    np.testing.assert_allclose(logits, small(images), atol=1e-5)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("layers/7", r"'layers/7' is no module of Small; did you mean .*named/last"),
        ("layers", r"'layers' is a List of Small"),
        ("layers/0>", "names no function behind"),
    ],
)
def test_a_path_that_leads_nowhere(small, at, message):
    with pytest.raises(ValueError, match=message):
        split.from_nnx(small, at=at)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("layers/1", "2 calls"),
        ("idle", "0 calls"),
        ("layers/0>gelu", "'gelu', which does not follow that module.*relu"),
    ],
)
def test_a_module_that_does_not_run_once(small, images, at, message):
    model, variables = split.from_nnx(small, at=at)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.features, variables, images)


def test_a_module_under_a_transformation_is_refused(images):
    class Checkpointed(nnx.Module):
        def __init__(self, rngs):
            self.inner = Small(rngs)

        def __call__(self, images):
            return nnx.remat(lambda inner, x: inner(x))(self.inner, images)

    module = own_networks.nnx_module(Checkpointed)
    model, variables = split.from_nnx(module, at="inner/named/last")
    with pytest.raises(ValueError, match="under a transformation"):
        jax.eval_shape(model.features, variables, images)


def test_training_mode_is_refused_at_a_path_too():
    module = own_networks.nnx_module(own_networks.NNXCNN)
    module.train()
    with pytest.raises(ValueError, match=r"training mode: .*use_running_average=False"):
        split.from_nnx(module, at="norms/1")
    model, variables = split.from_nnx(module, at="norms/1", allow_training=True)
    shape = jax.eval_shape(model.features, variables, own_networks.IMAGES).maps.shape
    assert shape == (1, 4, 4, 8)


def test_methods_that_are_missing_are_answered_with_paths(small):
    with pytest.raises(ValueError, match=r"no method 'features'.*at=.*layers/0"):
        split.from_nnx(small)


def test_what_bonsai_has_is_cut_by_name(images, promoted):
    """Flax bonsai's ViT and ConvNeXt, where it is installed; it is not on PyPI."""
    vit = pytest.importorskip("bonsai.models.vit.modeling")
    convnext = pytest.importorskip("bonsai.models.convnext.modeling")
    sizes = {"image_size": (16, 16), "patch_size": (4, 4), "num_channels": 3}
    sizes |= {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 16, "num_layers": 2}
    rest = {"attn_dropout_prob": 0.0, "dropout_prob": 0.0, "eps": 1e-6}
    config = vit.ModelConfig(**sizes, **rest, num_labels=5)
    module = own_networks.nnx_module(
        lambda rngs: vit.ViTClassificationModel(config, rngs=rngs)
    )
    model, variables = split.from_nnx(
        module, at="layers/0", tokens=(1, "square"), rngs=None
    )
    check_cut(model, variables, images, module(images, rngs=None), (4, 4))
    config = convnext.ModelConfig((1, 1), (4, 8), 0.0, 5, patch_size=(2, 2))
    module = own_networks.nnx_module(
        lambda rngs: convnext.ConvNeXt(config, rngs=rngs),
    )
    model, variables = split.from_nnx(
        module, at="stages/1/layers/0", rngs=None, train=False
    )
    check_cut(model, variables, images, module(images, rngs=None), (4, 4))


def check_cut(model, variables, images, expected, size):
    features = model.features(variables, images)
    assert features.maps.shape[1:3] == size
    np.testing.assert_allclose(model.head(variables, features), expected, atol=1e-4)
    maps = saliency.grad_cam(model)(variables, images, jnp.asarray([1, 2]))
    assert maps.shape[1:] == size and np.isfinite(maps).all() and maps.max() > 0


class Block(nnx.Module):
    """ConvNeXt's block: depthwise convolution, norm, two layers, and a scale."""

    def __init__(self, channels, rngs):
        depthwise = {"feature_group_count": channels, "padding": (3, 3)}
        self.depthwise = nnx.Conv(channels, channels, (7, 7), **depthwise, rngs=rngs)
        self.norm = nnx.LayerNorm(channels, use_fast_variance=False, rngs=rngs)
        self.wide = nnx.Linear(channels, 2 * channels, rngs=rngs)
        self.narrow = nnx.Linear(2 * channels, channels, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(channels))

    def __call__(self, maps, *, train):
        found = self.wide(self.norm(self.depthwise(maps)))
        return maps + self.scale[None, None, None] * self.narrow(nnx.gelu(found))


class Stage(nnx.Module):
    """A smaller grid, and blocks in a list."""

    def __init__(self, before, channels, rngs):
        self.smaller = nnx.Conv(before, channels, (2, 2), 2, rngs=rngs)
        self.layers = nnx.List([Block(channels, rngs)])

    def __call__(self, maps, *, train):
        maps = self.smaller(maps)
        for layer in self.layers:
            maps = layer(maps, train=train)
        return maps


class ConvNeXt(nnx.Module):
    """Stages in a list, each with blocks in a list, as bonsai's ConvNeXt has them."""

    def __init__(self, rngs):
        pairs = [(3, 4), (4, 8)]
        self.stages = nnx.List([Stage(*pair, rngs) for pair in pairs])
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, images, *, train=False):
        for stage in self.stages:
            images = stage(images, train=train)
        return self.head(images.mean((1, 2)))


def test_stages_of_blocks_are_cut_by_name(images):
    module = own_networks.nnx_module(ConvNeXt)
    model, variables = split.from_nnx(module, at="stages/1/layers/0", train=False)
    check_cut(model, variables, images, nnx.jit(module)(images), (4, 4))

"""A network in training mode is refused before it compiles, and taken where meant."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import linen as nn
from flax import nnx

from unlir_jax import saliency, split

MEANT = "or `allow_training=True`"


class Normed(nn.Module):
    """A convolution, a norm, dropout and a layer, each mode an argument or a field."""

    rate: float = 0.5
    fixed: bool | None = None

    @nn.compact
    def __call__(self, images, train: bool = True):
        average = not train if self.fixed is None else self.fixed
        maps = nn.Conv(4, (3, 3), name="conv")(images)
        maps = nn.BatchNorm(use_running_average=average, name="norm")(maps)
        pooled = nn.relu(maps).mean((1, 2))
        pooled = nn.Dropout(self.rate, name="drop")(pooled, deterministic=not train)
        return nn.Dense(3, name="dense")(pooled)


class Halves(nn.Module):
    """The two methods of `from_methods`, with any layer after the convolution."""

    layer: nn.Module
    settings: tuple = ()

    def setup(self):
        self.conv = nn.Conv(4, (3, 3))
        self.dense = nn.Dense(3)

    def features(self, images):
        return self.layer(self.conv(images), **dict(self.settings))

    def head(self, maps):
        return self.dense(maps.mean((1, 2)))

    def __call__(self, images):
        return self.head(self.features(images))


class Noise(nn.Module):
    """What draws by itself, without any of the words for a mode."""

    @nn.compact
    def __call__(self, maps):
        return maps + jax.random.normal(self.make_rng("noise"), maps.shape)


class BatchCentred(nn.Module):
    """What looks at the batch without writing a thing; only its field says so."""

    training: bool = True

    def __call__(self, maps):
        return maps - maps.mean(0, keepdims=True) if self.training else maps


def halves(layer, images, **settings):
    module = Halves(layer, tuple(settings.items()))
    keys = {name: jax.random.key(0) for name in ("params", "dropout", "noise")}
    return module, module.init(keys, jnp.asarray(images))


@pytest.fixture(scope="module")
def normed(pictures):
    module = Normed()
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, jnp.asarray(pictures))
    # Statistics that no batch has: with those of the batch, results differ.
    moved = jax.tree.map(lambda leaf: leaf + 0.3, variables["batch_stats"])
    return module, {**variables, "batch_stats": moved}


def test_a_default_that_trains_is_refused_where_the_network_is_cut():
    with pytest.raises(ValueError, match="`__call__` is called with train=True; expec"):
        split.from_linen(Normed(), "conv")
    with pytest.raises(ValueError, match=f"argument train=False.*{MEANT}"):
        split.from_linen(Normed(), "conv", train=True)
    with pytest.raises(ValueError, match="`trunk` is called with train=True"):

        class Net(toy.Halves):
            def trunk(self, images, train=True):
                return self.features(images)

        split.from_methods(Net(), features="trunk")


def test_the_argument_that_evaluates_gives_what_the_network_gives(normed, pictures):
    module, variables = normed
    model = split.from_linen(module, "conv", train=False)
    found = split.whole(model)(variables, pictures)
    expected = module.apply(variables, jnp.asarray(pictures), train=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("half", ["features", "head"])
def test_a_norm_that_trains_within_is_named_before_anything_compiles(
    normed, pictures, half
):
    _, variables = normed
    model = split.from_linen(Normed(fixed=False), "conv", train=False)
    cut = split.Features(jnp.zeros((4, 32, 32, 4)), jnp.asarray(pictures))
    with pytest.raises(ValueError, match="submodule norm runs with use_running_av"):
        jax.eval_shape(
            getattr(model, half), variables, pictures if half == "features" else cut
        )


@pytest.mark.parametrize(
    ("layer", "settings", "message"),
    [
        (
            nn.BatchNorm(),
            {"use_running_average": False},
            "use_running_average=True, as",
        ),
        (nn.BatchNorm(use_running_average=False), {}, "submodule layer runs with use_"),
        (nn.Dropout(0.5, deterministic=False), {}, "deterministic=True, as a field"),
        (nn.Dropout(0.5), {"deterministic": False}, "layer runs with deterministic=F"),
        (Noise(), {}, 'draws.*"noise".*expected'),
        (BatchCentred(), {}, "training=False, as a field"),
        (
            nn.SpectralNorm(nn.Dense(4)),
            {"update_stats": True},
            "it writes.*batch_stats",
        ),
        (nnx.bridge.ToLinen(nnx.BatchNorm, (4,)), {}, "use_running_average=True"),
    ],
)
@pytest.mark.parametrize("keys", [False, True])
def test_layers_of_linen_that_train_are_refused(
    pictures, layer, settings, message, keys
):
    module, variables = halves(layer, pictures, **settings)
    given: dict[str, Any] = {}
    if keys:
        given["rngs"] = {name: jax.random.key(0) for name in ("dropout", "noise")}
    model = split.from_methods(module, **given)
    with pytest.raises(ValueError, match=f"`Halves` is in training mode: .*{message}"):
        jax.eval_shape(model.features, variables, pictures)
    with pytest.raises(ValueError, match=MEANT):
        saliency.grad_cam(model)(variables, pictures, jnp.zeros(4, jnp.int32))


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        (nn.BatchNorm(), {"use_running_average": True}),
        (nn.BatchNorm(use_running_average=True), {}),
        (nn.Dropout(0.5), {"deterministic": True}),
        (nn.Dropout(0.0, deterministic=False), {}),
        (nn.SpectralNorm(nn.Dense(4)), {"update_stats": False}),
        (nn.MultiHeadDotProductAttention(2), {}),
        (BatchCentred(training=False), {}),
        (
            nnx.bridge.ToLinen(
                nnx.BatchNorm, (4,), nn.FrozenDict(use_running_average=True)
            ),
            {},
        ),
    ],
)
def test_layers_of_linen_that_evaluate_are_taken(pictures, layer, settings):
    module, variables = halves(layer, pictures, **settings)
    shape = jax.eval_shape(split.from_methods(module).features, variables, pictures)
    assert shape.maps.shape == (4, 32, 32, 4)


def test_a_mutable_collection_is_refused():
    with pytest.raises(ValueError, match=r"`mutable`=\['batch_stats'\] is for"):
        split.from_linen(Normed(), "conv", train=False, mutable=["batch_stats"])
    split.from_linen(Normed(), "conv", train=False, mutable=False)


def test_training_that_is_meant_is_that_of_flax(normed, pictures):
    module, variables = normed
    images = jnp.asarray(pictures)
    model = split.from_linen(module, "conv", train=True, allow_training=True)
    whole = split.whole(model)
    before = jax.tree.map(np.array, variables)

    def draw(seed):
        return whole({**variables, "rngs": {"dropout": jax.random.key(seed)}}, images)

    for seed in (1, 2):
        expected, _ = module.apply(
            variables,
            images,
            train=True,
            rngs={"dropout": jax.random.key(seed)},
            mutable=["batch_stats"],
        )
        np.testing.assert_allclose(draw(seed), expected, atol=1e-6)
    assert not np.allclose(draw(1), draw(2))
    # Another key is another draw of the same program.
    assert model.features._cache_size() == 1
    jax.tree.map(np.testing.assert_array_equal, variables, before)


class Net(nnx.Module):
    """Halves with a norm in a list, dropout, and room for one more layer."""

    def __init__(self, extra=None, rate=0.5, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(4, rngs=rngs)])
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)
        self.extra = extra

    def features(self, images):
        maps = nnx.relu(self.norms[0](self.conv(images)))
        return maps if self.extra is None else self.extra(maps)

    def head(self, maps):
        return self.out(self.drop(maps.mean((1, 2))))


class Switched(Net):
    """Calls that decide about the mode, whatever the attributes say."""

    def features(self, images, train=False):
        return self.norms[0](self.conv(images), use_running_average=not train)

    def head(self, maps, train=False):
        return self.out(self.drop(maps.mean((1, 2)), deterministic=not train))


class Drawing(nnx.Module):
    """What draws by itself, without any of the words for a mode."""

    def __init__(self):
        self.rngs = nnx.Rngs(noise=3)

    def __call__(self, maps):
        return maps + self.rngs.noise.normal(maps.shape)


class Centred(nnx.Module):
    """What looks at the batch without writing a thing; only its attribute says so."""

    def __init__(self):
        self.training = True

    def __call__(self, maps):
        return maps - maps.mean(0, keepdims=True) if self.training else maps


class Sowing(nnx.Module):
    def __call__(self, maps):
        self.sow(nnx.Intermediate, "seen", maps.mean())
        return maps


def wrapped(layer):
    images = jnp.zeros((1, 8, 8, 4))
    return nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(0)).lazy_init(images)


def test_nnx_as_constructed_is_refused_with_all_that_trains():
    message = r"drop.deterministic=False, norms.0.use_running_average=False.*eval\(\)"
    with pytest.raises(ValueError, match=f"{message}.*{MEANT}"):
        split.from_nnx(Net())
    harmless = Net(rate=0.0)
    harmless.norms[0].use_running_average = True
    split.from_nnx(harmless)


def test_eval_is_taken_and_gives_what_the_network_gives(pictures):
    net = Net()
    net.eval()
    images = jnp.asarray(pictures)
    model, variables = split.from_nnx(net)
    found = split.whole(model)(variables, images)
    np.testing.assert_allclose(found, net.head(net.features(images)), atol=1e-6)
    alone = split.whole(model)(variables, images[:1])
    np.testing.assert_allclose(alone, found[:1], atol=1e-6)


def test_an_argument_decides_against_the_attributes(pictures):
    net = Switched()
    model, variables = split.from_nnx(net)
    split.check_batch(model, variables, pictures, jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match="`features` is called with train=True"):
        split.from_nnx(net, train=True)


def spectral():
    return nnx.SpectralNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Drawing, "`features` writes extra/rngs/noise/count"),
        (spectral, ""),
        (
            lambda: wrapped(nn.BatchNorm(use_running_average=False)),
            "use_running_average=True",
        ),
        (lambda: wrapped(nn.Dropout(0.5, deterministic=False)), "deterministic=True"),
    ],
)
def test_what_eval_does_not_reach_is_seen_when_it_runs(pictures, make, message):
    extra = make()
    net = Net(extra)
    net.eval()
    if isinstance(extra, nnx.SpectralNorm):
        model, variables = split.from_nnx(net)
        jax.eval_shape(model.features, variables, pictures)
        extra.use_running_average = False
        with pytest.raises(ValueError, match=r"extra.use_running_average=False"):
            split.from_nnx(net)
        return
    model, variables = split.from_nnx(net)
    with pytest.raises(ValueError, match=f"`Net` is in training mode: .*{message}"):
        jax.eval_shape(model.features, variables, pictures)


def test_statistics_that_a_method_writes_are_named(pictures):
    class Hidden(Switched):
        def features(self, images, mode="fit"):
            return super().features(images, train=mode == "fit")

        def head(self, maps, mode="fit"):
            return super().head(maps, train=mode == "fit")

    model, variables = split.from_nnx(Hidden())
    with pytest.raises(ValueError, match=r"writes norms/0/mean, norms/0/var;"):
        jax.eval_shape(model.features, variables, pictures)
    model, variables = split.from_nnx(Hidden(), mode="look")
    split.check_batch(model, variables, pictures, jnp.zeros(4, jnp.int32))


@pytest.mark.filterwarnings("ignore:.*Module.sow:DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [
        Sowing,
        lambda: wrapped(nn.Dropout(0.5, deterministic=True)),
        lambda: nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)),
    ],
)
def test_nnx_layers_that_evaluate_are_taken(pictures, make):
    net = Net(make())
    net.eval()
    model, variables = split.from_nnx(net)
    split.check_batch(model, variables, pictures, jnp.zeros(4, jnp.int32))


def test_an_attribute_that_eval_does_not_know_is_named():
    net = Net(Centred())
    net.eval()
    with pytest.raises(ValueError, match=r": extra.training=True; .*does not set, set"):
        split.from_nnx(net)


@pytest.mark.exhaustive
def test_nnx_training_that_is_meant_is_that_of_nnx(pictures):
    images, net = jnp.asarray(pictures), Net()
    model, variables = split.from_nnx(net, allow_training=True)
    whole = split.whole(model)
    first = whole(variables, images)
    np.testing.assert_array_equal(first, whole(variables, images))
    nnx.reseed(net, default=7, policy="scalars_only")
    other = nnx.state(net)
    second = whole(other, images)
    assert not np.allclose(second, first)
    expected = net.head(net.features(images))
    np.testing.assert_allclose(second, expected, atol=1e-6)
    assert model.features._cache_size() == 1

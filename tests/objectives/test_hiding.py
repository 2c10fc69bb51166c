"""Attention-based dropout and hidden patches, by closed forms of tiny networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unlir_jax import objectives
from unlir_jax.objectives import network
from unlir_jax.objectives.adl import drop_mask, importance_map
from unlir_jax.objectives.hide_and_seek import hidden
from unlir_jax.objectives.objective import Apply
from unlir_jax.runtime import mesh

RANDOM = np.random.default_rng(3)
CLASSES, KEY = 3, jax.random.key(2)
MAPS = RANDOM.normal(size=(4, 5, 3, 6)).astype("f")
KERNEL = RANDOM.normal(size=(3, CLASSES)).astype("f")
VARIABLES = {"params": {"dense": {"kernel": KERNEL}}}
GREY = 0.5, 0.25, 0.75


class Twice(nn.Module):
    """Doubles pixels twice, and classifies their means."""

    def setup(self):
        self.inner, self.vector = Double(), Double()
        self.dense = nn.Dense(CLASSES, use_bias=False)

    def features(self, images, train=False):
        return 2 * self.inner(images)

    def head(self, maps, train=False):
        return self.dense(self.vector(maps.mean((1, 2))) / 2)

    def __call__(self, images, train=False):
        return self.head(self.features(images))


class Double(nn.Module):
    def __call__(self, values):
        return 2 * values


APPLY = network.whole(Twice())


def batch(rows=8, side=6):
    return {
        "image": np.random.default_rng(5)
        .uniform(0.1, 1, (rows, side, side, 3))
        .astype("f"),
        "label": (np.arange(rows) % CLASSES).astype(np.int32),
        "weight": np.ones(rows, np.float32),
        "position": np.arange(rows, dtype=np.int32),
    }


def loss_of(maps, labels):
    logits = maps.astype(np.float64).mean((1, 2)) @ KERNEL
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


def selected(maps, drop, threshold=0.8):
    """Follow the paper with a loop over images."""
    found = []
    for each in maps.astype(np.float64):
        attention = each.mean(-1)
        importance = 1 / (1 + np.exp(-attention))
        mask = np.where(attention < threshold * attention.max(), 1, 0)
        found.append(each * (mask if drop else importance)[..., None])
    return np.stack(found)


def test_the_two_maps_are_those_of_the_paper():
    for drop, found in ((True, drop_mask(MAPS)), (False, importance_map(MAPS))):
        np.testing.assert_allclose(
            MAPS * found, selected(MAPS, drop), rtol=1e-5, atol=1e-6
        )
    # A threshold of 1 drops the largest alone, and of 0 all that is positive.
    assert (drop_mask(np.abs(MAPS), 1.0) == 0).sum() == len(MAPS)
    assert not drop_mask(np.abs(MAPS), 0.0).any()


@pytest.mark.parametrize("drop", [True, False])
def test_dropout_by_attention_behind_the_last_maps_and_within(drop):
    rows = batch()
    images, labels = rows["image"], rows["label"]
    settings = {"drop_rate": float(drop), "threshold": 0.6}
    objective = objectives.adl(APPLY, CLASSES, **settings)
    found = jax.jit(objective.train)(VARIABLES, rows, KEY)
    expected = loss_of(selected(4 * images, drop, 0.6), labels)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5, atol=1e-6)
    both = objectives.adl(APPLY, CLASSES, layers=("inner", "features"), **settings)
    within = 2 * selected(2 * images, drop, 0.6)
    expected = loss_of(selected(within, drop, 0.6), labels)
    found = both.train(VARIABLES, rows, KEY)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5, atol=1e-6)
    # Evaluation is that of the network as it is.
    found = objective.evaluate(VARIABLES, rows)
    np.testing.assert_allclose(
        found["loss"], loss_of(4 * images, labels), rtol=1e-5, atol=1e-6
    )


def test_a_step_draws_once_for_all_rows_with_the_rate_that_is_asked_for():
    rows = batch()
    train = jax.jit(objectives.adl(APPLY, CLASSES, drop_rate=0.75).train)
    sides = [
        loss_of(selected(4 * rows["image"], drop), rows["label"])
        for drop in (False, True)
    ]
    drawn = []
    for number in range(60):
        loss = train(VARIABLES, rows, jax.random.fold_in(KEY, number)).loss
        near = [np.allclose(loss, side, rtol=1e-4) for side in sides]
        assert sum(near) == 1
        drawn.append(near[1])
    assert abs(np.mean(drawn) - 0.75) < 4 * (0.75 * 0.25 / 60) ** 0.5


def test_layers_that_cannot_be_dropped_behind():
    rows = batch()
    for layers, message in (
        (("layer9",), "`layers` has 'layer9', which is no layer that the network"),
        (
            "vector",
            r"`layers` has 'vector', which gives \(8, 3\); expected layers with",
        ),
    ):
        objective = objectives.adl(APPLY, CLASSES, layers=layers)
        with pytest.raises(ValueError, match=message):
            objective.train(VARIABLES, rows, KEY)


SIDE = 40
HIDDEN = jax.jit(hidden, static_argnames=("patches", "share", "colour"))


def test_patches_of_a_grid_are_hidden_with_the_share_that_is_asked_for():
    images = RANDOM.uniform(0.8, 1, (64, SIDE, 30, 3)).astype("f")
    keys = jax.random.split(KEY, 64)
    found = HIDDEN(keys, images, patches=(16,), share=0.3, colour=GREY)
    lost = (np.asarray(found) == np.asarray(GREY, "f")).all(-1)
    np.testing.assert_array_equal(np.asarray(found)[~lost], images[~lost])
    # Three rows of patches, the last of 8 pixels, and two columns, the last of 14.
    shares = []
    for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
        for columns in (slice(0, 16), slice(16, 30)):
            share = lost[:, rows, columns].mean((1, 2))
            assert set(share) == {0.0, 1.0}
            shares.append(share.mean())
    assert abs(np.mean(shares) - 0.3) < 4 * (0.3 * 0.7 / (64 * 6)) ** 0.5


def test_each_image_draws_the_side_of_its_patches():
    images = np.ones((64, SIDE, SIDE, 3), np.float32)
    keys = jax.random.split(KEY, 64)
    found = HIDDEN(keys, images, patches=(0, SIDE), share=1.0, colour=GREY)
    whole = np.asarray(found == 1).all((1, 2, 3))
    assert (np.asarray(found[~whole]) == np.asarray(GREY, "f")).all()
    assert abs(whole.mean() - 0.5) < 4 * 0.5 / 64**0.5


def test_hidden_images_are_what_a_network_learns_from():
    """A network whose statistics are the images that it was given."""
    rows = batch()

    def train(variables, images, key):
        return images.mean((1, 2)) @ KERNEL, images

    apply = Apply(train, lambda v, x: x.mean((1, 2)) @ KERNEL, mean=GREY)
    objective = objectives.hide_and_seek(apply, CLASSES, patches=(2, 3))
    step = jax.jit(objective.train)
    found = step(VARIABLES, rows, KEY)
    seen = np.asarray(found.statistics)
    np.testing.assert_allclose(found.loss, loss_of(seen, rows["label"]), atol=1e-6)
    assert (seen == np.asarray(GREY, "f")).all(-1).any((1, 2)).mean() > 0.5
    order = np.asarray([5, 1, 0, 2, 3, 4, 6, 7])
    turned = step(VARIABLES, {n: each[order] for n, each in rows.items()}, KEY)
    np.testing.assert_array_equal(turned.statistics, seen[order])
    found = objective.evaluate(VARIABLES, rows)["loss"]
    np.testing.assert_allclose(found, loss_of(rows["image"], rows["label"]), atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["adl", "hide_and_seek"])
def test_devices_hide_the_same(name):
    settings = {"patches": (2,), "colour": GREY} if name == "hide_and_seek" else {}
    objective = objectives.OBJECTIVES[name](APPLY, CLASSES, **settings)
    rows = batch()

    def run(laid):
        def measure(known, rows):
            loss = objective.train(known, rows, KEY).loss
            return mesh.every_row(loss, laid.axis_name)

        known, dealt = mesh.put_state(laid, VARIABLES), mesh.put_batch(laid, rows)
        return mesh.compile_measure(laid, measure)(known, dealt)

    alone = run(mesh.layout(devices=jax.devices()[:1]))
    for mode in ("jit", "pmap"):
        np.testing.assert_allclose(run(mesh.layout(mode)), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adl", {"drop_rate": 1.5}, r"`drop_rate`=1\.5; expected a share"),
        ("adl", {"threshold": float("nan")}, "`threshold`=nan"),
        ("hide_and_seek", {"patches": (-1,)}, r"`patches`=\(-1,\); expected sides"),
        ("hide_and_seek", {"patches": ()}, r"`patches`=\(\)"),
        ("hide_and_seek", {"share": -0.1}, r"`share`=-0\.1"),
        ("hide_and_seek", {}, r"`colour`=\(\); expected three numbers"),
        (
            "hide_and_seek",
            {"colour": (0.0, 0.0, 255.0)},
            r"`colour`=\(0\.0, 0\.0, 255\.0\)",
        ),
    ],
)
def test_wrong_settings_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        objectives.OBJECTIVES[name](APPLY, CLASSES, **settings)
    kept = APPLY._replace(inputs="features", mean=GREY)
    with pytest.raises(ValueError, match=f"{name}' needs pixels"):
        objectives.OBJECTIVES[name](kept, CLASSES)


def test_gradients_flow_through_what_is_left():
    """The slope of a dropped cell is 0, of the others that of the plain loss."""
    rows = batch(4)
    objective = objectives.adl(APPLY, CLASSES, drop_rate=1.0)

    def total(images):
        return objective.train(VARIABLES, rows | {"image": images}, KEY).loss.sum()

    slope = jax.jit(jax.grad(total))(jnp.asarray(rows["image"]))
    kept = np.asarray(drop_mask(rows["image"]))[..., 0]
    np.testing.assert_array_equal((np.asarray(slope) != 0).all(-1), kept == 1)

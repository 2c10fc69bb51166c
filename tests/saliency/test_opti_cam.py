import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy
from flax import linen as nn

from unlir_jax import maps, saliency, split

LABELS = jnp.asarray([0, 3, 1, 2])


@pytest.fixture(scope="module")
def model(pictures):
    module = toy.Plain()
    variables = jax.tree.map(
        lambda leaf: 2 * leaf, toy.random_variables(module, pictures)
    )
    return split.from_linen(module, "conv1"), variables


def masked_logits(cut, variables, images, labels, found, mode="range"):
    mask = maps.normalize(maps.resize(found, images.shape[1:3]), mode)

    def logits(mask):
        masked = maps.apply_mask(images, mask)
        return split.whole(cut)(variables, masked)[jnp.arange(len(labels)), labels]

    return logits(mask), logits(1 - mask)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_float64_trajectory_to_1e_10(x64, loop):
    golden = toy.golden()
    _, cut = toy.golden_models()
    images, labels = jnp.asarray(golden["x"]), jnp.asarray(golden["target"])
    for steps in (0, 1, 10, 100):
        found = saliency.opti_cam(cut, steps=steps, loop=loop)(golden, images, labels)
        inside, _ = masked_logits(cut, golden, images, labels, found)
        expected = golden["relu2_opti_cam_logit"][:, steps]
        np.testing.assert_allclose(inside, expected, atol=1e-10, rtol=0)
    np.testing.assert_allclose(found, golden["relu2_opti_cam_map"], atol=1e-10)


def objective_value(name, clean, inside, outside):
    """Write the paper's objectives down a second time."""
    return {
        "mask": inside,
        "diff": -abs(clean - inside),
        "iomask": inside - outside,
        "iodiff": -abs(clean - inside) + abs(clean - outside),
    }[name]


# Each objective, and each way to normalise.
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("objective", "normalization"),
    tiers.by_tier(
        [
            *(("mask", "range"), ("diff", "range"), ("iomask", "range")),
            *(("iodiff", "range"), ("mask", "max"), ("iodiff", "sigmoid")),
        ],
        1,
    ),
)
def test_every_objective_is_climbed(model, pictures, objective, normalization):
    cut, variables = model
    clean = split.whole(cut)(variables, pictures)[jnp.arange(4), LABELS]
    values = []
    for steps in (0, 20):
        explain = saliency.opti_cam(
            cut, steps=steps, objective=objective, normalization=normalization
        )
        found = explain(variables, pictures, LABELS)
        inside, outside = masked_logits(
            cut, variables, jnp.asarray(pictures), LABELS, found, normalization
        )
        values.append(objective_value(objective, clean, inside, outside))
    assert (values[1] > values[0]).all()


@pytest.fixture(scope="module")
def many(pictures):
    """Cut a network of more filters than cells, as last layers are."""
    module = Many()
    return split.from_linen(module, "conv"), toy.random_variables(module, pictures)


class Many(nn.Module):
    """Sixty-four maps of 16 cells."""

    @nn.compact
    def __call__(self, images):
        side = images.shape[1] // 4
        found = nn.relu(
            nn.Conv(64, (side, side), (side, side), name="conv")(images - 0.5)
        )
        found = nn.relu(nn.Conv(32, (2, 2), name="second")(found))
        return nn.Dense(5, name="dense")(jnp.mean(found, (1, 2)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("normalization", ["range"])
def test_projected_climbs_as_high_as_adam_in_fewer_passes(
    many, pictures, normalization
):
    cut, variables = many

    def value(**settings):
        explain = saliency.opti_cam(cut, normalization=normalization, **settings)
        found = explain(variables, pictures, LABELS)
        images = jnp.asarray(pictures)
        return masked_logits(cut, variables, images, LABELS, found, normalization)[0]

    start, slow = value(steps=0), value(steps=30)
    fast = value(steps=12, learning_rate=0.2, solver="projected")
    assert (slow > start).all() and (fast > start).all()
    assert fast.mean() >= slow.mean()


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", ["projected"])
def test_a_map_does_not_depend_on_its_neighbours(x64, model, pictures, solver):
    cut, variables = model
    # In float64, as a search makes much of roundings.
    variables, pictures = jax.tree.map(np.float64, (variables, pictures))
    # A coarse tolerance, so that the images stop at different steps.
    explain = saliency.opti_cam(cut, steps=30, tolerance=2e-4, solver=solver)
    together = explain(variables, pictures, LABELS)
    for index in range(4):
        part = slice(index, index + 1)
        alone = explain(variables, pictures[part], LABELS[part])
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-4)
    turned = explain(variables, pictures[::-1], LABELS[::-1])
    np.testing.assert_allclose(turned[::-1], together, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", ["host", "device"])
@pytest.mark.parametrize("solver", ["adam", "projected"])
def test_an_image_that_has_converged_stays(model, pictures, solver, loop):
    cut, variables = model

    def found(**settings):
        explain = saliency.opti_cam(cut, loop=loop, solver=solver, **settings)
        return explain(variables, pictures, LABELS)

    # Every change is below this tolerance, so the second step is never taken. Both run
    # the same programs, whose roundings are the same on every processor.
    np.testing.assert_array_equal(found(steps=9, tolerance=1e9), found(steps=1))
    assert (found(steps=9) != found(steps=1)).any((1, 2)).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", ["adam", "projected"])
def test_host_and_device_agree(x64, model, pictures, solver):
    """Two programs round differently; a search carries that on, as any change."""
    cut, variables = model
    variables, pictures = jax.tree.map(np.float64, (variables, pictures))

    def search(loop):
        return saliency.opti_cam(cut, steps=10, solver=solver, loop=loop)

    host = search("host")(variables, pictures, LABELS)
    # Far more than a rounding, and far too little for a ReLU or a maximum to tip.
    moved = search("host")(variables, pictures * (1 + 1e-12), LABELS)
    tolerance = np.abs(moved - host).max()
    assert 0 < tolerance < 1e-8
    for explain in (search("device"), jax.jit(search("auto"))):
        found = explain(variables, pictures, LABELS)
        np.testing.assert_allclose(found, host, rtol=0, atol=tolerance)


def test_the_host_cannot_drive_a_compiled_loop(model, pictures):
    cut, variables = model
    explain = saliency.opti_cam(cut, steps=2, loop="host")
    with pytest.raises(ValueError, match="'auto' or 'device'"):
        jax.jit(explain)(variables, pictures, LABELS)


@pytest.mark.parametrize("solver", tiers.by_tier(["adam", "projected"], {"adam"}))
def test_a_map_is_a_convex_combination(model, pictures, solver):
    cut, variables = model
    stack = cut.features(variables, pictures).maps
    explain = saliency.opti_cam(cut, steps=15, solver=solver)
    found = explain(variables, pictures, LABELS)
    assert (found <= stack.max(-1) + 1e-5).all()
    assert (found >= stack.min(-1) - 1e-5).all()
    explain = saliency.opti_cam(cut, steps=0, solver=solver)
    start = explain(variables, pictures, LABELS)
    np.testing.assert_allclose(start, stack.mean(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", tiers.by_tier(["adam", "projected"], {"adam"}))
def test_flat_maps_give_no_nan(pictures, solver):
    flat = split.from_functions(
        lambda v, images: 0 * images, lambda v, maps_: maps_.mean((1, 2))
    )
    explain = saliency.opti_cam(flat, steps=3, solver=solver)
    found = explain({}, jnp.asarray(pictures), LABELS % 3)
    assert (found == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "logit"}, "'mask', 'diff', 'iomask', 'iodiff'"),
        ({"normalization": "minmax"}, "'range', 'max', 'sigmoid'"),
        ({"steps": -1}, "0 or more"),
        ({"learning_rate": 0.0}, "more than 0"),
        ({"solver": "sgd"}, "`solver`='sgd' is unknown; expected one of .'adam'"),
        (
            {"solver": "projected", "normalization": "sigmoid"},
            "expected 'range' or 'max', or `solver`='adam'",
        ),
    ],
)
def test_wrong_settings_are_refused(unchecked, model, settings, message):
    with pytest.raises(ValueError, match=message):
        saliency.opti_cam(model[0], **settings)


def test_an_unknown_loop_is_refused(unchecked, model, pictures):
    cut, variables = model
    with pytest.raises(ValueError, match="'auto', 'host', 'device'"):
        saliency.opti_cam(cut, loop="gpu")(variables, pictures, LABELS)

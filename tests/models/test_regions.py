import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import close
from jax.test_util import check_grads

from unlir_jax.core import random_keys
from unlir_jax.models.part_network import regions

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(2, 4, 5, 3)).astype(np.float32)
# Inside the picture, of all sizes, on no line where the slope jumps.
BOXES = np.array(
    [[0.11, 0.07, 0.92, 0.85], [0.3, 0.4, 0.45, 0.55], [0.02, 0.61, 0.33, 0.97]],
    np.float32,
)


def slow_align(maps, box, size, samples):
    """Look every sample up by itself, in the words of the convention."""
    rows, columns, channels = maps.shape
    x0, y0, x1, y1 = box.astype(np.float64)
    result = np.zeros((size, size, channels))
    for i, j in np.ndindex(size * samples, size * samples):
        y = (y0 + (i + 0.5) * (y1 - y0) / (size * samples)) * rows - 0.5
        x = (x0 + (j + 0.5) * (x1 - x0) / (size * samples)) * columns - 0.5
        y, x = np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)
        up, left = int(y), int(x)
        down, right = min(up + 1, rows - 1), min(left + 1, columns - 1)
        above = (1 - x + left) * maps[up, left] + (x - left) * maps[up, right]
        below = (1 - x + left) * maps[down, left] + (x - left) * maps[down, right]
        value = (1 - y + up) * above + (y - up) * below
        result[i // samples, j // samples] += value / samples**2
    return result


def test_cells_are_the_maps_row_by_row():
    found = regions.windows(MAPS, (1,))
    np.testing.assert_array_equal(found.descriptors, MAPS.reshape(2, 20, 3))
    assert found.boxes.shape == (20, 4)
    close(found.boxes[0], [0, 0, 1 / 5, 1 / 4])
    close(found.boxes[6], [1 / 5, 1 / 4, 2 / 5, 2 / 4])
    close(found.boxes[-1], [4 / 5, 3 / 4, 1, 1])


def test_windows_of_seven_by_seven_cells():
    found = regions.windows(np.zeros((1, 7, 7, 2), np.float32), (1, 2, 3, 4))
    assert found.descriptors.shape == (1, 49 + 36 + 25 + 16, 2)
    assert found.boxes.shape == (126, 4)


def test_windows_against_a_slow_loop():
    found = regions.windows(MAPS, (3, 1, 2))
    place = 0
    for size in (3, 1, 2):
        for i, j in np.ndindex(4 - size + 1, 5 - size + 1):
            inside = MAPS[:, i : i + size, j : j + size]
            close(found.descriptors[:, place], inside.mean((1, 2)))
            expected = [j / 5, i / 4, (j + size) / 5, (i + size) / 4]
            close(found.boxes[place], expected)
            place += 1
    assert place == found.descriptors.shape[1] == found.boxes.shape[0]


def test_boxes_of_windows_lie_in_the_picture():
    for rows, columns in ((3, 7), (6, 11), (13, 14)):
        boxes = regions.windows(np.zeros((1, rows, columns, 1), "f"), (1, 2, 3)).boxes
        assert boxes.min() == 0 and boxes.max() == 1


def test_halves_are_averaged_in_float32():
    halves = jnp.asarray(MAPS, jnp.bfloat16)
    found = regions.windows(halves, (2,)).descriptors
    assert found.dtype == jnp.float32
    wide = np.asarray(halves, np.float32)
    close(found, regions.windows(wide, (2,)).descriptors)


@pytest.mark.exhaustive
def test_roi_align_by_hand():
    # Cells 0, 1, 2, 3 in a row, whose centres are 1/8, 3/8, 5/8 and 7/8.
    maps = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    boxes = np.array([[0.25, 0, 0.75, 1], [0, 0, 0.5, 1], [0.5, 0.3, 0.5, 0.4]], "f")
    # One sample in the middle is at 1.5, at 0.5, and at 1.5 again.
    close(regions.roi_align(maps, boxes, samples=1)[0, :, 0], [1.5, 0.5, 1.5])
    # Two bins along each side: samples at 3/8 and 5/8; at 1/8 and 3/8.
    bins = regions.roi_align(maps, boxes[:2], size=2, samples=1)
    assert bins.shape == (1, 2, 2, 2, 1)
    close(bins[0, :, :, :, 0], [[[1, 2], [1, 2]], [[0, 1], [0, 1]]])
    # Before the first centre the map goes on: samples at cells 0 (not -1/4) and 1/4.
    edge = np.array([[0, 0, 0.25, 1]], np.float32)
    close(regions.roi_align(maps, edge)[0, 0, 0], 0.125)


@pytest.mark.parametrize("size, samples", [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_roi_align_against_a_slow_loop(size, samples):
    actual = regions.roi_align(MAPS, BOXES, size, samples)
    for i, maps in enumerate(MAPS):
        for j, box in enumerate(BOXES):
            expected = slow_align(maps, box, size, samples)
            close(actual[i, j], expected if size > 1 else expected[0, 0])


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1, 2, 3])
def test_boxes_over_windows_sampled_at_centres_are_windows(size):
    windows = regions.windows(MAPS, (size,))
    aligned = regions.roi_align(MAPS, windows.boxes, samples=size)
    close(aligned, windows.descriptors)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1, 2])
def test_boxes_of_each_picture(size):
    boxes = np.stack([BOXES, BOXES[::-1]])
    actual = regions.roi_align(MAPS, boxes, size)
    for i in range(2):
        alone = regions.roi_align(MAPS[i : i + 1], boxes[i], size)
        close(actual[i], alone[0])


def test_roi_align_is_differentiable_in_maps_and_boxes(x64):
    maps, boxes = MAPS.astype(np.float64), BOXES.astype(np.float64)
    align = jax.jit(lambda maps, boxes: regions.roi_align(maps, boxes, 2))
    check_grads(align, (maps, boxes), 1, ("rev",))


@pytest.mark.exhaustive
def test_the_slope_of_a_ramp_is_exact():
    # The map is x in cells: moving a box moves its average, whatever its size.
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32), (1, 9, 9))[..., None]
    box = np.array([[0.3, 0.3, 0.6, 0.7]], np.float32)
    slopes = jax.grad(lambda b: regions.roi_align(ramp, b)[0, 0, 0])(box)
    close(slopes, [[4.5, 0, 4.5, 0]])


def test_random_boxes_lie_in_the_picture():
    boxes = np.asarray(regions.random_boxes(jax.random.key(0), 500, 0.2, 0.7))
    assert boxes.shape == (500, 4)
    assert boxes.min() >= 0 and boxes.max() <= 1
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 0.2 - 1e-6 and sides.max() <= 0.7 + 1e-6
    # Sides of mean 0.45 and deviation 0.5 / sqrt(12); six deviations of their mean.
    close(np.abs(sides.mean(0) - 0.45) < 6 * 0.145 / np.sqrt(500), True)
    again = regions.random_boxes(jax.random.key(0), 500, 0.2, 0.7)
    np.testing.assert_array_equal(boxes, again)
    whole = regions.random_boxes(jax.random.key(1), 3, 1.0)
    np.testing.assert_array_equal(whole, [[0, 0, 1, 1]] * 3)


@pytest.mark.exhaustive
def test_random_boxes_of_each_picture():
    own = random_keys.per_image(jax.random.key(0), MAPS)
    boxes = jax.vmap(lambda key: regions.random_boxes(key, 5))(own)
    assert regions.roi_align(MAPS, boxes).shape == (2, 5, 3)
    assert not np.allclose(boxes[0], boxes[1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", [1, 4, 9, 30])
def test_first_proposals_spread_over_the_picture(count):
    proposals = regions.Proposals(count)
    maps = RANDOM.normal(size=(2, 7, 7, 3)).astype(np.float32)
    variables = proposals.init(jax.random.key(0), maps)
    boxes = np.asarray(proposals.apply(variables, maps))
    assert boxes.shape == (2, count, 4)
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert np.all(boxes[..., :2] < boxes[..., 2:])
    assert boxes.min() >= 0 and boxes.max() <= 1
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    close(centres[0], [0.5, 0.5])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    # No two are nearer than half the side of a square of their share of the picture,
    # which the soft-argmax shrinks by at most a half.
    assert np.all(apart[~np.eye(count, dtype=bool)] > 0.25 / np.sqrt(count))
    if count >= 9:
        quarters = {tuple(quarter) for quarter in (centres[1:] > 0.5).tolist()}
        assert len(quarters) == 4


@pytest.mark.exhaustive
def test_gradients_reach_all_parameters_and_the_maps():
    proposals = regions.Proposals(6)
    variables = proposals.init(jax.random.key(0), MAPS)

    def total(variables, maps):
        boxes = proposals.apply(variables, maps)
        return jnp.sum(regions.roi_align(maps, boxes, samples=3) ** 2)

    slopes, over_maps = jax.jit(jax.grad(total, (0, 1)))(variables, MAPS)
    assert set(slopes["params"]) == {"places", "sides", "queries", "kernel"}
    for name, leaf in slopes["params"].items():
        assert np.all(np.isfinite(leaf)), name
        assert np.all(np.any(np.asarray(leaf) != 0, axis=0)), name
    assert np.all(np.isfinite(over_maps))


@pytest.mark.exhaustive
def test_proposals_find_a_bright_spot():
    maps = np.ones((2, 6, 6, 2), np.float32)
    y, x = (np.mgrid[:6, :6] + 0.5) / 6
    spots = np.array([[0.7, 0.3], [0.25, 0.7]])
    for i, (across, down) in enumerate(spots):
        square = (x - across) ** 2 + (y - down) ** 2
        maps[i, ..., 0] = 5 * np.exp(-square / 0.08)
    proposals = regions.Proposals(2)
    variables = proposals.init(jax.random.key(0), maps)

    optimizer = optax.adam(0.1)
    state = optimizer.init(variables)

    @jax.jit
    def step(variables, state):
        def loss(variables):
            boxes = proposals.apply(variables, maps)
            return -jnp.mean(regions.roi_align(maps, boxes, samples=4)[..., 0])

        changes, state = optimizer.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, changes), state

    for _ in range(60):
        variables, state = step(variables, state)
    boxes = np.asarray(proposals.apply(variables, maps))
    assert boxes.min() >= 0 and boxes.max() <= 1
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert np.abs(centres - spots[:, None]).max() < 1 / 12


@pytest.mark.exhaustive
def test_the_order_of_pictures_does_not_matter():
    proposals = regions.Proposals(3)
    variables = proposals.init(jax.random.key(0), MAPS)
    variables = jax.tree.map(
        lambda leaf: leaf + RANDOM.normal(size=leaf.shape).astype("f"), variables
    )
    boxes = proposals.apply(variables, MAPS)
    assert not np.allclose(boxes[0], boxes[1])
    close(proposals.apply(variables, MAPS[::-1])[::-1], boxes)
    close(proposals.apply(variables, MAPS[1:])[0], boxes[1])


def propose(**settings):
    return regions.Proposals(**settings).init(jax.random.key(0), MAPS)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: regions.windows(MAPS[0]), "expected \\[batch, rows"),
        (lambda: regions.windows(MAPS, (1, 5)), "from 1 to 4"),
        (lambda: regions.windows(MAPS, (0,)), "from 1 to 4"),
        (lambda: regions.windows(MAPS, ()), "one or more"),
        (lambda: regions.roi_align(MAPS, BOXES[:, :3]), "x0, y0, x1, y1"),
        (lambda: regions.roi_align(MAPS, BOXES[0]), "\\[regions, 4\\]"),
        (lambda: regions.roi_align(MAPS, BOXES[None]), "\\[2, regions, 4\\]"),
        (lambda: regions.roi_align(MAPS, BOXES, 0), "`size`=0"),
        (lambda: regions.roi_align(MAPS, BOXES, 1, 0), "`samples`=0"),
        (lambda: regions.random_boxes(jax.random.key(0), 0), "`count`=0"),
        (lambda: regions.random_boxes(jax.random.key(0), 1, 0.5, 0.4), "`smallest`"),
        (lambda: regions.random_boxes(jax.random.key(0), 1, 0.5, 1.1), "`largest`"),
        (lambda: propose(count=0), "`count`=0"),
        (lambda: propose(count=2, start=0.05), "`start`=0.05"),
        (lambda: propose(count=2, reach=0.0), "`reach`=0.0"),
    ],
)
def test_bad_input_is_refused(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()

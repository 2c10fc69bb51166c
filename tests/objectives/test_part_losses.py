import functools
import inspect
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from helpers import close
from jax.test_util import check_grads

from unlir_jax.objectives import losses as eager
from unlir_jax.objectives.losses import Transform

# As trainings call them, in one program; each operation alone is one to compile, too.
STATIC = ("axis_name", "by", "classes", "parts", "temperature", "transform")
ONES = {
    name: getattr(eager, name)
    for name in (
        *("balance", "binarise", "binary_penalty", "block_assignment", "consistency"),
        *("class_specificity", "concentration", "decisiveness", "diversity"),
        *("equivariance", "orthogonality", "presence", "weighted_total"),
    )
}


def static(function):
    """Name the arguments that are settings; parts of `diversity` are an array."""
    known = inspect.signature(function).parameters
    return [n for n in STATIC if n in known and function is not eager.diversity]


losses = types.SimpleNamespace(
    **{name: jax.jit(f, static_argnames=static(f)) for name, f in ONES.items()}
)

RANDOM = np.random.default_rng(0)
ORDER = np.array([2, 0, 3, 1])

# Four pictures of 3 x 5 cells and 4 parts, 6 channels, two classes of two pictures.
LOGITS = RANDOM.normal(0, 2, (4, 3, 5, 4)).astype(np.float32)
SHARES = np.asarray(jax.nn.softmax(LOGITS, axis=-1))
DESCRIPTORS = RANDOM.normal(size=(4, 4, 6)).astype(np.float32)
PRESENT = RANDOM.uniform(size=(4, 4)).astype(np.float32)
LABELS = np.array([1, 0, 0, 1], np.int32)
WEIGHT = np.array([1.0, 0.5, 0.0, 2.0], np.float32)
KERNEL = RANDOM.normal(size=(4, 3)).astype(np.float32)

SHIFT = Transform(down=1, right=-2)
OF_SHARES = {
    "decisiveness": losses.decisiveness,
    "balance": losses.balance,
    "presence": losses.presence,
    "concentration": losses.concentration,
    "concentration by mass": functools.partial(losses.concentration, by="mass"),
    "equivariance": lambda shares: losses.equivariance(shares, SHARES, SHIFT),
    "equivariance of the other": lambda s: losses.equivariance(SHARES, s, SHIFT),
}
OF_DESCRIPTORS = {
    "orthogonality": losses.orthogonality,
    "diversity": lambda vectors: losses.diversity(vectors[0]),
    "consistency": lambda vectors: losses.consistency(vectors, LABELS),
}


def slope(function, *inputs):
    """Differentiate sums, and see that no value or slope is anything but finite."""
    differentiate = jax.jit(jax.value_and_grad(lambda v: jnp.sum(function(v))))
    for values in inputs:
        value, slopes = differentiate(values.astype(np.float32))
        assert np.isfinite(value)
        assert np.all(np.isfinite(slopes))
    return np.asarray(slopes)


def test_diversity_by_hand():
    root = math.sqrt(0.5)
    parts = np.array([[3, 0], [0, 0.1], [2, 2]], np.float32)
    # Cosines 0, root and root, each twice, among 3 x 2 ordered pairs.
    close(losses.diversity(parts), 4 * root**2 / 6)
    close(losses.diversity(np.eye(3, dtype=np.float32)), 0)
    close(losses.diversity(np.array([[1, 2], [-2, -4], [3, 6]], np.float32)), 1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_diversity_knows_no_size(size):
    parts = DESCRIPTORS[0]
    close(losses.diversity(size * parts), losses.diversity(parts))
    slope(losses.diversity, size * parts)


def test_a_part_of_zeros_is_orthogonal_to_all():
    parts = np.array([[0, 0], [1, 0], [1, 0]], np.float32)
    close(losses.diversity(parts), (1 + 1 + 1) / 6)
    np.testing.assert_array_equal(slope(losses.diversity, parts)[0], [0, 0])


def test_orthogonality_is_the_diversity_of_each_picture():
    expected = [losses.diversity(vectors) for vectors in DESCRIPTORS]
    close(losses.orthogonality(DESCRIPTORS), expected)


def test_decisiveness_by_hand():
    shares = np.array([[[1, 0], [0.5, 0.5]], [[0.25, 0.75], [0, 1]]], np.float32)
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    close(losses.decisiveness(shares), [0.5, 0.5 * quarter / math.log(2)])
    regions = SHARES.reshape(4, 15, 4)
    close(losses.decisiveness(regions), losses.decisiveness(SHARES))


def test_balance_by_hand():
    shares = np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]]], np.float32)
    # Means 1/2 and 1 of the first part; weighted 2 : 1, two thirds.
    entropy = (2 * math.log(3 / 2) + math.log(3)) / 3 / math.log(2)
    close(losses.balance(shares, np.array([2, 1], np.float32)), 1 - entropy)
    close(losses.balance(shares[:1]), 0)
    close(losses.balance(shares[1:]), 1)
    close(losses.balance(shares, np.zeros(2, np.float32)), 1)


def test_class_specificity_by_hand():
    kernel = np.array([[1, -2], [3, 4], [0, 5], [-6, 0]], np.float32)
    blocks = losses.block_assignment(4, 2)
    np.testing.assert_array_equal(blocks, [[1, 0], [1, 0], [0, 1], [0, 1]])
    close(losses.class_specificity(kernel, blocks), (2 + 4 + 0 + 6) / 8)
    odds = np.array([[0, math.log(3)], [7, 7]], np.float32)
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    close(losses.class_specificity(odds), (quarter / math.log(2) + 1) / 2)
    close(
        losses.class_specificity(2 * odds, temperature=2.0),
        (quarter / 0.693147 + 1) / 2,
    )
    assert losses.class_specificity(np.array([[1e4, 0, 0]], np.float32)) == 0


def test_learned_blocks_open_for_large_weights():
    gates = np.ones((4, 3), np.float32)
    opened = slope(
        lambda g: losses.class_specificity(KERNEL, losses.binarise(g)), gates
    )
    sigmoid = 1 / (1 + math.exp(-1))
    close(opened, -np.abs(KERNEL) / 12 * sigmoid * (1 - sigmoid))


def test_binary_penalty_by_hand():
    gates = np.array([0, math.log(3), -math.log(3), 50], np.float32)
    close(losses.binary_penalty(gates), (1 / 4 + 3 / 16 + 3 / 16) / 4)
    close(losses.binary_penalty(2 * gates, 2.0), losses.binary_penalty(gates))
    slope(losses.binary_penalty, np.array([-1e4, 0, 1e4], np.float32))


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_binarise_is_binary_with_the_slope_of_a_sigmoid(temperature):
    gates = np.linspace(-20, 20, 41).astype(np.float32)
    binary = losses.binarise(gates, temperature)
    np.testing.assert_array_equal(binary, gates > 0)
    soft = jax.nn.sigmoid(gates / np.float32(temperature))
    expected = soft * (1 - soft) / temperature
    actual = slope(lambda g: losses.binarise(g, temperature), gates)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(jax.jit(eager.binarise)(gates, temperature), binary)


def test_presence_by_hand():
    shares = np.zeros((2, 3, 2), np.float32)
    shares[0, :, 0] = 0.2, 0.7, 0.1
    shares[1, :, 0] = 0.9, 0, 0
    shares[1, :, 1] = 0.1, 0.5, 0.2
    close(losses.presence(shares), 1 - (0.9 + 0.5) / 2)
    close(losses.presence(shares, np.array([0.1, 0], np.float32)), 1 - 0.7 / 2)
    close(losses.presence(shares, np.zeros(2, np.float32)), 1)


@pytest.mark.exhaustive
def test_concentration_by_hand():
    # Part 0 is half in the corners (1/4, 1/8) and (3/4, 7/8) of 2 x 4 cells; part 1 in
    # one cell; part 2 nowhere.
    shares = np.zeros((1, 2, 4, 3), np.float32)
    shares[0, 0, 0, 0] = shares[0, 1, 3, 0] = 0.5
    shares[0, 1, 2, 1] = 1
    spread = (1 / 4) ** 2 + (3 / 8) ** 2
    close(losses.concentration(shares), [0.5 * spread / 3])
    close(losses.concentration(shares, "mass"), [(1 / 8) * spread / 3])
    # All over n x n cells, the variance of a uniform distribution less that of a cell.
    uniform = np.ones((1, 10, 10, 1), np.float32)
    close(losses.concentration(uniform), [2 / 12 * (1 - 1 / 100)])


@pytest.mark.exhaustive
def test_concentration_by_mass_is_that_of_pdisconet():
    # As in the authors' code, with coordinates in cells over the number of cells.
    _, rows, columns, _ = SHARES.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    total = SHARES.sum((1, 2))
    square = 0
    for grid, size in ((y[None, ..., None], rows), (x[None, ..., None], columns)):
        centre = (SHARES * grid).sum((1, 2)) / total
        square = square + ((centre[:, None, None] - grid) / size) ** 2
    expected = (square * SHARES).mean((1, 2, 3))
    close(losses.concentration(SHARES, "mass"), expected)


@pytest.mark.exhaustive
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("down, right", [(0, 0), (1, -2), (-2, 3)])
def test_equivariance_of_what_moves_along_is_zero(flip, down, right):
    moved = SHARES[:, :, ::-1] if flip else SHARES
    moved = np.roll(moved, (down, right), axis=(1, 2)).copy()
    # What came in from outside is not compared.
    rows, columns = np.mgrid[:3, :5]
    inside = (rows >= down) & (rows < 3 + down)
    inside &= (columns >= right) & (columns < 5 + right)
    moved[:, ~inside] = np.nan
    transform = Transform(flip, down, right)
    close(losses.equivariance(SHARES, moved, transform), np.zeros(4))
    arrays = Transform(*(np.full(4, value) for value in transform))
    traced = jax.jit(eager.equivariance)(SHARES, moved, arrays)
    close(traced, np.zeros(4))


def test_equivariance_by_hand():
    # One row of three cells, flipped: (1, 2, 0) becomes (0, 2, 1).
    maps = np.array([1, 2, 0], np.float32).reshape(1, 1, 3, 1)
    others = np.array([0, 1, 1], np.float32).reshape(1, 1, 3, 1)
    cosine = 3 / math.sqrt(5 * 2)
    close(losses.equivariance(maps, others, Transform(flip=True)), [1 - cosine])
    # Moved to the right by one, cells 1 and 2 are (1, 2), beside (1, 1).
    cosine = 3 / math.sqrt(5 * 2)
    close(losses.equivariance(maps, others, Transform(right=1)), [1 - cosine])


@pytest.mark.exhaustive
def test_equivariance_by_pictures_of_their_own():
    flips, shifts = np.array([True, False, True, False]), np.array([0, 1, -1, 2])
    other = SHARES[::-1].copy()
    together = eager.equivariance(SHARES, other, Transform(flips, 0, shifts))
    for i in range(4):
        one = Transform(bool(flips[i]), 0, int(shifts[i]))
        alone = losses.equivariance(SHARES[i : i + 1], other[i : i + 1], one)
        close(together[i], alone[0])


def test_a_map_of_zeros_equals_another_only():
    empty = np.zeros((4, 3, 5, 4), np.float32)
    close(losses.equivariance(empty, empty, Transform()), np.zeros(4))
    close(losses.equivariance(SHARES, empty, Transform()), np.ones(4))


def test_consistency_by_hand():
    vectors = np.array([[[1, 0]], [[0, 5]], [[3, 3]], [[9, 1]]], np.float32)
    labels = np.array([7, 7, 2, -1], np.int32)
    apart = 1 - math.sqrt(0.5)
    close(losses.consistency(vectors, labels), [apart, apart, 0, 0])
    # With presences 1 and 1/2, the mean's direction is (2, 1).
    present = np.array([1, 0.5, 1, 1], np.float32)[:, None]
    expected = [1 - 2 / math.sqrt(5), 0.5 * (1 - 1 / math.sqrt(5)), 0, 0]
    close(losses.consistency(vectors, labels, present), expected)
    # A picture without the part, or without weight, leaves the other one alone.
    absent = np.array([1, 0, 1, 1], np.float32)
    close(losses.consistency(vectors, labels, absent[:, None]), np.zeros(4))
    close(losses.consistency(vectors, labels, None, absent), np.zeros(4))


def test_consistency_against_a_slow_loop():
    expected = np.zeros((4, 4))
    unit = DESCRIPTORS / np.linalg.norm(DESCRIPTORS, axis=-1, keepdims=True)
    for i in range(4):
        for p in range(4):
            group = [j for j in range(4) if LABELS[j] == LABELS[i] and WEIGHT[j] > 0]
            if len(group) > 1:
                mean = sum(WEIGHT[j] * PRESENT[j, p] * unit[j, p] for j in group)
                cosine = unit[i, p] @ mean / np.linalg.norm(mean)
                expected[i, p] = PRESENT[i, p] * (1 - cosine)
    actual = losses.consistency(DESCRIPTORS, LABELS, PRESENT, WEIGHT)
    counted = WEIGHT > 0
    close(np.asarray(actual)[counted], expected.mean(1)[counted])


def test_what_is_the_same_is_consistent():
    same = np.repeat(DESCRIPTORS[:1], 4, axis=0) * np.float32(3)
    close(losses.consistency(same, LABELS), np.zeros(4))


@pytest.mark.parametrize("name", tiers.by_tier(OF_SHARES, 2))
def test_terms_of_shares_do_not_know_the_order_of_parts(name):
    if "equivariance" in name:
        turned = losses.equivariance(SHARES[..., ORDER], SHARES[..., ORDER], SHIFT)
        close(turned, losses.equivariance(SHARES, SHARES, SHIFT))
    else:
        close(OF_SHARES[name](SHARES[..., ORDER]), OF_SHARES[name](SHARES))


@pytest.mark.parametrize("name", OF_SHARES)
def test_terms_of_shares_follow_the_order_of_pictures(name):
    if "equivariance" in name:
        turned = losses.equivariance(SHARES[ORDER], SHARES[::-1][ORDER], SHIFT)
        close(turned, losses.equivariance(SHARES, SHARES[::-1], SHIFT)[ORDER])
        return
    before, after = OF_SHARES[name](SHARES), OF_SHARES[name](SHARES[ORDER])
    close(after, before[ORDER] if before.ndim else before)


def test_terms_of_descriptors_do_not_know_the_order_of_parts():
    for function in OF_DESCRIPTORS.values():
        close(function(DESCRIPTORS[:, ORDER]), function(DESCRIPTORS))
    close(losses.class_specificity(KERNEL[ORDER]), losses.class_specificity(KERNEL))


def test_terms_of_descriptors_follow_the_order_of_pictures():
    before = losses.consistency(DESCRIPTORS, LABELS, PRESENT, WEIGHT)
    turned = (rows[ORDER] for rows in (DESCRIPTORS, LABELS, PRESENT, WEIGHT))
    close(losses.consistency(*turned), before[ORDER])
    turned = losses.orthogonality(DESCRIPTORS[ORDER])
    close(turned, losses.orthogonality(DESCRIPTORS)[ORDER])


@pytest.mark.parametrize("name", tiers.by_tier(OF_SHARES, 2))
def test_slopes_are_finite_where_shares_are_0_and_1(name):
    hard = np.asarray(jax.nn.one_hot(SHARES.argmax(-1), 4))
    collapsed = np.zeros_like(SHARES)
    collapsed[..., 1] = 1
    nowhere = np.zeros_like(SHARES)
    small = (1e-30 * SHARES, 1e-42 * SHARES)
    slope(OF_SHARES[name], hard, collapsed, nowhere, *small)


@pytest.mark.parametrize("name", OF_DESCRIPTORS)
def test_slopes_are_finite_where_descriptors_are_zeros(name):
    some = DESCRIPTORS.copy()
    some[0, 1] = 0
    opposite = np.concatenate([DESCRIPTORS[:2], -DESCRIPTORS[1::-1]])
    small = (1e-30 * some, 1e-42 * some)
    slope(OF_DESCRIPTORS[name], 0 * some, some, opposite, *small)


@pytest.mark.exhaustive
def test_slopes_are_the_derivatives(x64):
    @jax.jit
    def all_terms(logits, vectors, kernel):
        # Through a softmax, lest a finite difference make a share negative.
        shares = jax.nn.softmax(logits, axis=-1)
        of_shares = [function(shares) for function in OF_SHARES.values()]
        of_vectors = [function(vectors) for function in OF_DESCRIPTORS.values()]
        of_kernel = [losses.class_specificity(kernel), losses.binary_penalty(kernel)]
        return of_shares + of_vectors + of_kernel

    wide = (x.astype(np.float64) for x in (LOGITS, DESCRIPTORS, KERNEL))
    check_grads(all_terms, tuple(wide), 1, ("rev",))


@pytest.mark.exhaustive
def test_rows_without_weight_are_not_looked_at():
    broken, vectors = SHARES.copy(), DESCRIPTORS.copy()
    broken[2], vectors[2] = np.nan, np.nan
    for function in (losses.balance, losses.presence):
        close(function(broken, WEIGHT), function(SHARES, WEIGHT))
        slopes = slope(lambda s, f=function: f(s, WEIGHT), broken)
        assert not slopes[2].any()

    def total(vectors):
        rows = losses.consistency(vectors, LABELS, PRESENT, WEIGHT)
        return losses.weighted_total(rows, WEIGHT)

    close(total(vectors), total(DESCRIPTORS))
    assert not slope(total, vectors)[2].any()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["balance", "presence", "consistency"])
def test_rows_on_several_devices_give_what_they_give_on_one(name):
    """Sum gradients over devices, as `state.make_update` does."""

    def total(values, labels, present, weight, axis_name=None):
        if name == "consistency":
            rows = losses.consistency(
                values, labels, present, weight, axis_name=axis_name
            )
        else:
            one = getattr(losses, name)(values, weight, axis_name=axis_name)
            rows = jnp.broadcast_to(one, weight.shape)
        return losses.weighted_total(rows, weight)

    first = DESCRIPTORS if name == "consistency" else SHARES
    batch = (first, LABELS, PRESENT, WEIGHT)
    value, slopes = jax.value_and_grad(total)(*batch)
    spread = jax.pmap(
        jax.value_and_grad(functools.partial(total, axis_name="data")), "data"
    )
    halves = [rows.reshape((2, 2, *rows.shape[1:])) for rows in batch]
    values, parts = spread(*halves)
    close(values.sum(), value)
    close(parts.reshape(first.shape), slopes)


def test_halves_are_computed_in_float32():
    for function in OF_SHARES.values():
        assert function(jnp.asarray(SHARES, jnp.bfloat16)).dtype == jnp.float32
    for function in OF_DESCRIPTORS.values():
        assert function(jnp.asarray(DESCRIPTORS, jnp.bfloat16)).dtype == jnp.float32


def test_what_is_not_a_number_is_not_hidden():
    broken, vectors = SHARES.copy(), DESCRIPTORS.copy()
    broken[0, 1, 2, 0], vectors[0, 0, 0] = np.nan, np.nan
    for name, function in OF_SHARES.items():
        assert np.isnan(jnp.sum(function(broken))), name
    for name, function in OF_DESCRIPTORS.items():
        assert np.isnan(jnp.sum(function(vectors))), name


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: losses.diversity(np.ones((1, 3), "f")), "two or more"),
        (lambda: losses.diversity(np.ones(3, "f")), "2 axes"),
        (lambda: losses.balance(np.ones((1, 3, 1), "f")), "two or more"),
        (lambda: losses.decisiveness(np.ones((1, 3), "f")), "3 or 4 axes"),
        (lambda: losses.decisiveness(np.ones((1, 0, 3), "f")), "none empty"),
        (lambda: losses.concentration(np.ones((1, 3, 2), "f")), "4 axes"),
        (lambda: losses.concentration(SHARES, "size"), "'presence' or 'mass'"),
        (lambda: losses.class_specificity(np.ones((2, 1), "f")), "two or more"),
        (lambda: losses.class_specificity(KERNEL, KERNEL.T), "as `kernel`"),
        (lambda: losses.class_specificity(KERNEL, temperature=0.0), "more than 0"),
        (lambda: losses.binarise(KERNEL, -1.0), "more than 0"),
        (lambda: losses.block_assignment(5, 2), "a multiple of classes=2"),
        (lambda: losses.block_assignment(0, 2), "a multiple"),
        (lambda: losses.equivariance(SHARES, SHARES[:1], Transform()), "as `maps`"),
        (lambda: losses.equivariance(SHARES, SHARES, Transform(down=3)), "`down`=3"),
        (lambda: losses.equivariance(SHARES, SHARES, Transform(False, 0, -5)), "right"),
        (lambda: losses.consistency(DESCRIPTORS, LABELS, PRESENT[:, :2]), "`present`"),
    ],
)
def test_bad_input_is_refused(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()

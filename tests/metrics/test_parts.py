"""What parts are worth, against counts by hand, slow loops and relabelling."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.metrics import parts
from unlir_jax.metrics.parts import part_maps

SIZE = 8
NAMES = ("beak", "left_eye", "right_eye", "tail")


def maps(*cells, grid=(2, 2)):
    """Give scores of one part: in each picture 1 less a bit at one cell, 0 elsewhere.

    Earlier pictures score higher.
    """
    scores = np.zeros((len(cells), grid[0] * grid[1]), np.float32)
    for picture, cell in enumerate(cells):
        scores[picture, cell] = 1 - 0.01 * picture
    return scores.reshape(-1, *grid, 1)


def points(*rows):
    """Give keypoints of pictures, None where one is not visible."""
    seen = [[(0, 0, 0) if point is None else (*point, 1) for point in r] for r in rows]
    return np.asarray(seen, np.float32)


def random_field(images=7, rows=3, columns=4, count=5, seed=0):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(images, rows, columns, count)).astype(np.float32)
    keypoints = random.uniform(-1, SIZE + 1, size=(images, len(NAMES), 3))
    keypoints[..., 2] = random.integers(0, 2, size=(images, len(NAMES)))
    return scores, keypoints


def slow(scores, keypoints):
    """List the visible keypoints, merged, and the best cell's score and centre."""
    bare = ["beak", "eye", "eye", "tail"]
    pictures = []
    for maps_, marked in zip(scores, keypoints, strict=True):
        seen = [
            (name, x, y)
            for name, (x, y, visible) in zip(bare, marked, strict=True)
            if visible and 0 <= x <= SIZE and 0 <= y <= SIZE
        ]
        rows, columns, count = maps_.shape
        best = []
        for part in range(count):
            value, row, column = max(
                (maps_[r, c, part], -r, -c) for r in range(rows) for c in range(columns)
            )
            x = (0.5 - column) * SIZE / columns
            best.append((value, x, (0.5 - row) * SIZE / rows))
        pictures.append((seen, best))
    return pictures


def slow_top(pictures, part, top):
    """Give keypoints and best cell of the pictures in which a part scores highest."""
    usable = [(best[part], seen) for seen, best in pictures if seen]
    return sorted(usable, key=lambda item: -item[0][0])[:top]


def test_sides_are_merged_by_name():
    merged, index = parts.merge_sides(NAMES)
    assert merged == ("beak", "eye", "tail") and index.tolist() == [0, 1, 1, 2]
    merged, index = parts.merge_sides(["Left eye", "wing_right", "wing-left", "eye"])
    assert merged == ("eye", "wing") and index.tolist() == [0, 1, 1, 0]
    # Only whole words are sides.
    names = ("leftover", "upright", "left", "copyright")
    assert parts.merge_sides(names) == (names, pytest.approx(np.arange(4)))


def test_keypoint_share_by_hand():
    # Centres are at 2 and 6. Two eyes, left and right, one beak.
    scores = maps(0, 3, 1)
    keypoints = points(
        [(7, 7), (2, 3), None, None],
        [(3, 3), None, (7, 7), None],
        [(6, 3), (2, 2), None, None],
    )
    found = parts.keypoint_share(scores, keypoints, NAMES, SIZE)
    assert found.share.tolist() == [2 / 3] and found.keypoint == ("eye",)
    assert found.pictures.tolist() == [3]
    best = parts.keypoint_share(scores, keypoints, NAMES, SIZE, top=2)
    assert best.share.tolist() == [1] and best.pictures.tolist() == [2]


def test_pictures_without_keypoints_are_left_out_before_the_top():
    scores = maps(0, 0, 0, 0)
    nothing = [None] * 4
    outside = [(-0.1, 2), (2, SIZE + 0.1), (99, 1), None]
    keypoints = points(nothing, outside, [(2, 2), *[None] * 3], [*[None] * 3, (2, 2)])
    # What is not visible may be anywhere, or nowhere.
    keypoints[2, 1:, :2] = math.nan
    found = parts.keypoint_share(scores, keypoints, NAMES, SIZE, top=1)
    assert found.keypoint == ("beak",) and found.pictures.tolist() == [1]
    both = parts.keypoint_share(scores, keypoints, NAMES, SIZE)
    assert both.share.tolist() == [0.5] and both.pictures.tolist() == [2]


def test_a_part_that_is_flat_everywhere_marks_nothing():
    scores, keypoints = random_field()
    scores[..., 2] = 0.7
    scores[3, ..., 1] = 9
    for measure in (parts.keypoint_share, parts.purity):
        found = measure(scores, keypoints, NAMES, SIZE)
        assert found.share[2] == 0 and found.keypoint[2] == ""
        assert found.pictures[2] == 0 and found.pictures[1] == found.pictures[0] - 1
    steady = parts.consistency(scores, keypoints, NAMES, SIZE)
    assert steady.share[2] == 0 and steady.keypoint[2] == ""
    same = parts.stability(scores, scores, keypoints, NAMES, SIZE)
    np.testing.assert_allclose(same, [1, 6 / 7, 0, 1, 1])


@pytest.mark.parametrize("top", [1, 3, 30])
def test_keypoint_share_is_a_slow_loop(top):
    scores, keypoints = random_field()
    found = parts.keypoint_share(scores, keypoints, NAMES, SIZE, top=top)
    pictures = slow(scores, keypoints)
    for part in range(5):
        nearest = [
            min(seen, key=lambda k: (k[1] - best[1]) ** 2 + (k[2] - best[2]) ** 2)[0]
            for best, seen in slow_top(pictures, part, top)
        ]
        most = max(nearest.count(name) for name in nearest)
        assert found.share[part] == most / len(nearest)
        assert nearest.count(found.keypoint[part]) == most


@pytest.mark.parametrize("among", ["patches", "visible"])
def test_purity_is_a_slow_loop(among):
    scores, keypoints = random_field()
    settings = {"top": 4, "side": 3.0, "among": among}
    found = parts.purity(scores, keypoints, NAMES, SIZE, **settings)
    pictures = slow(scores, keypoints)
    for part in range(5):
        hits = {name: [] for name in ("beak", "eye", "tail")}
        for (_, x, y), seen in slow_top(pictures, part, 4):
            for name, some in hits.items():
                near = [
                    abs(x - u) <= 1.5 and abs(y - v) <= 1.5
                    for other, u, v in seen
                    if other == name
                ]
                if near or among == "patches":
                    some.append(any(near))
        expected = max(np.mean(some) for some in hits.values() if some)
        assert found.share[part] == pytest.approx(expected)


def test_purity_by_hand():
    # A beak in three patches of four; an eye in one, the only one that shows it.
    beak = [(2, 2), None, None, None]
    eye = [None, (1.5, 2), None, None]
    scores, keypoints = maps(0, 0, 0, 0), points(beak, beak, beak, eye)
    found = parts.purity(scores, keypoints, NAMES, SIZE, side=2.0)
    assert found.share.tolist() == [0.75] and found.keypoint == ("beak",)
    seen = parts.purity(scores, keypoints, NAMES, SIZE, side=2.0, among="visible")
    # Both reach 1; the one in more pictures is named.
    assert seen.share.tolist() == [1] and seen.keypoint == ("beak",)
    # The patch is 32 of 224: 8 / 7 of 8 pixels, so 4 / 7 to each side.
    edge = points([(2 + 4 / 7 - 1e-3, 2), None, None, None])
    beyond = points([(2 + 4 / 7 + 1e-3, 2), None, None, None])
    assert parts.purity(maps(0), edge, NAMES, SIZE).share == 1
    assert parts.purity(maps(0), beyond, NAMES, SIZE).share == 0


def test_consistency_by_hand():
    # In four pictures of five that show a beak, it is in the region of part 0.
    near, far = [(3, 3), None, None, None], [(7, 7), None, None, None]
    none = [None, None, None, (6, 6)]
    scores, keypoints = (
        maps(0, 0, 0, 0, 0, 0),
        points(near, near, far, near, near, none),
    )
    found = parts.consistency(scores, keypoints, NAMES, SIZE, side=2.0)
    assert found.consistent.tolist() == [1] and found.share.tolist() == [0.8]
    assert found.keypoint == ("beak",)
    strict = parts.consistency(scores, keypoints, NAMES, SIZE, side=2.0, threshold=0.81)
    assert strict.consistent.tolist() == [0]
    # Its edges belong to the region, but no pixel more does.
    small = parts.consistency(scores, keypoints, NAMES, SIZE, side=1.99)
    assert small.share.tolist() == [0] and small.keypoint == ("",)
    counted = np.asarray([[1], [1], [1], [0], [0], [1]], bool)
    class_ = parts.consistency(
        scores, keypoints, NAMES, SIZE, side=2.0, counted=counted
    )
    assert class_.share.tolist() == [2 / 3]


def test_stability_by_hand():
    keypoints = points(*[[(2, 2), (6, 6), None, None]] * 4)
    # The beak stays; the eye for the beak; nothing for nothing; nothing for the beak.
    before, after = maps(0, 0, 1, 0), maps(0, 3, 2, 1)
    found = parts.stability(before, after, keypoints, NAMES, SIZE, side=2.0)
    assert found.tolist() == [0.5]


def test_consistency_and_stability_in_chunks_are_the_same(monkeypatch):
    scores, keypoints = random_field()
    noisy, _ = random_field(seed=1)

    def everything():
        return (
            *parts.consistency(scores, keypoints, NAMES, SIZE),
            parts.stability(scores, noisy, keypoints, NAMES, SIZE),
            parts.keypoint_share(scores, keypoints, NAMES, SIZE),
            parts.keypoint_labels(scores, keypoints, NAMES, SIZE),
            parts.overlap(scores),
        )

    expected = everything()
    monkeypatch.setattr(part_maps, "HELD", 1)
    for one, other in zip(everything(), expected, strict=True):
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_depends_on_the_order_of_pictures_parts_or_keypoints(seed):
    scores, keypoints = random_field(seed=seed)
    noisy, _ = random_field(seed=seed + 10)
    random = np.random.default_rng(seed)
    pictures, order, names = (random.permutation(n) for n in (7, 5, 4))

    def everything(scores, noisy, keypoints, names):
        arguments = keypoints, names, SIZE
        labels = parts.keypoint_labels(scores, *arguments)
        per_part = (
            parts.keypoint_share(scores, *arguments, top=5).share,
            parts.purity(scores, *arguments, top=5, side=3.0).share,
            parts.consistency(scores, *arguments).share,
            parts.stability(scores, noisy, *arguments),
        )
        figures = (
            parts.keypoint_nmi(scores, *arguments),
            parts.keypoint_ari(scores, *arguments),
            len(labels[0]),
            parts.overlap(scores).mean(),
        )
        return np.stack(per_part), figures

    expected, figures = everything(scores, noisy, keypoints, NAMES)
    found, others = everything(
        scores[pictures][..., order],
        noisy[pictures][..., order],
        keypoints[pictures][:, names],
        [NAMES[index] for index in names],
    )
    np.testing.assert_allclose(found, expected[:, order])
    np.testing.assert_allclose(others, figures)


def test_the_part_at_a_keypoint_by_hand():
    scores = np.zeros((1, 2, 2, 3))
    scores[0, 0, 0, 1] = scores[0, 0, 1, 2] = 1
    scores[0, 1] = -1, -2, -3
    # The inner edge belongs to the right cell, the outer one to the last.
    keypoints = points([(3.99, 0), (4, 3.99), (0, 4), (8, 8)])
    true, found = parts.keypoint_labels(scores, keypoints, NAMES, SIZE)
    assert true.tolist() == [0, 1, 1, 2] and found.tolist() == [1, 2, 0, 0]
    nmi = parts.normalized_mutual_information(true, found)
    assert parts.keypoint_nmi(scores, keypoints, NAMES, SIZE) == nmi
    ari = parts.adjusted_rand_index(true, found)
    assert parts.keypoint_ari(scores, keypoints, NAMES, SIZE) == ari


def test_parts_that_are_the_keypoints_have_all_of_the_information():
    random = np.random.default_rng(0)
    keypoints = np.ones((20, 4, 3), np.float32)
    # Each keypoint has a column of its own, left and right eye share a part.
    keypoints[..., 0] = 2 * np.arange(4) + 1
    keypoints[..., 1] = random.uniform(0, SIZE, size=(20, 4))
    scores = np.zeros((20, 4, 4, 3), np.float32)
    for column, part in enumerate((2, 0, 0, 1)):
        scores[:, :, column, part] = 1
    for array in (np.asarray, jnp.asarray):
        arguments = array(scores), array(keypoints), NAMES, SIZE
        assert parts.keypoint_nmi(*arguments) == pytest.approx(1)
        assert parts.keypoint_ari(*arguments) == 1


def test_mutual_information_by_hand():
    # H = ln 2 and 2 ln 2 - 3/4 ln 3; together 3/2 ln 2.
    one, other = np.asarray([0, 0, 1, 1]), np.asarray([5, 5, 5, 9])
    first, second = math.log(2), 2 * math.log(2) - 0.75 * math.log(3)
    expected = 2 * (first + second - 1.5 * math.log(2)) / (first + second)
    found = parts.normalized_mutual_information(one, other)
    assert found == pytest.approx(expected) == pytest.approx(0.3437110184854509)
    assert parts.normalized_mutual_information(one, 7 - one) == pytest.approx(1)
    independent = parts.normalized_mutual_information(one, np.asarray([0, 1, 0, 1]))
    assert independent == pytest.approx(0, abs=1e-12)


def test_rand_index_by_hand():
    def index(one, other):
        return parts.adjusted_rand_index(np.asarray(one), np.asarray(other))

    # Pairs: 1 in both, 1 and 2 alone, of 6: (1 - 1/3) / (3/2 - 1/3).
    assert index([0, 0, 1, 2], [0, 0, 1, 1]) == pytest.approx(4 / 7)
    # Pairs: none in both, 2 and 2 of 6: (0 - 2/3) / (2 - 2/3).
    assert index([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-0.5)
    assert index([0, 0, 0, 0], [0, 1, 2, 3]) == 0
    assert index([0, 1, 2], [7, 5, 6]) == 1


@pytest.mark.parametrize(
    "measure", [parts.normalized_mutual_information, parts.adjusted_rand_index]
)
def test_trivial_groups_relabelling_and_size(measure):
    random = np.random.default_rng(0)
    alike = np.zeros(5, int)
    assert measure(alike, alike + 3) == 1
    assert measure(alike, np.arange(5)) == 0
    assert measure(np.asarray([1]), np.asarray([2])) == 1
    one, other = random.integers(0, 4, size=(2, 30))
    found = measure(one, other)
    assert measure(other, one) == pytest.approx(found)
    renamed = random.permutation(50)[other]
    assert measure(one, renamed) == pytest.approx(found)
    # Products of numbers of pairs do not overflow.
    many = random.integers(0, 4, size=(2, 300_000))
    assert abs(measure(*many)) < 1e-3
    assert measure(many[0], many[0] + 1) == pytest.approx(1)


def test_true_parts_of_cells_by_hand():
    # Cells: three pixels of 1 and one of 2; all background; two each of 2 and 3, which
    # goes to the lower; three of background, one of 3.
    mask = np.asarray([[1, 1, 0, 0], [2, 1, 0, 0], [3, 2, 0, 3], [2, 3, 0, 0]])
    scores = np.zeros((1, 2, 2, 4), np.float32)
    scores[0, :, :, :] = np.eye(4)[[[3, 2], [1, 0]]]
    true, found = parts.mask_labels(scores, mask[None])
    assert true.tolist() == [1, 2] and found.tolist() == [3, 1]
    true, found = parts.mask_labels(scores, mask[None], background=True)
    assert true.tolist() == [1, 0, 2, 0] and found.tolist() == [3, 2, 1, 0]
    assert parts.mask_nmi(scores, mask[None]) == pytest.approx(1)
    # 2 ln 2 for the parts, 3/2 ln 2 for the truth, and they share the latter.
    shared = parts.mask_nmi(scores, mask[None], background=True)
    assert shared == pytest.approx(2 * 1.5 / 3.5)


@pytest.mark.parametrize("size", [(7, 5), (3, 4), (31, 10)])
def test_pixels_are_counted_where_their_centre_is(size):
    random = np.random.default_rng(0)
    masks = random.integers(0, 4, size=(3, *size)).astype(np.uint8)
    expected = np.zeros((3, 3, 4, 4), int)
    for image, row, column in np.ndindex(masks.shape):
        cell = int((row + 0.5) * 3 / size[0]), int((column + 0.5) * 4 / size[1])
        expected[image, *cell, masks[image, row, column]] += 1
    found = part_maps.count_pixels(masks, 3, 4, 4)
    np.testing.assert_array_equal(found, expected)


def test_overlap_by_hand():
    flat = np.full(4, 0.3)
    one, other, both = np.eye(4)[0], np.eye(4)[3], np.asarray([1, 0, 0, 1])

    def measure(*columns):
        return parts.overlap(np.stack(columns, -1).reshape(1, 2, 2, -1))[0]

    assert measure(one, other) == 0
    # A factor and a shift do not matter, and tiny maps are maps.
    assert measure(one, 7 * one - 3) == pytest.approx(1)
    assert measure(1e-200 * one, one) == pytest.approx(1)
    assert measure(one, both) == pytest.approx(math.sqrt(0.5))
    assert measure(one, flat) == 0
    assert measure(one, other, both) == pytest.approx(2 * math.sqrt(0.5) / 3)


def test_assignment_entropy_by_hand():
    uniform, decided = np.full(4, 0.25), np.eye(4)[1]
    half = np.asarray([0.5, 0.5, 0, 0])
    cells = np.stack([uniform, decided, half, half]).reshape(1, 2, 2, 4)
    found = parts.assignment_entropy(cells)
    # log 2 / log 4 is one half.
    np.testing.assert_allclose(found, [(1 + 0 + 0.5 + 0.5) / 4])
    assert parts.assignment_entropy(np.ones((2, 3, 3, 1))).tolist() == [0, 0]


def test_sparsity_by_hand():
    contributions = np.asarray(
        [[0.0, -9.5, 0.5], [1, 1, -1], [0, 0, 0], [5, 0, 5], [0.1, 0.1, 0.1]]
    )
    assert parts.sparsity(contributions).tolist() == [1, 3, 0, 2, 3]
    assert parts.sparsity(contributions, 1.0).tolist() == [2, 3, 0, 2, 3]
    # 2 of 3 equal ones are two thirds, whatever the rounding of 0.1.
    assert parts.sparsity(contributions, 2 / 3).tolist() == [1, 2, 0, 2, 2]


def test_part_cosine_by_hand():
    vectors = np.asarray([[1, 0], [0, 2], [-3, 3], [0, 0]], np.float32)
    # Two pairs at 45 degrees of six pairs.
    assert parts.part_cosine(vectors) == pytest.approx(2 * math.sqrt(0.5) / 6)
    assert parts.part_cosine(vectors[:2]) == 0
    assert parts.part_cosine(np.ones((3, 5))) == pytest.approx(1)


def test_bad_input_is_one_sentence(unchecked):
    scores, keypoints = random_field()
    broken = scores.copy()
    broken[1, 0, 0, 0] = np.nan
    wild = keypoints.copy()
    wild[0, 0] = np.nan, 1, 1
    share = parts.keypoint_share
    labels = np.zeros(4, int)
    masks = np.zeros((7, 6, 6), int)
    bad = [
        (lambda: share(scores[0], keypoints, NAMES, SIZE), "images, rows, columns"),
        (lambda: share(broken, keypoints, NAMES, SIZE), "holds 1 values"),
        (lambda: share(scores, keypoints[:3], NAMES, SIZE), r"expected \(7, 4, 3\)"),
        (lambda: share(scores, keypoints, NAMES[:3], SIZE), "of 3 names"),
        (lambda: share(scores, wild, NAMES, SIZE), "holds 1 points"),
        (lambda: share(scores, 0 * keypoints, NAMES, SIZE), "none that is visible"),
        (lambda: share(scores, keypoints, NAMES, 0), "`image_size`=0"),
        (lambda: share(scores, keypoints, NAMES, SIZE, top=0), "`top`=0"),
        (
            lambda: parts.purity(scores, keypoints, NAMES, SIZE, side=0.0),
            "`side`=0.0",
        ),
        (
            lambda: parts.purity(scores, keypoints, NAMES, SIZE, among="all"),
            "'all'.*'patches', 'visible'",
        ),
        (
            lambda: parts.consistency(
                scores, keypoints, NAMES, SIZE, counted=np.ones((7, 4), bool)
            ),
            r"`counted` has shape \(7, 4\)",
        ),
        (
            lambda: parts.stability(scores, scores[:2], keypoints, NAMES, SIZE),
            "`noisy_scores` has shape",
        ),
        (lambda: parts.mask_nmi(scores, masks), "no cell that is mostly"),
        (lambda: parts.mask_nmi(scores, masks - 1), "holds -1"),
        (lambda: parts.mask_nmi(scores, masks[:2]), "for 7 images"),
        (lambda: parts.mask_nmi(scores, masks[:, :2]), "3 x 4 cells"),
        (lambda: parts.adjusted_rand_index(labels, labels[:2]), "shapes"),
        (lambda: parts.normalized_mutual_information(labels[:0], labels[:0]), "least"),
        (lambda: parts.overlap(scores[..., :1]), "at least two"),
        (lambda: parts.assignment_entropy(scores), "a distribution"),
        (lambda: parts.sparsity(scores[0, 0], 0.0), "`share`=0"),
        (lambda: parts.sparsity(scores[0, 0, 0]), r"\[images, parts\]"),
        (lambda: parts.sparsity(broken[1, 0]), "holds 1 values"),
        (lambda: parts.part_cosine(scores[0, 0, :1]), "at least two parts"),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="one string"):
        share(scores, keypoints, "beak", SIZE)
    with pytest.raises(TypeError, match="expected integers"):
        parts.adjusted_rand_index(labels / 2, labels)
    with pytest.raises(TypeError, match="expected integers"):
        parts.mask_nmi(scores, masks / 2)

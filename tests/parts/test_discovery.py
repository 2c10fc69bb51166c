import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax.parts import clustering, discovery


def planted_maps(groups=2, images=12, parts=2, channels=16, seed=0):
    """Draw maps of kinds that each have parts of their own, among clutter.

    Returns maps, `[groups * images, 4, 4, channels]`, the true parts
    `[groups, parts, channels]` and each image's kind.
    """
    random = np.random.default_rng(seed)
    truth = np.linalg.qr(random.normal(size=(channels, groups * parts)))[0].T
    truth = truth.reshape((groups, parts, channels))
    kinds = np.repeat(np.arange(groups), images)
    maps = random.normal(size=(len(kinds), 16, channels)) / 8
    for image, kind in enumerate(kinds):
        places = random.permutation(16)[:parts]
        maps[image, places] += 4 * truth[kind]
    return maps.reshape((-1, 4, 4, channels)).astype(np.float32), truth, kinds


def find(maps, **settings):
    chosen = {"groups": 2, "parts": 2, "dimensions": 8, "key": jax.random.key(0)}
    return discovery.discover(maps, **(chosen | settings))


def test_bags_by_hand():
    scores = jnp.asarray([[[1.0, -2.0], [3.0, 0.0]]])
    np.testing.assert_allclose(discovery.bag_of_parts(scores, "max"), [[3, 0]])
    np.testing.assert_allclose(discovery.bag_of_parts(scores, "mean"), [[2, -1]])
    np.testing.assert_allclose(discovery.bag_of_parts(scores), [[3, 0, 2, -1]])


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", tiers.by_tier(["hungarian", "ipfp"], {"hungarian"}))
def test_groups_and_their_parts_are_discovered_without_labels(solver):
    maps, truth, kinds = planted_maps()
    found = find(maps, solver=solver)
    assert len({*zip(np.asarray(found.labels), kinds, strict=True)}) == 2
    assert found.parts.shape == (4, 8)
    # Each image scores highest where its kind's own parts are.
    cells = clustering.whiten(maps.reshape((24, 16, 16)), found.whitening)
    best = np.einsum("irc,pc->irp", cells, found.parts).argmax(1)
    true = np.einsum("irc,kpc->irkp", maps.reshape((24, 16, 16)), truth).argmax(1)
    for group in range(2):
        own = np.asarray(found.labels) == group
        kind = kinds[own][0]
        mine = np.sort(best[own][:, 2 * group : 2 * group + 2], axis=1)
        np.testing.assert_array_equal(mine, np.sort(true[own][:, kind], axis=1))


@pytest.mark.exhaustive
def test_one_group_takes_all_images_and_the_key_decides():
    maps, _, _ = planted_maps(groups=1)
    found, again = find(maps, groups=1), find(maps, groups=1)
    assert (np.asarray(found.labels) == 0).all()
    np.testing.assert_array_equal(found.parts, again.parts)
    seeds = find(maps, groups=1, solver=None)
    cells = clustering.whiten(maps.reshape((-1, 16)), seeds.whitening)
    near = np.argmax(cells @ seeds.parts.T, axis=1)
    for part in range(2):
        centre = clustering.unit(np.sum(np.asarray(cells)[near == part], axis=0))
        np.testing.assert_allclose(centre, seeds.parts[part], atol=0.05)


@pytest.mark.exhaustive
def test_encodings_have_unit_length_and_tell_kinds_apart():
    maps, _, kinds = planted_maps()
    found = find(maps)
    for encoding in (
        discovery.encode(maps, found),
        discovery.encode(maps, found, "max"),
    ):
        np.testing.assert_allclose(np.linalg.norm(encoding, axis=1), 1, rtol=1e-5)
        cosine = np.asarray(encoding) @ np.asarray(encoding).T
        np.fill_diagonal(cosine, -1)
        np.testing.assert_array_equal(kinds[cosine.argmax(1)], kinds)


def nuisance_rows(seed=0, classes=6, each=10, channels=12):
    """Draw classes along small directions, under a large one that says nothing."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    rows = 3 * np.eye(channels)[:classes][labels]
    rows = rows + 0.3 * random.normal(size=rows.shape)
    rows[:, -1] += 2 * random.normal(size=len(rows))
    return rows.astype(np.float32), labels


def test_neighbour_whitening_is_the_formula():
    rows, _ = nuisance_rows()
    fitted = discovery.neighbour_whitening(
        rows, 4, neighbours=3, shrinkage=0.2, rounds=1
    )
    centred = rows - rows.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T - 9 * np.eye(60)
    near = np.argsort(-cosine, 1)[:, :3]
    apart = (rows[:, None] - rows[near]).reshape((-1, 12))
    within = apart.T @ apart / len(apart) / 2
    within = 0.8 * within + 0.2 * np.trace(within) / 12 * np.eye(12)
    # Generalised eigenvectors: T v = variance C v, with v' C v = 1.
    total = centred.T @ centred / 60
    matrix = fitted.matrix
    np.testing.assert_allclose(matrix.T @ within @ matrix, np.eye(4), atol=1e-3)
    np.testing.assert_allclose(
        matrix.T @ total @ matrix, np.diag(fitted.variance), atol=2e-2
    )
    values = np.linalg.eigvals(np.linalg.solve(within, total)).real
    np.testing.assert_allclose(fitted.variance, np.sort(values)[::-1][:4], rtol=1e-3)


def test_neighbour_whitening_removes_what_neighbours_differ_in():
    rows, _ = nuisance_rows()
    fitted = discovery.neighbour_whitening(rows, 5, neighbours=4)
    share = np.abs(fitted.matrix[-1]) / np.linalg.norm(fitted.matrix, axis=0)
    first = clustering.whitening(rows, 5).matrix
    before = np.abs(first[-1]) / np.linalg.norm(first, axis=0)
    assert before.max() > 0.9 and share.max() < 0.3


def test_bad_input_gets_one_sentence(unchecked):
    rows, _ = nuisance_rows()
    with pytest.raises(ValueError, match="`neighbours`=60"):
        discovery.neighbour_whitening(rows, 4, neighbours=60)

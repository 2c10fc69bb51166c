import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax.parts import assignment


def random_scores(shape, seed=0, scale=1.0):
    scores = scale * np.random.default_rng(seed).normal(size=shape)
    return scores.astype(np.float32)


def every_matching(parts, regions):
    """List all one-to-one matchings, `[matchings, parts, regions]`."""
    chosen = list(itertools.permutations(range(regions), parts))
    return np.eye(regions, dtype=np.float32)[np.asarray(chosen)]


def planted(images=30, parts=4, regions=16, channels=24, noise=0.5, seed=0):
    """Put each true part once into each image, among clutter, and move all by a mean.

    Returns regions, true parts of unit length, and where they were put.
    """
    random = np.random.default_rng(seed)
    truth = np.linalg.qr(random.normal(size=(channels, parts)))[0].T
    clutter = random.normal(size=(images, regions, channels)) / np.sqrt(channels)
    places = np.stack([random.permutation(regions)[:parts] for _ in range(images)])
    noisy = truth + noise * random.normal(size=(images, parts, channels)) / np.sqrt(
        channels
    )
    np.put_along_axis(clutter, places[:, :, None], noisy, axis=1)
    return clutter.astype(np.float32), truth.astype(np.float32), places


@pytest.mark.parametrize(
    "parts, regions", tiers.by_tier([(1, 1), (3, 3), (3, 5), (4, 6)], {3})
)
def test_hungarian_is_as_good_as_the_best_of_all_matchings(parts, regions):
    scores = random_scores((20, parts, regions), scale=10)
    found = assignment.hungarian(scores)
    totals = np.einsum("ipr,mpr->im", scores, every_matching(parts, regions))
    np.testing.assert_allclose(np.sum(found * scores, (1, 2)), totals.max(1), 1e-5)
    assert set(np.unique(found)) <= {0.0, 1.0}
    assert (found.sum(2) == 1).all() and (found.sum(1) <= 1).all()


@pytest.mark.exhaustive
def test_hungarian_treats_each_block_alone_and_compiles():
    scores = random_scores((2, 3, 4, 7))
    found = jax.jit(assignment.hungarian)(scores)
    assert found.shape == scores.shape
    np.testing.assert_array_equal(found[1, 2], assignment.hungarian(scores[1, 2]))


@pytest.mark.parametrize("parts, regions", [(1, 4), (7, 8), (6, 6)])
@pytest.mark.parametrize("beta", [0.1, 1000.0])
@pytest.mark.parametrize("iterations", tiers.by_tier([1, 30], {30}))
def test_sinkhorn_rows_sum_to_one_and_columns_to_at_most_one(
    parts, regions, beta, iterations
):
    scores = random_scores((5, parts, regions))
    found = assignment.sinkhorn(scores, beta=beta, iterations=iterations)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert (found.sum(-2) <= 1 + 1e-5).all()


def test_sinkhorn_maximises_score_plus_entropy_with_slack():
    # At the optimum log m_pr - log slack_r - beta s_pr depends on the row alone.
    scores = random_scores((4, 9))
    found = np.asarray(assignment.sinkhorn(scores, beta=3.0, iterations=200))
    slack = 1 - found.sum(0)
    multiplier = np.log(found) - np.log(slack) - 3 * scores
    np.testing.assert_allclose(multiplier - multiplier[:, :1], 0, atol=1e-3)


@pytest.mark.exhaustive
def test_sinkhorn_is_uniform_when_hot_and_the_best_matching_when_cold():
    scores = random_scores((4, 7))
    hot = assignment.sinkhorn(scores, beta=1e-6)
    np.testing.assert_allclose(hot, 1 / 7, atol=1e-5)
    cold = assignment.sinkhorn(scores, beta=300.0, iterations=3000)
    np.testing.assert_allclose(cold, assignment.hungarian(scores), atol=0.02)


@pytest.mark.exhaustive
def test_sinkhorn_survives_huge_scores_and_has_gradients():
    scores = random_scores((3, 6), scale=1e4)
    assert np.isfinite(assignment.sinkhorn(scores, beta=10.0)).all()
    small = jnp.asarray(random_scores((3, 6)))
    gradient = jax.grad(lambda s: jnp.sum(assignment.sinkhorn(s) * small))(small)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.exhaustive
def test_soft_assign_is_close_to_the_best_matching():
    scores = random_scores((20, 4, 7))
    found = assignment.soft_assign(scores)
    assert (found.sum(2) == 1).all() and (found.sum(1) <= 1).all()
    best = np.sum(scores * assignment.hungarian(scores), (1, 2))
    reached = np.sum(scores * found, (1, 2))
    assert np.mean(reached / best) > 0.97
    # Cold enough, annealing ends where the exact method does.
    cold = assignment.soft_assign(scores, rate=1.5, final=300.0, iterations=60)
    np.testing.assert_allclose(np.sum(scores * cold, (1, 2)), best, rtol=1e-2)
    same = assignment.soft_assign(1000 * scores + 5)
    np.testing.assert_array_equal(same, found)


def test_objective_and_parts_by_hand():
    regions = jnp.asarray([[[1.0, 0], [0, 2.0]], [[3.0, 0], [0, 4.0]]])
    matching = jnp.asarray([[[1.0, 0]], [[0, 1.0]]])
    # The only part is ((1, 0) + (0, 4)) / 2, scored at those two: 0.5 + 8.
    np.testing.assert_allclose(assignment.part_models(matching, regions), [[0.5, 2]])
    np.testing.assert_allclose(assignment.qap_objective(matching, regions), 8.5)
    mean = jnp.asarray([0.25, 1.0])
    np.testing.assert_allclose(
        assignment.part_models(matching, regions, mean), [[0.25, 1]]
    )
    np.testing.assert_allclose(assignment.qap_objective(matching, regions, mean), 4.25)


def test_objective_is_the_quadratic_form_of_the_source():
    # <M, M Q> with Q = X' (X - mean) / n over all regions of all images.
    regions, mean = random_scores((3, 5, 4)), random_scores((4,), 1)
    matching = np.asarray(assignment.hungarian(random_scores((3, 2, 5), 2)))
    flat = regions.reshape(15, 4).T
    wide = matching.transpose(1, 0, 2).reshape(2, 15)
    quadratic = flat.T @ (flat - mean[:, None]) / 3
    found = assignment.qap_objective(matching, regions, mean)
    np.testing.assert_allclose(found, np.sum(wide * (wide @ quadratic)), rtol=1e-5)
    # The scores of the parts are M Q', not M Q.
    scores = np.einsum(
        "pc,irc->pir", assignment.part_models(matching, regions, mean), regions
    )
    np.testing.assert_allclose(scores.reshape(2, 15), wide @ quadratic.T, atol=1e-5)


@pytest.mark.exhaustive
def test_the_gradient_that_ipfp_follows_is_the_objectives():
    regions, mean = random_scores((3, 5, 4)), random_scores((4,), 1)
    matching = assignment.sinkhorn(random_scores((3, 2, 5), 2))
    gradient = jax.grad(assignment.qap_objective)(matching, regions, mean)
    average = np.asarray(assignment.part_models(matching, regions))
    followed = np.einsum("pc,irc->ipr", 2 * average - mean, regions)
    # What differs is the same for all regions of a part, whose row sums to one.
    difference = np.asarray(gradient - followed)
    np.testing.assert_allclose(difference - difference[:1, :, :1], 0, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "solver", tiers.by_tier(["hungarian", "ipfp", "soft_assign"], {"hungarian"})
)
def test_planted_parts_are_found(solver):
    regions, truth, places = planted()
    start = regions[0, places[0]] + random_scores((4, 24), 5, 0.05)
    found = assignment.solve(regions, 4, solver=solver, initial=start, steps=15)
    assert (found.matching.sum(2) == 1).all() and (found.matching.sum(1) <= 1).all()
    length = np.linalg.norm(found.parts, axis=1, keepdims=True)
    cosine = np.sum(found.parts / length * truth, axis=1)
    assert (cosine > 0.9).all()
    assert np.mean(np.argmax(found.matching, 2) == places) > 0.9
    np.testing.assert_allclose(
        found.parts, assignment.part_models(found.matching, regions), atol=1e-6
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", tiers.by_tier(["hungarian", "ipfp"], {"hungarian"}))
def test_the_objective_never_falls(solver):
    regions = random_scores((12, 9, 6))
    for seed in range(3):
        found = assignment.solve(
            regions, 4, solver=solver, key=jax.random.key(seed), steps=8
        )
        objective = np.asarray(found.objective)
        assert objective.shape == (9,) and objective[-1] > objective[0]
        assert (np.diff(objective) >= -1e-5 * objective[-1]).all()
        last = assignment.qap_objective(found.matching, regions)
        np.testing.assert_allclose(objective[-1], last, rtol=1e-5)


@pytest.mark.exhaustive
def test_with_a_mean_only_the_true_gradient_is_sure_to_climb():
    regions = random_scores((6, 6, 3)) + np.asarray([2.0, 0, 0], np.float32)
    mean = np.asarray([3.0, 1.0, 0], np.float32)
    falls = {}
    for solver in ("hungarian", "ipfp"):
        runs = [
            assignment.solve(
                regions, 3, solver=solver, key=jax.random.key(i), mean=mean, steps=6
            ).objective
            for i in range(6)
        ]
        falls[solver] = min(float(jnp.min(jnp.diff(run))) for run in runs)
    assert falls["ipfp"] >= -1e-4
    assert falls["hungarian"] < -0.01


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "solver", tiers.by_tier(["hungarian", "ipfp", "soft_assign"], {"ipfp"})
)
def test_tiny_problems_are_solved_as_well_as_by_trying_everything(solver):
    regions, _, _ = planted(images=3, parts=2, regions=4, channels=6, noise=0.3)
    ways = every_matching(2, 4)
    tried = jnp.asarray([np.stack(way) for way in itertools.product(ways, repeat=3)])
    best = float(jnp.max(jax.vmap(assignment.qap_objective, (0, None))(tried, regions)))
    reached = [
        float(
            assignment.solve(
                regions, 2, solver=solver, key=jax.random.key(seed), steps=6
            ).objective[-1]
        )
        for seed in range(40)
    ]
    # Annealing forgets where it starts: it does well from anywhere, not best from one.
    least = 0.9 if solver == "soft_assign" else 1 - 1e-5
    assert least * best <= max(reached) <= best * (1 + 1e-5)


def test_bad_input_gets_one_sentence(unchecked):
    regions = random_scores((2, 3, 4))
    key = jax.random.key(0)
    message = "4 parts for 3 regions an image: more parts than regions"
    with pytest.raises(ValueError, match=message):
        assignment.solve(regions, 4, key=key)
    for function in (
        assignment.hungarian,
        assignment.sinkhorn,
        assignment.soft_assign,
    ):
        with pytest.raises(ValueError, match=message):
            function(random_scores((2, 4, 3)))
    with pytest.raises(ValueError, match="'greedy'.*'hungarian', 'ipfp'"):
        assignment.solve(regions, 2, solver="greedy", key=key)
    with pytest.raises(ValueError, match="both given or both None"):
        assignment.solve(regions, 2)
    with pytest.raises(ValueError, match=r"\(3, 4\); expected \(2, 4\)"):
        assignment.solve(regions, 2, initial=regions[0])
    with pytest.raises(ValueError, match="`steps`=0"):
        assignment.solve(regions, 2, key=key, steps=0)
    with pytest.raises(ValueError, match="`rate`=1.0"):
        assignment.soft_assign(random_scores((2, 3)), rate=1.0)

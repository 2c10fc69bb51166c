import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, split
from unlir_jax.metrics.faithfulness import insertion_deletion

LABELS = jnp.zeros(4, int)


def pixel_model():
    """Give label 0 a probability that is the share of light, in closed form."""

    def head(v, maps):
        share = jnp.clip(maps.mean((1, 2, 3)), 1e-6, 1 - 1e-6)
        return jnp.stack([jnp.log(share), jnp.log1p(-share)], axis=-1)

    return split.from_functions(lambda v, images: images, head)


def slow_curve(images, saliency, steps, deletion):
    """Count the light left, pixel by pixel in row-major order of ties."""
    curves = []
    for image, values in zip(images, saliency, strict=True):
        order = sorted(range(values.size), key=lambda i: (-values.ravel()[i], i))
        light = image.mean(-1).ravel()
        curve = []
        for step in range(steps + 1):
            count = round(step * values.size / steps)
            chosen = order[count:] if deletion else order[:count]
            curve.append(light[chosen].sum() / values.size)
        curves.append(curve)
    return np.asarray(curves)


@pytest.mark.parametrize("name", ["insertion", "deletion"])
@pytest.mark.parametrize("steps", tiers.by_tier([1, 7, 28], {7}))
@pytest.mark.parametrize("loop", ["host", "device"])
def test_curves_are_those_of_a_slow_loop(pictures, name, steps, loop):
    random = np.random.default_rng(0)
    # Few levels, so that ties are the rule.
    saliency = random.integers(0, 5, size=(4, 32, 32)).astype(np.float32)
    metric = metrics.METRICS[name](
        pixel_model(), baseline="black", steps=steps, loop=loop
    )
    found = metric({}, pictures, LABELS, saliency)
    expected = slow_curve(pictures, saliency, steps, name == "deletion")
    curve = found[f"{name}_curve"]
    assert curve.shape == (4, steps + 1)
    np.testing.assert_allclose(curve, expected, atol=1e-5)
    area = np.trapezoid(expected, dx=1 / steps, axis=1)
    np.testing.assert_allclose(found[name], area, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_both_curves_share_the_image(pictures, loop):
    """Five steps of two curves are eleven images, not twelve."""
    seen, plain = [], pixel_model()

    def head(v, features):
        jax.debug.callback(lambda rows: seen.append(len(rows)), features.maps)
        return plain.head(v, features)

    saliency = np.random.default_rng(0).normal(size=(4, 7, 7)).astype(np.float32)
    options = {"steps": 5, "loop": loop}
    both = metrics.insertion_minus_deletion(plain._replace(head=head), **options)
    found = jax.block_until_ready(both({}, pictures, LABELS, saliency))
    jax.effects_barrier()
    assert 4 * 11 <= sum(seen) < 4 * 12
    assert set(found) > {"insertion_minus_deletion", "insertion", "deletion_curve"}
    for factory in (metrics.insertion, metrics.deletion):
        alone = factory(plain, **options)({}, pictures, LABELS, saliency)
        for name, values in alone.items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)


def test_a_perfect_map_inserts_early_and_deletes_early(pictures):
    light = jnp.asarray(pictures).mean(-1)
    inserted = metrics.insertion(pixel_model(), baseline="black")
    deleted = metrics.deletion(pixel_model())
    for metric, name, sign in ((inserted, "insertion", 1), (deleted, "deletion", -1)):
        best = metric({}, pictures, LABELS, light)[name]
        worst = metric({}, pictures, LABELS, -light)[name]
        assert (sign * (best - worst) > 0).all()


@pytest.mark.exhaustive
def test_insertion_of_the_reverse_mirrors_deletion(pictures):
    saliency = np.random.default_rng(1).permutation(4 * 32 * 32).reshape(4, 32, 32)
    saliency = saliency.astype(np.float32)
    deleted = metrics.deletion(pixel_model())({}, pictures, LABELS, saliency)
    inserted = metrics.insertion(pixel_model(), baseline="black")(
        {}, pictures, LABELS, -saliency
    )
    np.testing.assert_allclose(
        inserted["insertion_curve"][:, ::-1], deleted["deletion_curve"], atol=1e-6
    )


@pytest.mark.parametrize(
    "baseline", tiers.by_tier(["black", "mean", "blur", "noise"], {"blur"})
)
def test_both_ends_are_the_image_and_the_baseline(pictures, baseline):
    from unlir_jax import maps

    saliency, key = np.random.default_rng(0).normal(size=(4, 7, 7)), jax.random.key(0)
    model = pixel_model()._replace(mean=(0.5, 0.4, 0.3))
    found = metrics.insertion(model, baseline=baseline, steps=4)(
        {}, pictures, LABELS, saliency.astype(np.float32), key=key
    )["insertion_curve"]
    start = maps.background(pictures, baseline, mean=model.mean, key=key)
    np.testing.assert_allclose(found[:, 0], start.mean((1, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(found[:, -1], pictures.mean((1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("flat", [0.0, 2.0, np.nan])
def test_a_flat_map_inserts_in_row_major_order(pictures, flat):
    saliency = jnp.full((4, 7, 7), flat)
    metric = metrics.insertion(pixel_model(), baseline="black")
    found = metric({}, pictures, LABELS, saliency)["insertion"]
    rows = -jnp.arange(32.0 * 32).reshape(1, 32, 32)
    expected = metric({}, pictures, LABELS, jnp.broadcast_to(rows, (4, 32, 32)))
    np.testing.assert_allclose(found, expected["insertion"], atol=1e-6)


def test_ranks_break_ties_in_row_major_order():
    ranks = insertion_deletion.rank(jnp.asarray([[[1.0, 3.0], [3.0, 2.0]]]))
    assert ranks.tolist() == [[[3, 0], [1, 2]]]


@pytest.mark.exhaustive
def test_scores_do_not_depend_on_the_batch_or_the_caller(pictures):
    saliency = np.random.default_rng(0).normal(size=(4, 7, 7)).astype(np.float32)
    metric = metrics.insertion(pixel_model(), steps=5)
    together = metric({}, pictures, LABELS, saliency)["insertion"]
    alone = metric({}, pictures[1:2], LABELS[:1], saliency[1:2])["insertion"]
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)
    compiled = jax.jit(metric)({}, pictures, LABELS, saliency)["insertion"]
    np.testing.assert_allclose(compiled, together, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": 0}, "1 or more"), ({"baseline": "grey"}, "'black', 'mean', 'blur'")],
)
def test_wrong_settings_are_refused(unchecked, settings, message):
    with pytest.raises(ValueError, match=message):
        metrics.deletion(pixel_model(), **settings)

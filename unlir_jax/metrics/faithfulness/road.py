"""Remove pixels and debias: what is taken away is imputed from what is left.

Rong, Leemann, Borisov, Kasneci & Kasneci, *A consistent and efficient evaluation
strategy for attribution methods*, ICML 2022.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.metrics.faithfulness.imputation import impute
from unlir_jax.metrics.faithfulness.insertion_deletion import ORDERED, rank
from unlir_jax.metrics.faithfulness.label_score import RAW, label_score
from unlir_jax.metrics.spec import Output, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Metric, Saliency, SplitModel

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)


@metric(
    title="ROAD",
    better="higher",
    needs="map",
    family="removal",
    meaning=(
        "Pixels are replaced by noisy means of their neighbours. How much more do "
        "the most relevant cost than the least relevant?"
    ),
    contract=ORDERED._replace(
        baseline="linear imputation from 8 neighbours, Gaussian noise of {noise}",
        unbounded=RAW,
    ),
    fooled_by="scattered pixels, less than deletion",
    passes="2 × `percentiles` (9) forwards",
    source="Rong et al., ICML 2022",
    quick={"percentiles": (20, 80)},
    representative=True,
    outputs={
        "road_most": Output("ROAD, most relevant first", "lower"),
        "road_least": Output("ROAD, least relevant first", "higher"),
    },
)
def road(
    model: SplitModel,
    *,
    percentiles: Sequence[float | int] = PERCENTILES,
    noise: float = 0.01,
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Remove the least and the most relevant pixels, imputed: half the difference.

    `mean_p (f(x without the p % least relevant) - f(x without the most)) / 2`, where
    removed pixels become weighted means of their neighbours plus Gaussian noise (noisy
    linear imputation), which hides where they were. Higher is better, in [-0.5, 0.5]
    for probabilities. Ties are removed in row-major order.

    Args:
        model: The cut network.
        percentiles: Shares of pixels to remove, in (0, 100).
        noise: Standard deviation of the noise, on pixels in [0, 1]; 0 draws none.
        score: Score that is compared, see `scores.resolve`; ROAD is in its unit.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `road`, `[batch]`; `road_most` (lower is better) and `road_least`
        (higher), the mean scores, `[batch]`; and `road_most_curve` and
        `road_least_curve`, `[batch, percentiles]`. It needs `key` if there is noise.

    Raises:
        ValueError: An impossible setting; when called, no key though there is noise.

    Note:
        The paper gives the accuracy of a data set after removal; a score for each image
        is what pytorch-grad-cam made of it. Where its noise lies in normalised values,
        ours lies in pixels, as all masking here.
    """
    chosen = tuple(float(share) for share in percentiles)
    if not chosen or not all(0 < share < 100 for share in chosen):
        raise ValueError(
            f"`percentiles`={chosen}; expected some, each between 0 and 100."
        )
    if not noise >= 0:
        raise ValueError(f"`noise`={noise}; expected 0 or more.")
    compared = scores.resolve(score)
    without = _without(model, compared)

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        image_keys = random_keys.per_image(key, images) if noise else None
        orders = _orders(images, saliency)
        pixels = orders[0][0].size
        counts = np.round(np.asarray(chosen) / 100 * pixels).astype(np.int32)
        # Where everything is missing nothing can be imputed.
        counts = np.clip(counts, 0, pixels - 1)
        # One loop for both orders, so that one program is compiled.
        steps = [(count, order) for order in (0, 1) for count in counts]
        arguments = (variables, images, labels, *orders, image_keys, noise)
        both = loops.map_steps(
            without, jnp.asarray(steps, jnp.int32), *arguments, loop=loop
        )
        most, least = both[: len(counts)].T, both[len(counts) :].T
        means = jnp.mean(most, axis=1), jnp.mean(least, axis=1)
        return {
            "road": (means[1] - means[0]) / 2,
            "road_most": means[0],
            "road_least": means[1],
            "road_most_curve": most,
            "road_least_curve": least,
        }

    return measure


@jax.jit
def _orders(images: Images, saliency: Saliency) -> tuple[jax.Array, jax.Array]:
    """Rank pixels from the most and from the least relevant on."""
    enlarged = maps.resize(saliency, images.shape[1:3])
    enlarged = jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
    return rank(enlarged), rank(-enlarged)


@memoize.remember
def _without(model: SplitModel, score: scores.Score) -> Callable[..., jax.Array]:
    """Give one step `(count, order)`: the score without the first ranks.

    What removes knows no network, so that it is compiled once for all of them.
    """
    label_of = label_score(model, score)

    def without(step, variables, images, labels, most, least, image_keys, noise):
        shown = _remove(step, images, most, least, image_keys, noise)
        return label_of(variables, shown, labels)

    return without


@jax.jit
def _remove(
    step: jax.Array,
    images: Images,
    most: jax.Array,
    least: jax.Array,
    image_keys: jax.Array | None,
    noise: float | jax.Array,
) -> jax.Array:
    count, order = step
    missing = jnp.where(order == 0, most, least) < count
    shown = impute(images, missing)
    if image_keys is None:
        return shown
    drawn = jax.vmap(jax.random.fold_in, in_axes=(0, None))(image_keys, count)
    shape, dtype = images.shape[1:], images.dtype
    normal = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(drawn)
    return jnp.where(missing[..., None], shown + noise * normal, shown)

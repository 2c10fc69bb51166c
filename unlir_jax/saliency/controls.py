"""Maps computed without the network, which every explainer has to beat."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import random_keys
from unlir_jax.saliency.spec import explainer
from unlir_jax.types import Explainer, Images, RandomKey, Saliency, SplitModel

CENTER_DEVIATION = 0.25
RANDOM_CELLS = 7


@explainer(
    title="Fake-CAM",
    family="controls",
    formula="1 everywhere but at one pixel",
    passes="0",
    source="Poppi et al., CVPR Workshops 2021",
)
def fake_cam(model: SplitModel) -> Explainer:
    """Mark every pixel but the top left one.

    It keeps the image nearly as it is, so its average drop is close to 0: a metric that
    it wins says little.

    References:
        Poppi et al., *Revisiting The Evaluation of Class Activation Mapping for
        Explainability*, CVPR Workshops 2021.
    """

    def drawn(size: tuple[int, int]) -> np.ndarray:
        marked = np.ones(size)
        marked[0, 0] = 0
        return marked

    return _constant(model, drawn)


@explainer(
    title="Random cells",
    family="controls",
    formula="7 × 7 uniform cells, drawn from `key`",
    passes="0",
    source="control",
    representative=True,
)
def random(model: SplitModel) -> Explainer:
    """Draw 7 x 7 cells uniformly, for each image from its own key.

    The explainer raises ValueError without `key`.
    """

    def draw(images: Images, key: RandomKey | None) -> Saliency:
        size = (RANDOM_CELLS, RANDOM_CELLS)
        uniform = jax.vmap(lambda k: jax.random.uniform(k, size, images.dtype))
        return uniform(random_keys.per_image(key, images))

    return _control(model, draw)


@explainer(
    title="Centre",
    family="controls",
    formula="Gaussian of a quarter of the sides",
    passes="0",
    source="control",
)
def center(model: SplitModel) -> Explainer:
    """Mark the centre by a Gaussian of a quarter of the image's sides.

    Photographers put things in the middle; a method that finds no more than that has
    found nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> print(saliency.center(model)({}, images, blue)[0].round(2))
        [[0.37 0.37]
         [0.37 0.37]]
    """

    def drawn(size: tuple[int, int]) -> np.ndarray:
        rows, columns = (
            np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / CENTER_DEVIATION) ** 2)
            for n in size
        )
        return np.outer(rows, columns)

    return _constant(model, drawn)


@explainer(
    title="Edges",
    family="controls",
    formula="Sobel magnitude of the luminance",
    passes="0",
    source="control",
)
def edges(model: SplitModel) -> Explainer:
    """Mark edges by the magnitude of the luminance's Sobel gradient."""

    def draw(images: Images, key: RandomKey | None) -> Saliency:
        del key
        grey = jnp.pad(maps.luminance(images), ((0, 0), (1, 1), (1, 1)), mode="edge")
        smooth_rows = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
        smooth_columns = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
        across = smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]
        down = smooth_columns[:, 2:] - smooth_columns[:, :-2]
        return jnp.hypot(across, down)

    return _control(model, draw)


def _constant(
    model: SplitModel, drawn: Callable[[tuple[int, int]], np.ndarray]
) -> Explainer:
    """Give every image the same map, which no program has to compute."""

    @split.guarded(model)
    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
        one = drawn(images.shape[1:3]).astype(images.dtype)
        return jax.device_put(np.broadcast_to(one, images.shape[:3]))

    return explain


def _control(
    model: SplitModel, draw: Callable[[Images, RandomKey | None], Saliency]
) -> Explainer:
    drawn = jax.jit(draw)

    @split.guarded(model)
    def explain(variables, images, labels, *, key=None):
        return drawn(images, key)

    return explain

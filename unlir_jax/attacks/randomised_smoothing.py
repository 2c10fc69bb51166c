"""Randomised smoothing: l2 radii within which no change alters a smoothed decision.

Cohen, Rosenfeld & Kolter, *Certified Adversarial Robustness via Randomized Smoothing*,
ICML 2019.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from unlir_jax import split
from unlir_jax.attacks import checks
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.statistics import proportions
from unlir_jax.types import Images, RandomKey, SplitModel, Variables

NONE = -1
"""Class of an image for which the certificate abstains."""


class Certified(NamedTuple):
    """Hold the certificates of images, arrays of NumPy.

    Attributes:
        label: Class of the smoothed classifier, -1 where it abstains, `[batch]`.
        radius: Euclidean distance within which that class stays, over all pixels and
            channels in [0, 1]; 0 where it abstains, `[batch]`.
        abstained: Whether nothing is certified, `[batch]`.
        counts: Number of the `samples` that were given each class, `[batch, classes]`.
    """

    label: np.ndarray
    radius: np.ndarray
    abstained: np.ndarray
    counts: np.ndarray


Certify = Callable[..., Certified]
"""`(variables, images, *, key) -> Certified`."""


@memoize.remember
def certify(
    model: SplitModel,
    *,
    sigma: float = 0.25,
    samples: int = 100_000,
    selection: int = 100,
    alpha: float = 0.001,
    batch_size: int = 256,
    loop: loops.Loop = "auto",
) -> Certify:
    """Make `(variables, images, *, key) -> Certified`, for any classifier.

    The smoothed classifier g gives the class that the network finds most often in
    x + N(0, `sigma`² I). `selection` draws choose the class. With p the lower bound of
    its probability from `samples` further draws, g is constant within
    `sigma` Φ⁻¹(p) of x where p > 1/2 (Theorem 1). Elsewhere it abstains.

    Args:
        model: The network. It should have been trained on noisy images.
        sigma: Standard deviation of the noise, for images in [0, 1].
        samples: Number of draws for the bound, the paper's 100,000; the largest radius
            is `sigma` Φ⁻¹(`alpha` ** (1 / `samples`)).
        selection: Number of draws for the class; the paper's 100.
        alpha: Probability that the certificate of an image is wrong; the paper's .001.
        batch_size: Most noisy images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A function whose result for an image does not depend on the batch. Under
        `jax.jit` it is refused: the bound is found by the host.

    Raises:
        ValueError: A setting out of range. When called: images outside of [0, 1], no
            key, a transformation such as `jax.jit`, or logits that are no numbers.

    Note:
        Noisy images are not clipped to [0, 1], as in the authors' code. Errors of
        floating point are not accounted for.

    References:
        Cohen, Rosenfeld & Kolter, *Certified Adversarial Robustness via Randomized
        Smoothing*, ICML 2019, Theorem 1 and function CERTIFY.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from unlir_jax import split
        >>> from unlir_jax.attacks import randomised_smoothing
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> red = jnp.zeros((1, 4, 4, 3)).at[..., 0].set(1)
        >>> certify = randomised_smoothing.certify(model, sigma=0.5, samples=1000)
        >>> found = certify({}, red, key=jax.random.key(0))
        >>> found.label.tolist(), round(float(found.radius[0]), 2)
        ([0], 1.23)
    """
    _check(sigma, samples, selection, alpha, batch_size)
    program = _program(model, float(sigma))

    def run(
        variables: Variables, images: Images, *, key: RandomKey | None = None
    ) -> Certified:
        split.check_array("images", images, "[batch, height, width, channels]")
        if split.traced(variables, images, key):
            raise ValueError(
                "`certify` is called under a transformation such as jax.jit, but its "
                "bounds are found by the host; expected a plain call."
            )
        fake = np.zeros(len(images), np.int32)
        checks.check_call(model, variables, images, fake, key=key, sloped=False)
        given = jnp.clip(jnp.asarray(images), 0, 1)
        keys = random_keys.per_image(key, given)
        few = loops.few_enough(batch_size, given.shape[1:3], loop, given)
        count = selection + samples
        found = loops.map_pairs(
            *(functools.partial(program, count), len(given), count, few),
            *(variables, given, keys),
            loop=loop,
        )
        classes = jax.eval_shape(split.whole(model), variables, given).shape[1]
        return _certified(np.asarray(found), classes, selection, sigma, alpha)

    return run


def _check(
    sigma: float, samples: int, selection: int, alpha: float, batch_size: int
) -> None:
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma`={sigma}; expected a positive number.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha`={alpha}; expected a probability in (0, 1).")
    numbers = {"samples": samples, "selection": selection, "batch_size": batch_size}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"`{name}`={value}; expected at least 1.")


@memoize.remember
def _program(model: SplitModel, sigma: float) -> Callable[..., jax.Array]:
    """Compile `(count, size, start, variables, images, keys) -> classes`.

    A chunk of the pairs of an image and one of its `count` draws.
    """
    network = split.whole(model)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def program(
        count: int,
        size: int,
        start: jax.Array,
        variables: Variables,
        images: jax.Array,
        keys: jax.Array,
    ) -> jax.Array:
        image, number = loops.pairs(size, start, len(images), count)
        own = jax.vmap(jax.random.fold_in)(keys[image], number)
        draw = functools.partial(
            jax.random.normal, shape=images.shape[1:], dtype=images.dtype
        )
        logits = network(variables, images[image] + sigma * jax.vmap(draw)(own))
        sound = jnp.all(jnp.isfinite(logits), axis=1)
        return jnp.where(sound, jnp.argmax(logits, axis=1), NONE)

    return program


def _certified(
    found: np.ndarray, classes: int, selection: int, sigma: float, alpha: float
) -> Certified:
    """Certify from the classes of all draws, `[batch, draws]`."""
    if np.any(found == NONE):
        first = int(np.argmax(np.any(found == NONE, axis=1)))
        raise ValueError(
            f"The network gives a noisy copy of `images`[{first}] no numbers; expected "
            "finite logits."
        )
    chosen, counts = (
        np.stack([np.bincount(row, minlength=classes) for row in part])
        for part in (found[:, :selection], found[:, selection:])
    )
    label = chosen.argmax(axis=1)
    hits = np.take_along_axis(counts, label[:, None], axis=1)[:, 0]
    trials = found.shape[1] - selection
    bound = proportions.clopper_pearson_lower(hits, trials, alpha=alpha)
    abstained = bound <= 0.5
    radius = sigma * scipy.special.ndtri(np.where(abstained, 0.5, bound))
    return Certified(np.where(abstained, NONE, label), radius, abstained, counts)

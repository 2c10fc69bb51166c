"""BP: a walk on the edge of the class, by projections onto the boundary.

Zhang, Avrithis, Furon & Amsaleg, *Walking on the Edge: Fast, Low-Distortion Adversarial
Examples*, IEEE TIFS 16 (2021), arXiv 1912.02153.
"""

import jax
import jax.numpy as jnp

from unlir_jax.attacks import checks, losses, minimal, norms, settings
from unlir_jax.attacks.minimal import Rule, View, dot, wide
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, PyTree, SplitModel

HALVINGS = 12
"""Halvings that find the length of a step; the authors have 7."""


@attack(
    title="Boundary projection",
    norms=("l2",),
    kind="minimal",
    passes="`steps` (100) × (forward + backward)",
    source="Zhang et al., IEEE TIFS 16 (2021), Algorithm 1",
    quick={"steps": 5},
    synonyms=("bp", "walking_on_the_edge"),
)
def boundary_projection(
    model: SplitModel,
    *,
    steps: int = 100,
    gamma: float = 0.7,
    alpha: float = 2.0,
    least: float = 0.0,
    quantise: bool | int = True,
    loop: loops.Loop = "auto",
) -> Craft:
    """Search the boundary along the gradient, then walk along it to the image.

    With `delta = x' - x`, `g` the unit gradient of the loss, which success needs high,
    and `gamma_i = gamma + (1 - gamma) i / (steps + 1)`, a step is (Section 4):

    - before the first success `x' + alpha gamma_i g`;
    - from a success to the sphere of radius `gamma_i |delta|` about `x`, on the plane
      through `x'` across `g`, which is nearly the boundary;
    - from a failure along `g` to the sphere of radius `|delta| / gamma_i`.

    Args:
        model: The network.
        steps: Number of gradients for each image; the paper's 20 or 100.
        gamma: First share by which spheres shrink or grow; the paper's 0.7.
        alpha: Length of the first steps.
        least: Length of the shortest step from a failure; the authors' 0.1.
        quantise: Number of levels of the images, True for the paper's 256, False for
            none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small l2 distortion.

    Raises:
        ValueError: `gamma` is not between 0 and 1, `alpha` is not positive, or `least`
            is negative.

    Note:
        This follows the paper where the authors' code differs from it: the radius on
        the plane is one number an image. The paper leaves choices open.

        - The loss is the logarithm of the odds. It has the order of the cross entropy.
        - After the first success, `g` has only the pixels that can move on in [0, 1].
        - Where the smaller sphere does not reach the plane, the step ends on the line
          from `x` along `g`. The paper's formula gives the foot of the plane, which may
          be the point itself.
        - Halvings find where a step meets the sphere, of points that are clipped and
          rounded as the network will see them. The paper halves on the plane alone.
        - Steps begin at the point before it was rounded. So rounding stops no step, and
          no shortest step is needed.
        - Without a success the last point is returned, and no white image.

    References:
        Zhang et al., *Walking on the Edge: Fast, Low-Distortion Adversarial Examples*,
        IEEE TIFS 16 (2021), arXiv 1912.02153, Section 4.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.25).at[..., 0].set(0.75)
        >>> attack = attacks.boundary_projection(model)
        >>> found = attack({}, image, jnp.asarray([0]))  # The nearest has 0.5 in two.
        >>> distance = float(jnp.linalg.norm(found - image))
        >>> bool(distance < 1.2 * 2**0.5)
        True
    """
    settings.check_share("gamma", gamma)
    settings.check_positive("alpha", alpha)
    settings.check_least("least", least, 0)
    rule = step_rule(gamma, alpha, least, checks.levels_of(quantise))
    return minimal.craft(
        *(model, rule),
        **{"steps": steps, "norm": "l2", "loss": losses.log_odds},
        **{"quantise": quantise, "loop": loop},
    )


@memoize.remember
def step_rule(gamma: float, alpha: float, least: float, levels: int) -> Rule:
    """Make the rule of the steps; see `boundary_projection` for the arguments."""

    def begin(images: Images) -> jax.Array:
        return jnp.asarray(images)

    def move(point: jax.Array, view: View) -> tuple[jax.Array, jax.Array, bool]:
        """Move on from the point that `view` has after rounding."""
        share = view.number.astype(point.dtype) / (view.steps + 1)
        factor = gamma + share * (1 - gamma)
        first = point + wide(alpha * factor) * view.direction
        later = _walked(point, view, factor, least, levels)
        point = jnp.where(wide(view.smallest < jnp.inf), later, first)
        point = jnp.clip(point, 0, 1)
        return point, point, False

    return Rule(begin, move)


def _walked(
    point: jax.Array, view: View, factor: jax.Array, least: float, levels: int
) -> jax.Array:
    """Go to a sphere: on the plane from a success, uphill from a failure."""
    uphill = _free(point, view.direction)
    change = point - view.images
    foot = wide(dot(change, uphill)) * uphill
    radius = view.distance * jnp.where(view.adversarial, factor, 1 / factor)
    # Rounding may take away more than it leaves.
    far = norms.length(change, "l2") + radius
    far = wide(jnp.maximum(far, least)) * uphill

    out = wide(view.adversarial)
    begin = jnp.where(out, view.images, point)
    path = begin, jnp.where(out, foot, far), jnp.where(out, change - foot, far)
    low, high = _crossing(path, view.images, radius, levels)
    size = norms.length(far, "l2")
    high = jnp.maximum(high, least / jnp.where(size > 0, size, 1))
    return _along(path, jnp.where(view.adversarial, low, high))


def _free(point: jax.Array, direction: jax.Array) -> jax.Array:
    """Give the direction of the pixels that can still move, if there are any."""
    blocked = jnp.where(direction < 0, point <= 0, point >= 1)
    free = jnp.where(blocked, 0, direction)
    some = wide(norms.length(free, "linf") > 0)
    return norms.unit(jnp.where(some, free, direction), "l2")


Path = tuple[jax.Array, jax.Array, jax.Array]
"""Where it begins, and two lines, as large as the images."""


def _along(path: Path, share: jax.Array) -> jax.Array:
    """Give a point of a path: at 1 the first line ends, at 2 the second."""
    begin, first, second = path
    ahead = wide(jnp.minimum(share, 1)) * first
    return begin + ahead + wide(jnp.maximum(share - 1, 0)) * second


def _crossing(
    path: Path, images: jax.Array, radius: jax.Array, levels: int
) -> tuple[jax.Array, jax.Array]:
    """Find where a path leaves a sphere: the last share before and the first after.

    Points count as the network sees them, in [0, 1] and rounded.
    """

    def halve(_: PyTree, bounds: tuple[jax.Array, jax.Array]):
        low, high = bounds
        middle = (low + high) / 2
        found = jnp.clip(_along(path, middle), 0, 1)
        found = minimal.quantised(found, levels)
        fits = norms.length(found - images, "l2") <= radius
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    low = jnp.zeros_like(radius)
    return jax.lax.fori_loop(0, HALVINGS, halve, (low, low + 2))

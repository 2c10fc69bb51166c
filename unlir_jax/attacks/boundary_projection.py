"""BP: a walk on the edge of the class, by projections onto the boundary.

Zhang, Avrithis, Furon & Amsaleg, *Walking on the Edge: Fast, Low-Distortion Adversarial
Examples*, IEEE TIFS 16 (2021), arXiv 1912.02153.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax.attacks import checks, losses, minimal, norms, settings
from unlir_jax.attacks.minimal import Rule, View, dot, wide
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, PyTree, SplitModel

HALVINGS = 10
"""Halvings that find the length of a step whose end is rounded."""


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
        the plane is one number an image. The paper leaves four choices open.

        - The loss is the logarithm of the odds. It has the order of the cross entropy.
        - Where the smaller sphere does not reach the plane, the step ends on the line
          from `x` along `g`. The paper's formula gives the foot of the plane, which may
          be the point itself.
        - With levels, the network sees rounded points, and `|delta|` is theirs. Steps
          begin at the point before it is rounded, and halvings find how long they are.
          So rounding stops no step, and no shortest step is needed.
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
    rule = _rule(gamma, alpha, least, checks.levels_of(quantise))
    return minimal.craft(
        *(model, rule),
        **{"steps": steps, "norm": "l2", "loss": losses.log_odds},
        **{"quantise": quantise, "loop": loop},
    )


@memoize.remember
def _rule(gamma: float, alpha: float, least: float, levels: int) -> Rule:
    def begin(images: Images) -> jax.Array:
        return jnp.asarray(images)

    def move(point: jax.Array, view: View) -> tuple[jax.Array, jax.Array, bool]:
        """Move on from the point that `view` has after rounding."""
        share = view.number.astype(point.dtype) / (view.steps + 1)
        factor = gamma + share * (1 - gamma)
        crossed = view.smallest < jnp.inf
        grown = _inwards(point, view, view.distance / factor, levels)
        length = jnp.where(crossed, jnp.maximum(grown, least), alpha * factor)
        towards = point + wide(length) * view.direction
        away = _outwards(point, view, view.distance * factor, levels)
        point = jnp.clip(jnp.where(wide(view.adversarial), away, towards), 0, 1)
        return point, point, False

    return Rule(begin, move)


def _inwards(point: jax.Array, view: View, radius: jax.Array, levels: int) -> jax.Array:
    """Give the length of a step uphill that ends on a larger sphere."""
    change = point - view.images
    if not levels:
        along = dot(change, view.direction)
        square = radius**2 - view.distance**2 + along**2
        return jnp.sqrt(jnp.maximum(square, 0)) - along

    def line(length: jax.Array) -> jax.Array:
        return point + wide(length) * view.direction

    # Rounding may take away more than it leaves.
    most = 2 * (norms.length(change, "l2") + radius)
    return _crossing(line, most, view.images, radius, levels)[1]


def _outwards(
    point: jax.Array, view: View, radius: jax.Array, levels: int
) -> jax.Array:
    """Move on the tangent plane of the boundary to a smaller sphere."""
    change = point - view.images
    along = dot(change, view.direction)
    foot = wide(along) * view.direction
    tangent = change - foot
    if not levels:
        size = norms.length(tangent, "l2")
        tangent = tangent / wide(jnp.where(size > 0, size, 1))
        along = jnp.clip(along, -radius, radius)
        length = jnp.sqrt(jnp.maximum(radius**2 - along**2, 0))
        return view.images + wide(along) * view.direction + wide(length) * tangent

    def corner(share: jax.Array) -> jax.Array:
        """Go from the image to the foot of the plane, 1, and on to the point, 2."""
        first = wide(jnp.minimum(share, 1)) * foot
        return view.images + first + wide(jnp.maximum(share - 1, 0)) * tangent

    most = jnp.full_like(radius, 2)
    return corner(_crossing(corner, most, view.images, radius, levels)[0])


def _crossing(
    path: Callable[[jax.Array], jax.Array],
    most: jax.Array,
    images: jax.Array,
    radius: jax.Array,
    levels: int,
) -> tuple[jax.Array, jax.Array]:
    """Find where a path of rounded images leaves a sphere: before, and after it."""

    def halve(_: PyTree, bounds: tuple[jax.Array, jax.Array]):
        low, high = bounds
        middle = (low + high) / 2
        found = minimal.quantised(jnp.clip(path(middle), 0, 1), levels)
        fits = norms.length(found - images, "l2") <= radius
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    return jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))

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

BISECTIONS = 7
"""Halvings of the step along the boundary, where images are rounded."""


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
    least: float = 0.1,
    quantise: bool | int = True,
    loop: loops.Loop = "auto",
) -> Craft:
    """Search the boundary along the gradient, then walk along it to the image.

    With `delta = x' - x`, `g` the unit gradient of the margin, which success needs
    high, and `gamma_i = gamma + (1 - gamma) i / (steps + 1)`, a step is (Section 4):

    - before the first success `x' + alpha gamma_i g`;
    - from a success to the sphere of radius `gamma_i |delta|` about `x`, on the plane
      through `x'` across `g`, which is nearly the boundary;
    - from a failure along `g` to the sphere of radius `|delta| / gamma_i`.

    Args:
        model: The network.
        steps: Number of gradients for each image; the paper's 20 or 100.
        gamma: First share by which spheres shrink or grow; the paper's 0.7.
        alpha: Length of the first steps.
        least: Length of the shortest step from a failure.
        quantise: Number of levels of the images, True for the paper's 256, False for
            none. Seven halvings find the step along the plane that ends on the sphere
            once it is rounded.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small l2 distortion.

    Raises:
        ValueError: `gamma` is not between 0 and 1, `alpha` is not positive, or `least`
            is negative.

    Note:
        This follows the paper where the authors' code differs from it. The loss is the
        margin of logits with either sign, and the radius on the plane is one number an
        image. Without a success the last point is returned, and no white image. Where
        the smaller sphere does not reach the plane, its point nearest to the plane is
        taken: the foot of the plane, which the formula gives, may be the point itself.

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
        **{"steps": steps, "norm": "l2", "loss": losses.margin},
        **{"quantise": quantise, "loop": loop},
    )


@memoize.remember
def _rule(gamma: float, alpha: float, least: float, levels: int) -> Rule:
    def begin(images: Images) -> tuple[()]:
        del images
        return ()

    def move(own: tuple[()], view: View) -> tuple[tuple[()], jax.Array, bool]:
        share = view.number.astype(view.point.dtype) / (view.steps + 1)
        factor = gamma + share * (1 - gamma)
        along = dot(view.point - view.images, view.direction)
        crossed = view.smallest < jnp.inf
        length = jnp.where(
            crossed, _inwards(view, along, factor, least), alpha * factor
        )
        towards = view.point + wide(length) * view.direction
        away = _outwards(view, along, factor, levels)
        return own, jnp.where(wide(view.adversarial), away, towards), False

    return Rule(begin, move)


def _inwards(
    view: View, along: jax.Array, factor: jax.Array, least: float
) -> jax.Array:
    """Give the length of a step uphill that ends on a larger sphere."""
    radius = view.distance / factor
    square = radius**2 - view.distance**2 + along**2
    return jnp.maximum(jnp.sqrt(jnp.maximum(square, 0)) - along, least)


def _outwards(
    view: View, along: jax.Array, factor: jax.Array, levels: int
) -> jax.Array:
    """Move on the tangent plane of the boundary to a smaller sphere."""
    radius = factor * view.distance
    tangent = view.point - view.images - wide(along) * view.direction
    # A smaller sphere may not reach the plane; its nearest point to the plane is taken.
    along = jnp.clip(along, -radius, radius)
    foot = view.images + wide(along) * view.direction
    size = norms.length(tangent, "l2")
    tangent = tangent / wide(jnp.where(size > 0, size, 1))
    if not levels:
        length = jnp.sqrt(jnp.maximum(radius**2 - along**2, 0))
        return foot + wide(length) * tangent
    low, high = jnp.zeros_like(size), size

    def halve(_: PyTree, bounds: tuple[jax.Array, jax.Array]):
        low, high = bounds
        middle = (low + high) / 2
        found = jnp.clip(foot + wide(middle) * tangent, 0, 1)
        found = minimal.quantised(found, levels)
        fits = norms.length(found - view.images, "l2") <= radius
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    low, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    return foot + wide(low) * tangent

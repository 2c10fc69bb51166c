"""FMN: the fast minimum-norm attack.

Pintor, Roli, Brendel & Biggio, *Fast Minimum-norm Adversarial Attacks through Adaptive
Norm Constraints*, NeurIPS 2021, arXiv 2102.12827.
"""

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, minimal, norms, settings
from unlir_jax.attacks.ddn import farthest
from unlir_jax.attacks.minimal import Norm, Rule, View, wide
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, SplitModel

DUAL: dict[Norm, Norm] = {"l2": "l2", "linf": "l1", "l1": "linf"}


@attack(
    title="FMN",
    norms=("l2", "linf", "l1", "l0"),
    kind="minimal",
    passes="`steps` (100) × (forward + backward)",
    source="Pintor et al., NeurIPS 2021, Algorithm 1",
    quick={"steps": 5},
)
def fmn(
    model: SplitModel,
    *,
    norm: Norm = "l2",
    steps: int = 100,
    alpha: float = 1.0,
    alpha_last: float | None = None,
    gamma: float = 0.05,
    gamma_last: float = 0.001,
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Step along the gradient, and project onto a ball that shrinks or grows.

    The radius is multiplied by `1 - gamma_i` behind a success and by `1 + gamma_i`
    behind a failure. Before the first success it is the distance to where a linear
    network would have its boundary (Algorithm 1). Step lengths and `gamma_i` fall along
    a cosine.

    Args:
        model: The network.
        norm: What is to be small: `l2`, `linf`, `l1`, or `l0`, the number of pixels.
        steps: Number of gradients for each image.
        alpha: Length of the first step, in the l2 norm; the paper's 1.
        alpha_last: Length that the last step comes near to; by default `alpha` / 100.
        gamma: Share by which the radius changes first; the paper's 0.05.
        gamma_last: Share that it comes near to; the paper's 0.001.
        quantise: Number of levels of the images, True for 256, False for none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small distortion.

    Raises:
        ValueError: An unknown norm, a length that is not positive, or a share that is
            not between 0 and 1.

    Note:
        The search starts at the image. Where the network is linear, the paper's radius
        before the first success ends on the boundary itself, and the attack fails
        there. Here a change that has come within 1e-5 of it grows by `gamma_i`. The
        projection onto the l1 ball keeps [0, 1] as well, where the paper clips behind
        it. Of images with colours, `l0` counts and keeps whole pixels.

    References:
        Pintor et al., *Fast Minimum-norm Adversarial Attacks through Adaptive Norm
        Constraints*, NeurIPS 2021, Algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.25).at[..., 0].set(0.75)
        >>> found = attacks.fmn(model, norm="linf")({}, image, jnp.asarray([0]))
        >>> bool(jnp.abs(found - image).max() < 0.26)  # At 0.25 both logits are equal.
        True
    """
    settings.check_positive("alpha", alpha)
    settings.check_share("gamma", gamma)
    settings.check_share("gamma_last", gamma_last)
    last = alpha / 100 if alpha_last is None else alpha_last
    settings.check_positive("alpha_last", last)
    rule = _rule(norm, (alpha, last), (gamma, gamma_last))
    return minimal.craft(
        *(model, rule),
        **{"steps": steps, "norm": norm, "loss": losses.margin},
        **{"quantise": quantise, "loop": loop},
    )


@memoize.remember
def _rule(norm: Norm, alphas: tuple[float, float], gammas: tuple[float, float]) -> Rule:
    def begin(images: Images) -> jax.Array:
        first = 1.0 if norm == "l0" else jnp.inf
        return jnp.full(len(images), first, images.dtype)

    def move(radius: jax.Array, view: View) -> tuple[jax.Array, jax.Array, bool]:
        alpha, gamma = (minimal.annealed(view, *each) for each in (alphas, gammas))
        resized = _resized_count if norm == "l0" else _resized
        radius = resized(radius, gamma, view, norm)
        radius = jnp.minimum(radius, farthest(view.images, norm))
        change = view.point - view.images + wide(alpha) * view.direction
        if norm == "l0":
            return radius, view.images + _largest(change, radius), False
        point = view.images + change
        return radius, norms.project(point, view.images, radius, norm), False

    return Rule(begin, move)


def _resized(radius: jax.Array, gamma: jax.Array, view: View, norm: Norm) -> jax.Array:
    """Shrink the ball behind a success, and grow it behind a failure.

    Before the first success it reaches to where a linear network has its boundary. The
    boundary itself is a fixed point of that rule, and no success: from there it grows.
    """
    slope = jnp.maximum(norms.length(view.gradient, DUAL[norm]), 1e-12)
    missing = jnp.abs(view.loss) / slope
    stands = (missing <= minimal.SURE * view.distance) & (view.distance > 0)
    boundary = view.distance * (1 + jnp.where(stands, gamma, 0)) + missing
    grown = jnp.where(view.smallest < jnp.inf, radius * (1 + gamma), boundary)
    shrunk = jnp.minimum(radius * (1 - gamma), view.smallest)
    return jnp.where(view.adversarial, shrunk, grown)


def _resized_count(
    radius: jax.Array, gamma: jax.Array, view: View, norm: Norm
) -> jax.Array:
    """Change the number of pixels by at least one."""
    del norm
    shrunk = jnp.minimum(radius - 1, jnp.floor(radius * (1 - gamma)))
    shrunk = jnp.minimum(shrunk, view.smallest)
    grown = jnp.maximum(radius + 1, jnp.floor(radius * (1 + gamma)))
    return jnp.maximum(jnp.where(view.adversarial, shrunk, grown), 0)


def _largest(change: jax.Array, count: jax.Array) -> jax.Array:
    """Keep the pixels that change most, in the l2 norm of their channels."""
    weight = jnp.sum(change**2, axis=3)
    ordered = -jnp.sort(-weight.reshape((len(change), -1)), axis=1)
    last = jnp.maximum(count.astype(jnp.int32) - 1, 0)[:, None]
    bar = jnp.take_along_axis(ordered, last, axis=1)[:, :, None]
    kept = (weight >= bar) & (count > 0)[:, None, None]
    return jnp.where(kept[..., None], change, 0)

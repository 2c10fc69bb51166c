"""DDN: the direction of the change and its norm, decoupled.

Rony, Hafemann, Oliveira, Ben Ayed, Sabourin & Granger, *Decoupling Direction and Norm
for Efficient Gradient-Based L2 Adversarial Attacks and Defenses*, CVPR 2019.
"""

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, minimal, norms, settings
from unlir_jax.attacks.minimal import Rule, View, wide
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, SplitModel

LENGTHS = 1.0, 0.01
"""Length of the first and of the last step."""


@attack(
    title="DDN",
    norms=("l2",),
    kind="minimal",
    passes="`steps` (100) × (forward + backward)",
    source="Rony et al., CVPR 2019, Algorithm 1",
    quick={"steps": 5},
)
def ddn(
    model: SplitModel,
    *,
    steps: int = 100,
    gamma: float = 0.05,
    initial: float = 1.0,
    quantise: bool | int = True,
    loop: loops.Loop = "auto",
) -> Craft:
    """Step along the gradient, and put the change on a sphere that shrinks or grows.

    The sphere's radius is multiplied by `1 - gamma` behind a success and by `1 + gamma`
    behind a failure (Algorithm 1).

    Args:
        model: The network.
        steps: Number of gradients for each image.
        gamma: Share by which the radius changes; the paper's 0.05.
        initial: First radius; the paper's 1.
        quantise: Number of levels of the images, True for the paper's 256, False for
            none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small l2 distortion.

    Raises:
        ValueError: `gamma` is not between 0 and 1, or `initial` is not positive.

    Note:
        The least distorted success is kept by its distance; the paper keeps the last.

    References:
        Rony et al., *Decoupling Direction and Norm for Efficient Gradient-Based L2
        Adversarial Attacks and Defenses*, CVPR 2019, Algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> grey = jnp.full((1, 4, 4, 3), 0.5).at[..., 0].add(0.1)  # Class 0 by a bit.
        >>> red = jnp.asarray([0])
        >>> found = attacks.ddn(model)({}, grey, red)
        >>> told = attacks.outcome(model)({}, grey, found, red)
        >>> bool(told["success"][0])
        True
    """
    settings.check_share("gamma", gamma)
    settings.check_positive("initial", initial)
    rule = _rule(gamma, initial)
    return minimal.craft(
        *(model, rule),
        **{"steps": steps, "norm": "l2", "loss": losses.log_odds},
        **{"quantise": quantise, "loop": loop},
    )


@memoize.remember
def _rule(gamma: float, initial: float) -> Rule:
    def begin(images: Images) -> jax.Array:
        return jnp.full(len(images), initial, images.dtype)

    def move(radius: jax.Array, view: View) -> tuple[jax.Array, jax.Array, bool]:
        length = minimal.annealed(view, *LENGTHS)
        change = view.point - view.images + wide(length) * view.direction
        factor = jnp.where(view.adversarial, 1 - gamma, 1 + gamma)
        radius = jnp.minimum(factor * radius, farthest(view.images))
        change = change * wide(radius / jnp.maximum(norms.length(change, "l2"), 1e-12))
        return radius, view.images + change, False

    return Rule(begin, move)


def farthest(images: jax.Array, norm: minimal.Norm = "l2") -> jax.Array:
    """Measure the largest change that leaves images in [0, 1]."""
    return norms.length(jnp.maximum(images, 1 - images), norm)

"""BIM whose steps are smooth along the image."""

from unlir_jax.attacks import ascent, losses, smoothing
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.types import SplitModel


@attack(
    title="Smooth BIM",
    norms=("l2",),
    kind="budget",
    passes="`steps` (10) × (forward + backward)",
    source="Zhang et al., EURASIP JIS (2020)",
    quick={"steps": 2},
    synonyms=("sbim",),
)
def smooth_bim(
    model: SplitModel,
    *,
    epsilon: float = 3.0,
    steps: int = 10,
    step_size: float | None = None,
    edges: float = 10.0,
    strength: float = 0.95,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = False,
    quantise: bool | int = False,
) -> Craft:
    """Take many short steps along the smoothed gradient, and stay in the l2 ball.

    The change is smooth where the image is, and may jump at its edges, so that it is
    harder to see. `smoothing.smooth` has the formula.

    Args:
        model: The network.
        epsilon: Largest change, a distance over all pixels and channels.
        steps: Number of steps.
        step_size: Length of each; by default `epsilon / steps`.
        edges: Factor of squared differences of neighbours; the paper's 10. The larger,
            the smaller a difference at which the change may jump.
        strength: Share of a change that neighbours decide; the paper's 0.95.
        loss: `cross_entropy`, `margin` or `dlr`.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Zhang et al., *Smooth Adversarial Examples*, EURASIP Journal on Information
        Security (2020), arXiv 1903.11862, Sections 3 and 4.

    Note:
        The authors take a ball of 9, and steps of 0.8 for digits and of 3 for ImageNet.
        A step is scaled to its length after it is smoothed.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x[:, 0, 0])
        >>> grey = jnp.full((1, 6, 6, 3), 0.5).at[..., 0].add(0.1)
        >>> found = attacks.smooth_bim(model, epsilon=2.0)({}, grey, jnp.asarray([0]))
        >>> change = found[0, 0, :, 1] - grey[0, 0, :, 1]  # Only one pixel matters.
        >>> bool(jnp.all(change[:-1] > change[1:])), bool(change[-1] > 0)
        (True, True)
    """
    size = epsilon / steps if step_size is None else step_size
    settings = ascent.Climb(
        *("l2", epsilon, steps, size),
        stop_early=stop_early,
        quantise=quantise,
        smoothing=smoothing.checked(edges, strength),
    )
    return ascent.climb(model, losses.resolve(loss), settings)

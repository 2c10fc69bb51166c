"""PGD whose starts and steps are smooth along the image."""

from unlir_jax.attacks import ascent, losses, smoothing
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.types import SplitModel


@attack(
    title="Smooth PGD",
    norms=("l2",),
    kind="budget",
    passes="`restarts` × `steps` (40) × (forward + backward)",
    source="Zhang et al., EURASIP JIS (2020)",
    quick={"steps": 2},
    synonyms=("spgd", "spgd2"),
    random=True,
)
def smooth_pgd(
    model: SplitModel,
    *,
    epsilon: float = 3.0,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    edges: float = 10.0,
    strength: float = 0.95,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = False,
    quantise: bool | int = False,
) -> Craft:
    """Raise the loss from smooth starts by smooth steps, within an l2 ball.

    The change is smooth where the image is, and may jump at its edges, so that it is
    harder to see. `smoothing.smooth` has the formula.

    Args:
        model: The network.
        epsilon: Largest change, a distance over all pixels and channels.
        steps: Number of steps of each start.
        step_size: Length of each; by default `2.5 epsilon / steps`.
        random_start: Whether it starts at a random point of the ball, whose change is
            smoothed as well.
        restarts: Number of starts, see `pgd`.
        edges: Factor of squared differences of neighbours; the paper's 10. The larger,
            the smaller a difference at which the change may jump.
        strength: Share of a change that neighbours decide; the paper's 0.95.
        loss: `cross_entropy`, `margin` or `dlr`.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256.

    Raises:
        ValueError: A setting that makes no sense, or several starts that do not differ.

    References:
        Zhang et al., *Smooth Adversarial Examples*, EURASIP Journal on Information
        Security (2020), arXiv 1903.11862, Sections 3 and 4.

    Note:
        The authors take a ball of 9, and steps of 0.8 for digits and of 3 for ImageNet.
        A step is scaled to its length after it is smoothed.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    settings = ascent.Climb(
        *("l2", epsilon, steps, size),
        random_start=random_start,
        restarts=restarts,
        stop_early=stop_early,
        quantise=quantise,
        smoothing=smoothing.checked(edges, strength),
    )
    return ascent.climb(model, losses.resolve(loss), settings)

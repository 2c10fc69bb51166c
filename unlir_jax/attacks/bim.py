"""Many small steps along the sign of the gradient."""

from unlir_jax.attacks import ascent, losses
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.types import SplitModel


@attack(
    title="BIM",
    norms=("linf", "l2"),
    kind="budget",
    passes="`steps` (10) × (forward + backward)",
    source="Kurakin et al., 2016",
    quick={"steps": 2},
    synonyms=("i_fgsm", "basic_iterative_method"),
)
def bim(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 10,
    step_size: float | None = None,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = False,
    quantise: bool | int = False,
) -> Craft:
    """Take FGSM's step many times, each a short one, and stay in the ball.

    `x_{t+1} = clip(x_t + step_size sign(gradient))`, where `clip` keeps it within
    `epsilon` of the image and in [0, 1].

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change, in [0, 1].
        steps: Number of steps.
        step_size: Length of each; by default `epsilon / steps`.
        loss: `cross_entropy`, `margin` or `dlr`.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Kurakin et al., *Adversarial Examples in the Physical World*, 2016, Section 2.2.

    Note:
        The authors step by 1/255, `min(255 epsilon + 4, 1.25 * 255 epsilon)` times.
    """
    size = epsilon / steps if step_size is None else step_size
    settings = ascent.Climb(
        norm, epsilon, steps, size, stop_early=stop_early, quantise=quantise
    )
    return ascent.climb(model, losses.resolve(loss), settings)

"""Steps along the sign of a momentum of gradients."""

from unlir_jax.attacks import ascent, losses
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.types import SplitModel


@attack(
    title="MI-FGSM",
    norms=("linf", "l2"),
    kind="budget",
    passes="`steps` (10) × (forward + backward)",
    source="Dong et al., CVPR 2018",
    quick={"steps": 2},
    synonyms=("mifgsm", "momentum_iterative_method"),
)
def mi_fgsm(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = False,
    quantise: bool | int = False,
) -> Craft:
    """Follow a momentum of gradients, which transfers better to other networks.

    `g_{t+1} = decay g_t + gradient / ||gradient||_1` (Eq. 6) and
    `x_{t+1} = clip(x_t + step_size sign(g_{t+1}))` (Eq. 7).

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change, in [0, 1].
        steps: Number of steps.
        step_size: Length of each; by default `epsilon / steps`, as the authors have it.
        decay: Share of the momentum that is kept; the authors' 1.
        loss: `cross_entropy`, `margin` or `dlr`.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Dong et al., *Boosting Adversarial Attacks with Momentum*, CVPR 2018.
    """
    if not 0 <= decay:
        raise ValueError(f"`decay`={decay}; expected 0 or more.")
    size = epsilon / steps if step_size is None else step_size
    settings = ascent.Climb(
        norm, epsilon, steps, size, decay, stop_early=stop_early, quantise=quantise
    )
    return ascent.climb(model, losses.resolve(loss), settings)

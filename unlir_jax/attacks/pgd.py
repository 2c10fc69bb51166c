"""Projected gradient descent from random points of the ball."""

from unlir_jax.attacks import ascent, losses
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.types import SplitModel


@attack(
    title="PGD",
    norms=("linf", "l2", "l1"),
    kind="budget",
    passes="`restarts` × `steps` (40) × (forward + backward)",
    source="Madry et al., ICLR 2018",
    quick={"steps": 2},
    synonyms=("projected_gradient_descent",),
    random=True,
)
def pgd(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = False,
    quantise: bool | int = False,
) -> Craft:
    """Raise the loss by steps that are projected back onto the ball.

    A step goes along the steepest direction of the norm: the gradient's sign for
    `linf`, the unit gradient for `l2`, and for `l1` the signs of the hundredth of
    the entries that have the largest slopes and can still move.

    Args:
        model: The network.
        norm: `linf`, `l2` or `l1`.
        epsilon: Largest change: in [0, 1] for `linf`, a distance over all pixels and
            channels for others.
        steps: Number of steps of each start.
        step_size: Length of each in the norm; by default `2.5 epsilon / steps`.
        random_start: Whether it starts at a random point of the ball, uniformly drawn.
        restarts: Number of starts. An image keeps the first that deceives the network,
            else that with the highest loss; with several, each is judged by a pass
            forward.
        loss: `cross_entropy`, `margin` or `dlr`.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256. The network is
            then looked at through the rounding.

    Raises:
        ValueError: A setting that makes no sense, or several starts that do not differ.

    References:
        Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*,
        ICLR 2018, Section 2.1. Tramer & Boneh, *Adversarial Training and Robustness for
        Multiple Perturbations*, NeurIPS 2019, for the steps in `l1`.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    settings = ascent.Climb(
        norm,
        epsilon,
        steps,
        size,
        random_start=random_start,
        restarts=restarts,
        stop_early=stop_early,
        quantise=quantise,
    )
    return ascent.climb(model, losses.resolve(loss), settings)

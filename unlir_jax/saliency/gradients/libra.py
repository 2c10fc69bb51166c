"""LibraGrad: gradients of a transformer that are complete, for every method.

A network is complete if its score is `Σ x ∂y/∂x` over the image and all biases. ReLU
networks are; attention, gates and norms are not. Their derivatives are replaced in the
network's traced equations, so it makes no difference in what library it is written.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from unlir_jax.core import memoize
from unlir_jax.saliency import derivatives
from unlir_jax.saliency.gradients.gradient import Channels, input_x_gradient
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import (
    Attended,
    Explainer,
    Features,
    Images,
    Logits,
    SplitModel,
    Variables,
)

RULES = derivatives.Rules("constant", products=True, divisors=True)


@memoize.remember
def libra_grad(model: SplitModel) -> SplitModel:
    """Cut the same network, with the gradients of LibraGrad instead of its own.

    Its logits are the same. Attention weights are constants, and so are the gates of
    GELU and SiLU and the scales of norms. Each factor of a product, as in a gated
    perceptron, has half of its derivative. Networks of ReLUs keep their gradients.

    Args:
        model: Any cut network. Explainers of the result take its gradients, also if
            they differentiate by attention.

    Raises:
        ValueError: When called: the network has a loop such as scan, or ends with a
            softmax.

    References:
        Mehri, Baghshah & Pilehvar, *LibraGrad: Balancing Gradient Flow for Universally
        Better Vision Transformer Attributions*, CVPR 2025.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # One neuron that is gated.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: jnp.sum(maps * maps, (1, 2)),
        ... )
        >>> explain = saliency.input_x_gradient(saliency.libra_grad(model))
        >>> images, labels = jnp.full((1, 1, 1, 1), 0.5), jnp.zeros(1, int)
        >>> explain({}, images, labels).item()  # The score, and not twice of it.
        0.25
    """
    known = model.attention
    attend: Callable[..., Any] = known.run if known is not None else model.head

    @jax.jit
    def features(variables: Variables, images: Images) -> Features:
        return _balanced(lambda given: model.features(variables, given), images)

    @jax.jit
    def head(variables: Variables, cut: Features) -> Logits:
        return _balanced(lambda given: model.head(variables, given), cut)

    def run(
        variables: Variables,
        images: Images,
        added: Sequence[jax.Array] = (),
        apart: bool = False,
    ) -> Attended:
        def whole(given: Any) -> Attended:
            return attend(variables, *given, apart)

        return _balanced(whole, (images, tuple(added)))

    balanced = model._replace(features=features, head=head)
    if known is None:
        return balanced
    return balanced._replace(attention=known._replace(run=run))


def _balanced(function: Callable[[Any], Any], given: Any) -> Any:
    return derivatives.replaced(function, given, rules=RULES)(given)


@explainer(
    title="Libra input × gradient",
    family="gradients",
    formula="gradient of LibraGrad times image",
    passes="1 forward + backward",
    source="Mehri et al., CVPR 2025",
    degree=1,
    signed={"channels": ("sum",)},
)
def libra_input_x_gradient(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "sum",
) -> Explainer:
    """Multiply pixels and the gradient of LibraGrad, see `libra_grad`.

    Settings and errors as in `input_x_gradient`.

    References:
        Mehri et al., *LibraGrad*, CVPR 2025.
    """
    return input_x_gradient(libra_grad(model), score=score, channels=channels)

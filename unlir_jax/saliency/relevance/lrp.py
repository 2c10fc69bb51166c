"""Layer-wise relevance propagation by composites of rules."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.saliency import derivatives
from unlir_jax.saliency.relevance import rules
from unlir_jax.saliency.relevance.rules import Rule
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import linear, scores
from unlir_jax.split.linear import Linear
from unlir_jax.types import Explainer, Images, Labels, PyTree, SplitModel, Variables


class Composite(NamedTuple):
    """Say which layer follows which rule, see `rules`.

    Attributes:
        convolution: Rule of convolutions.
        dense: Rule of all other linear layers.
        first: Rule of the first layer; None for the one of its kind.
    """

    convolution: Rule
    dense: Rule
    first: Rule | None = None


BOX = "epsilon_gamma_box"
CONVOLUTIONS: dict[str, Callable[..., Rule]] = {
    "epsilon": lambda stabilizer, bias: rules.epsilon(bias=bias),
    "epsilon_plus": rules.z_plus,
    "epsilon_plus_flat": rules.z_plus,
    "epsilon_alpha2_beta1": rules.alpha_beta,
    "epsilon_gamma": rules.gamma,
    BOX: rules.gamma,
}
"""Rules of convolutions by the name of a composite; dense layers follow epsilon."""

Box = tuple[tuple[float, ...], tuple[float, ...]]


@explainer(
    title="LRP",
    family="relevance",
    formula="relevance of the standardised pixels, by a rule a layer",
    passes="1 forward + backward",
    source="Bach et al., PLOS ONE 2015",
    degree=1,
    head="linen",
    signed=True,
)
def lrp(
    model: SplitModel,
    *,
    composite: str | Composite = "epsilon_plus",
    box: Box | None = None,
    bias: bool = True,
    stabilizer: float = rules.STABLE,
    score: scores.ScoreLike = "logit",
) -> Explainer:
    """Pass the score back to the pixels, each layer by its rule, and add up colours.

    Layers are the convolutions and dense layers of Linen modules, as they are. Batch
    normalisation that follows one is folded into it. ReLU, GELU and their kin pass
    relevance on; sums, pooling and everything else follow their contributions.

    Args:
        model: A Linen network, cut by `split` or loaded; where it is cut makes no
            difference.
        composite: One of `CONVOLUTIONS` by name, or a `Composite`.
        box: Lowest and highest value of each colour as the first layer sees it, for
            `epsilon_gamma_box`.
        bias: Whether biases take relevance, which is then lost. Without it, the sum of
            a map is the score: see `conservation`.
        stabilizer: Number that is added to what relevance is divided by, with its sign,
            in all rules but epsilon, which has 1e-6.
        score: Score to explain, see `scores.resolve`.

    Raises:
        ValueError: An unknown composite, or a box that is missing. When called: the
            network has no Linen layers, or the first one sees no image.

    References:
        Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
        Layer-Wise Relevance Propagation*, PLOS ONE 2015; composites as in Montavon et
        al., *Layer-Wise Relevance Propagation: An Overview*, 2019.
    """
    chosen = resolve(composite, box, bias, stabilizer)
    explained = scores.resolve(score)

    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        pixels = relevance(model, chosen, explained, variables, images, labels)
        return jnp.sum(pixels, axis=-1)

    @split.guarded(model, explained)
    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del key
        return compute(variables, images, labels)

    return explain


def resolve(
    composite: str | Composite, box: Box | None, bias: bool, stabilizer: float
) -> Composite:
    """Give the composite that a name stands for.

    Raises:
        ValueError: It is unknown, or a box is missing or too much.
    """
    if isinstance(composite, Composite):
        return composite
    choices.pick(composite, CONVOLUTIONS, f"`composite`={composite!r} is no composite")
    if (composite == BOX) != (box is not None):
        raise ValueError(
            f"`box`={box} with `composite`={composite!r}; expected the lowest and "
            f"highest value of each colour for {BOX!r}, and none for others."
        )
    rule = CONVOLUTIONS[composite](stabilizer=stabilizer, bias=bias)
    first = None
    if box is not None:
        first = rules.z_box(*box, stabilizer=stabilizer)
    elif composite == "epsilon_plus_flat":
        first = rules.flat(stabilizer=stabilizer)
    return Composite(rule, rules.epsilon(bias=bias), first)


def relevance(
    model: SplitModel,
    composite: Composite,
    score: scores.Score,
    variables: Variables,
    images: Images,
    labels: Labels,
) -> jax.Array:
    """Give the relevance of what the first layer sees, `[batch, rows, columns, k]`."""

    def choose(layer: Linear) -> Rule:
        rule = composite.convolution if layer.convolves else composite.dense
        return rule if layer.place else composite.first or rule

    return propagated(model, choose, score, variables, images, labels)


def propagated(
    model: SplitModel,
    choose: Callable[[Linear], Rule],
    score: scores.Function,
    variables: Variables,
    images: Images,
    labels: Labels,
    others: Callable[..., PyTree | None] | None = None,
    operations: derivatives.Rules = derivatives.OWN,
) -> jax.Array:
    """Give what `relevance` does, by a function that chooses the rule of each layer.

    Args:
        model: The network.
        choose: Function from a layer to its rule.
        score: Score to explain.
        variables: Variables of the network.
        images: Images to explain.
        labels: Labels to explain.
        others: Function that replaces further modules, see `linear.replaced`.
        operations: What becomes of operations outside of layers.
    """
    ones = first_inputs(model, variables, images)

    def total(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        def replace(layer: Linear) -> jax.Array:
            given = choose(layer), layer, 1.0 if layer.place else scale
            return derivatives.untouched(lambda: rules.follow(*given))()

        logits = linear.replaced(run_of(model), replace, others)(variables, images)
        return jnp.sum(score(logits, labels)), jnp.asarray(logits)

    replaced = derivatives.replaced(total, ones, rules=operations)
    found, logits = jax.grad(replaced, has_aux=True)(ones)
    wrong = split.meaningless(logits).reshape((-1, *(1,) * (found.ndim - 1)))
    return found * jnp.where(wrong, jnp.nan, 1).astype(found.dtype)


def first_inputs(model: SplitModel, variables: Variables, images: Images) -> jax.Array:
    """Give ones in the shape of what the first linear layer sees.

    Raises:
        ValueError: There is no such layer, or it sees no images.
    """
    seen: list[tuple[str, jax.ShapeDtypeStruct]] = []

    def note(layer: Linear) -> jax.Array:
        shape = jax.ShapeDtypeStruct(layer.inputs.shape, layer.inputs.dtype)
        seen.append((layer.path, shape))
        return layer.output

    jax.eval_shape(linear.replaced(run_of(model), note), variables, images)
    if not seen:
        raise ValueError(
            "`model` has no linear layers that are known; expected a network of Linen "
            "modules such as nn.Conv and nn.Dense, cut by `split.from_linen` or loaded."
        )
    path, first = seen[0]
    if len(first.shape) != 4 or first.shape[0] != len(images):
        raise ValueError(
            f"The first linear layer, {path!r}, sees an array of shape {first.shape}; "
            "expected images, [batch, height, width, channels]."
        )
    return jnp.ones(first.shape, first.dtype)


def run_of(model: SplitModel) -> linear.Run:
    """Give the network that is not compiled, whose modules are seen at each call.

    Raises:
        ValueError: There is none.
    """
    if model.run is not None:
        return model.run
    raise ValueError(
        "`model` has no `run`, the network that is not compiled; expected a network "
        "cut by `split.from_linen` or `split.from_methods`, or loaded."
    )


def conservation(
    model: SplitModel, *, score: scores.ScoreLike = "logit"
) -> Callable[[Variables, Images, Labels, jax.Array], jax.Array]:
    """Measure what is lost: the sum of a map minus the score, `[batch]`.

    Args:
        model: The network that was explained.
        score: Score that was explained.

    Returns:
        Function `(variables, images, labels, saliency) -> [batch]`.
    """
    explained = scores.resolve(score)

    @jax.jit
    def lost(
        variables: Variables, images: Images, labels: Labels, saliency: jax.Array
    ) -> jax.Array:
        known = explained(split.whole(model)(variables, images), labels)
        return jnp.sum(saliency, axis=(1, 2)) - known

    return lost

"""The attack of Carlini and Wagner with changes that are smooth along the image."""

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, minimal, smoothing
from unlir_jax.attacks.carlini_wagner import Change, search_rule
from unlir_jax.attacks.smoothing import Graph, Smoothing
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, SplitModel


@attack(
    title="Smooth Carlini and Wagner",
    norms=("l2",),
    kind="minimal",
    passes="at most `searches` × `steps` (900) × (forward + backward)",
    source="Zhang et al., EURASIP JIS (2020)",
    quick={"steps": 5, "searches": 2},
    synonyms=("scw", "smooth_cw"),
)
def smooth_carlini_wagner(
    model: SplitModel,
    *,
    steps: int = 100,
    searches: int = 9,
    learning_rate: float = 0.01,
    constant: float = 10.0,
    confidence: float = 0.0,
    edges: float = 10.0,
    strength: float = 0.95,
    abort_early: bool = True,
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Minimise a smooth change and the loss by Adam, for constants found by bisection.

    `|x' - x|^2 + c max(confidence - margin, 0)` falls by `r`, with
    `x' = clip(x + smooth(r))`; `smoothing.smooth` has the formula. The change is smooth
    where the image is, and may jump at its edges, so that it is harder to see.

    Args:
        model: The network.
        steps: Steps of Adam for one constant.
        searches: Number of constants.
        learning_rate: Step size of Adam.
        constant: First constant; the authors' 10.
        confidence: Margin that a success needs, in logits.
        edges: Factor of squared differences of neighbours; the paper's 10. The larger,
            the smaller a difference at which the change may jump.
        strength: Share of a change that neighbours decide; the paper's 0.95.
        abort_early: See `carlini_wagner`.
        quantise: Number of levels of the images, True for 256, False for none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small and smooth change.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Zhang et al., *Smooth Adversarial Examples*, EURASIP Journal on Information
        Security (2020), arXiv 1903.11862, Sections 3 and 4.

    Note:
        The distortion is measured behind the clip to [0, 1].
    """
    way = smoothing.checked(edges, strength)
    numbers = steps, searches, learning_rate, constant, confidence, abort_early
    rule = search_rule(*numbers, _change(way))
    return minimal.craft(
        *(model, rule),
        **{"steps": steps * searches, "norm": "l2", "loss": losses.margin},
        **{"quantise": quantise, "loop": loop, "confidence": confidence},
    )


@memoize.remember
def _change(way: Smoothing) -> Change:
    def begin(images: Images) -> Graph:
        return smoothing.graph(images, way)

    def moved(graph: Graph, images: Images, offset: jax.Array) -> jax.Array:
        return jnp.asarray(images) + smoothing.smooth(offset, graph, way)

    def apply(graph: Graph, images: Images, offset: jax.Array) -> jax.Array:
        return jnp.clip(moved(graph, images, offset), 0, 1)

    def pull(
        graph: Graph, images: Images, offset: jax.Array, gradient: jax.Array
    ) -> jax.Array:
        found = moved(graph, images, offset)
        inside = (found >= 0) & (found <= 1)
        return smoothing.spread(jnp.where(inside, gradient, 0), graph, way)

    return Change(begin, apply, pull)

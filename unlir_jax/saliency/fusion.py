"""Several explainers of one image, or several views of it, made one map."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from unlir_jax import maps
from unlir_jax.core import memoize
from unlir_jax.types import Explainer, Saliency

Fusion = Literal["mean", "max", "product"]
Scaling = Literal["range", "max", "tanh", "none"]
TANH_GAIN = 2.0


def fuse(
    explainers: Sequence[Explainer],
    *,
    fusion: Fusion = "mean",
    scaling: Scaling = "range",
) -> Explainer:
    """Combine the maps of several explainers, such as one method at several layers.

    Each map is scaled on its own, enlarged to the finest of them, and combined.

    Args:
        explainers: Explainers of cuts of the same network, so that they share the
            variables; or different methods at one cut.
        fusion: `mean`, `max` or `product`, pixel by pixel.
        scaling: `range` and `max` as in `maps.normalize`; `tanh` is
            `tanh(2 s / max s)` of the positive part, as LayerCAM proposes for shallow
            layers; `none` combines raw maps.

    Raises:
        ValueError: No explainer, or an unknown fusion or scaling.

    References:
        Jiang et al., *LayerCAM*, IEEE TIP 2021, Eq. 7 and Section IV (`max`, `tanh`);
        pytorch-grad-cam (`mean`, `range`).
    """
    if not explainers:
        raise ValueError("`explainers` is empty; expected one or more.")
    for name, value, known in (
        ("fusion", fusion, get_args(Fusion)),
        ("scaling", scaling, get_args(Scaling)),
    ):
        if value not in known:
            raise ValueError(f"`{name}`={value!r} is unknown; expected one of {known}.")
    combine = {"mean": jnp.mean, "max": jnp.max, "product": jnp.prod}[fusion]

    @jax.jit
    def together(found: list[jax.Array]) -> jax.Array:
        finest = max((s.shape[1:] for s in found), key=lambda size: size[0] * size[1])
        enlarged = [maps.resize(_scale(s, scaling), finest) for s in found]
        return combine(jnp.stack(enlarged), axis=0)

    def explain(variables, images, labels, *, key=None):
        return together([e(variables, images, labels, key=key) for e in explainers])

    return explain


def _scale(saliency: Saliency, scaling: Scaling) -> jax.Array:
    if scaling == "none":
        return jnp.asarray(saliency)
    if scaling == "tanh":
        return jnp.tanh(TANH_GAIN * maps.normalize(saliency, "max"))
    return maps.normalize(saliency, scaling)


@memoize.remember
def augmented(
    explain: Explainer,
    *,
    flip: bool = True,
    intensities: tuple[float, ...] = (0.9, 1.0, 1.1),
) -> Explainer:
    """Average an explainer's maps over mirrored and brighter or darker views.

    Each view is one more run of the explainer; maps of mirrored views are mirrored
    back. Pixels that get brighter than 1 stay at 1.

    Args:
        explain: Any explainer whose maps have the image's orientation.
        flip: Whether each view is also mirrored from left to right.
        intensities: What pixels are multiplied with.

    Raises:
        ValueError: No intensity, or one that is not positive.

    References:
        pytorch-grad-cam's `aug_smooth`, with the same six views.
    """
    if not intensities or min(intensities) <= 0:
        raise ValueError(
            f"`intensities`={intensities}; expected one positive number or more."
        )

    def explain_views(variables, images, labels, *, key=None):
        images = jnp.asarray(images)
        found = []
        for intensity in intensities:
            view = jnp.minimum(images * intensity, 1)
            found.append(explain(variables, view, labels, key=key))
            if flip:
                # A label map is mirrored as the image is.
                turned = labels[:, :, ::-1] if jnp.ndim(labels) == 3 else labels
                mirrored = explain(variables, view[:, :, ::-1], turned, key=key)
                found.append(mirrored[:, :, ::-1])
        return sum(found[1:], found[0]) / len(found)

    return explain_views

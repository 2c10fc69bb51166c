"""Agreement of the map of an augmented image with the augmented map of the image.

Crabbé & van der Schaar, *Evaluating the robustness of interpretability methods through
explanation invariance and equivariance*, NeurIPS 2023, Definition 2.2.
"""

import math
from typing import Literal

import jax

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.sanity import augmentations, similarity
from unlir_jax.metrics.spec import KEPT, PIXELS, Contract, metric
from unlir_jax.types import Explainer, Metric, SplitModel

Measure = Literal["spearman", "ssim"]
"""How maps are compared, see `similarity`."""


@metric(
    title="Equivariance",
    better="higher",
    needs="explainer",
    family="stability and size",
    meaning="Does the map change with the image, when the image is augmented?",
    contract=Contract(
        PIXELS,
        "{measure} of the map of the augmented image and the augmented map",
        "the image under {augmentation}",
        "equal values get the middle of their ranks",
        "ranks for spearman, range for ssim, after enlarging",
        "0 if either is flat",
        signs=KEPT,
    ),
    fooled_by="a map that ignores the image",
    passes="1 explanation",
    source="Crabbé & van der Schaar, NeurIPS 2023",
    variants="augmentation",
)
def equivariance(
    model: SplitModel,
    explain: Explainer,
    *,
    augmentation: str = "flip",
    measure: Measure = "spearman",
) -> Metric:
    """Compare the map of the augmented image with the augmented map of the image.

    `similarity(s(T x), T s(x))`, where a geometric T moves the map as it moves the
    image, and a photometric one leaves the map as it is. Higher is better, in [-1, 1].
    After a rotation, only the central square that comes from the image is compared.

    Args:
        model: The cut network.
        explain: What makes the maps; the metric is given that of the image itself.
        augmentation: T, one of `augmentations.AUGMENTATIONS`.
        measure: `spearman` (of all pixels' ranks) or `ssim`; see `similarity`.

    Returns:
        A metric with `equivariance`, `[batch]`. It needs `key`.

    Raises:
        ValueError: An impossible setting; when called, no key.

    Note:
        The authors compare by the cosine, which is high for any maps without a sign.
        The class that is explained stays that of the image.
    """
    augmentations.check(augmentation)
    choices.check("measure", measure, Measure)
    compare = getattr(similarity, measure)
    seen = augmentations.AUGMENTATIONS[augmentation].seen

    @split.guarded(model)
    def score(variables, images, labels, saliency, *, key=None):
        image_keys = augmentations.keys(images, key)
        changed = augmentations.augment(augmentation, images, key)
        found = explain(variables, changed, labels, key=key)
        size = images.shape[1:3]
        enlarged = maps.resize(saliency, size)
        moved = augmentations.move(augmentation, enlarged, image_keys)
        again = _central(maps.resize(found, size), seen)
        alike = compare(again, _central(moved, seen))
        return {"equivariance": maps.of_finite(found, alike)}

    return score


def _central(saliency: jax.Array, share: float) -> jax.Array:
    """Cut out the central part whose sides are a share of the whole, or less."""
    if share == 1:
        return saliency
    rows, columns = saliency.shape[1:]
    # Interpolation next to the border takes from outside: a pixel is left out there.
    top, left = (math.ceil(side * (1 - share) / 2) + 1 for side in (rows, columns))
    return saliency[:, top : rows - top, left : columns - left]

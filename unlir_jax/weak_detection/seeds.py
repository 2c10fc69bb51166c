"""Class maps of a trained classifier as seeds of segments, with what refines them."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from unlir_jax import saliency, split
from unlir_jax.core.document_types import Document
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    RandomKey,
    Saliency,
    Variables,
)
from unlir_jax.weak_detection.detector import Detector

PLAIN, CENTER = "class_map", "center"


def explainers(
    trained: Detector, refine: Mapping[str, Document]
) -> dict[str, Explainer]:
    """Make an explainer without and with each refinement, and so for the centre.

    Args:
        trained: What `configs/weak_detection.py:method=cam` has learned.
        refine: Settings of refinements by name.

    Returns:
        Explainers by name, such as `class_map@walk`. In place of a network's variables
        they take the whitened maps of the images.
    """
    kernel = np.asarray(trained.variables["classifier"]["kernel"])
    classes = kernel.shape[1]
    centred = saliency.center(
        split.from_functions(
            lambda variables, images: images,
            lambda variables, maps: jnp.zeros((len(maps), classes)),
        )
    )

    def seeds(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        del images, key
        found = jnp.einsum("bhwd,db->bhw", variables, kernel[:, np.asarray(labels)])
        # What speaks against a class is no place of it.
        return jnp.maximum(found, 0)

    def middle(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        del variables
        return centred({}, images, labels, key=key)

    found: dict[str, Explainer] = {PLAIN: seeds, CENTER: middle}
    refined = {
        f"{name}@{how}": saliency.REFINEMENTS[how](explain, **options)
        for name, explain in found.items()
        for how, options in refine.items()
    }
    return found | refined

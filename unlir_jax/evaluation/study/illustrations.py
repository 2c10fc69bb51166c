"""Images of a study's page: what each arm's network looks at."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import saliency
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation.study import measures
from unlir_jax.evaluation.study.networks import Trained
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.report import overlay, study_page

GRAD_CAM, GRADIENT = "Grad-CAM", "input gradient"


def draw(
    trained: Sequence[Trained],
    loaded: Sequence[Pretrained],
    data: source.Source,
    count: int,
) -> list[study_page.Row]:
    """Draw images next to the maps of each arm's first network.

    Args:
        trained: The networks.
        loaded: The same, with their weights.
        data: The test split.
        count: Number of images, evenly spread.
    """
    if not count:
        return []
    first = loaded[0]
    theirs = trained[0].data
    some = source.subset(data, measures.spread(data.size, min(count, data.size)))
    batch = next(
        iter(
            pipeline.evaluation(
                some,
                batch_size=some.size,
                image_size=theirs["image_size"] or first.image_size,
                crop=theirs["crop"] or first.crop,
                interpolation=theirs["interpolation"] or first.interpolation,
                frame=first.frame,
            )
        )
    )
    kept = np.flatnonzero(batch["weight"] > 0)
    pixels, labels = batch["image"][kept], batch["label"][kept]
    pictures = [Image.fromarray(each) for each in pixels]
    rows = [
        study_page.Row(data.classes[int(label)], picture, {})
        for label, picture in zip(labels, pictures, strict=True)
    ]
    drawn_arms = set()
    for one, network in zip(trained, loaded, strict=True):
        if one.arm in drawn_arms:
            continue
        drawn_arms.add(one.arm)
        drawn = _maps(network, pixels, labels)
        for name, maps in drawn.items():
            views = overlay.views(pictures, maps)
            for row, view in zip(rows, views, strict=True):
                row.maps.setdefault(one.arm, {})[name] = view.overlay
    return rows


def _maps(
    network: Pretrained, pixels: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the maps of all images, the gradient's merged over colours."""
    images, classes = jnp.asarray(pixels, jnp.float32) / 255, jnp.asarray(labels)
    slope = measures.input_gradient(network, images, classes)
    explain = saliency.grad_cam(network.model)
    cams = np.asarray(explain(network.variables, images, classes))
    return {GRADIENT: np.abs(slope).max(-1), GRAD_CAM: cams}

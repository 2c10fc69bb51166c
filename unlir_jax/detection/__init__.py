"""Weakly supervised detection: boxes of objects, learned from classes of images."""

# isort: off
from unlir_jax.detection.boxes import (
    of_pixels as of_pixels,
    overlaps as overlaps,
)
from unlir_jax.detection.suppression import (
    Kept as Kept,
    nms as nms,
)
from unlir_jax.detection.voting import vote as vote
from unlir_jax.detection.matching import (
    Detections as Detections,
    Objects as Objects,
)
from unlir_jax.detection.average_precision import (
    COCO_OVERLAPS as COCO_OVERLAPS,
    average_precision as average_precision,
    mean_average_precision as mean_average_precision,
)
from unlir_jax.detection.corloc import corloc as corloc
from unlir_jax.detection.proposals import (
    Proposals as Proposals,
    boxes_of_maps as boxes_of_maps,
    dense_windows as dense_windows,
)
from unlir_jax.detection.regions import region_features as region_features
from unlir_jax.detection import oicr as oicr, wsddn as wsddn

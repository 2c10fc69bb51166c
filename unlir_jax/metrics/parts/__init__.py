"""Quality of the parts of a part network."""

from unlir_jax.metrics.parts.consistency import Consistency as Consistency
from unlir_jax.metrics.parts.consistency import consistency as consistency
from unlir_jax.metrics.parts.consistency import stability as stability
from unlir_jax.metrics.parts.ground_truth import keypoint_ari as keypoint_ari
from unlir_jax.metrics.parts.ground_truth import keypoint_labels as keypoint_labels
from unlir_jax.metrics.parts.ground_truth import keypoint_nmi as keypoint_nmi
from unlir_jax.metrics.parts.ground_truth import keypoint_share as keypoint_share
from unlir_jax.metrics.parts.ground_truth import mask_labels as mask_labels
from unlir_jax.metrics.parts.ground_truth import mask_nmi as mask_nmi
from unlir_jax.metrics.parts.ground_truth import purity as purity
from unlir_jax.metrics.parts.keypoints import KeypointShare as KeypointShare
from unlir_jax.metrics.parts.keypoints import merge_sides as merge_sides
from unlir_jax.metrics.parts.part_maps import assignment_entropy as assignment_entropy
from unlir_jax.metrics.parts.part_maps import overlap as overlap
from unlir_jax.metrics.parts.part_maps import part_cosine as part_cosine
from unlir_jax.metrics.parts.part_maps import sparsity as sparsity
from unlir_jax.statistics.agreement import adjusted_rand_index as adjusted_rand_index
from unlir_jax.statistics.agreement import (
    normalized_mutual_information as normalized_mutual_information,
)

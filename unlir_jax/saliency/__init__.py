"""Explainers: factories of pure functions from images and labels to raw maps.

Importing a method registers it. The order of the imports is that of lists and tables.
"""

# isort: off
from unlir_jax.saliency import targets as targets
from unlir_jax.saliency.cam.cam import (
    cam as cam,
    grad_cam as grad_cam,
)
from unlir_jax.saliency.cam.gradient_cams import (
    grad_cam_plus_plus as grad_cam_plus_plus,
    smooth_grad_cam_plus_plus as smooth_grad_cam_plus_plus,
    xgrad_cam as xgrad_cam,
    hires_cam as hires_cam,
    elementwise_grad_cam as elementwise_grad_cam,
    layer_cam as layer_cam,
    shapley_cam as shapley_cam,
    finer_cam as finer_cam,
)
from unlir_jax.saliency.cam.score_cam import (
    score_cam as score_cam,
    ss_cam as ss_cam,
    is_cam as is_cam,
)
from unlir_jax.saliency.cam.ablation_cam import ablation_cam as ablation_cam
from unlir_jax.saliency.cam.eigen_cam import (
    eigen_cam as eigen_cam,
    eigen_grad_cam as eigen_grad_cam,
)
from unlir_jax.saliency.cam.full_grad import (
    full_grad as full_grad,
    full_gradient as full_gradient,
)
from unlir_jax.saliency.optimisation.opti_cam import opti_cam as opti_cam
from unlir_jax.saliency.gradients.gradient import (
    gradient as gradient,
    input_x_gradient as input_x_gradient,
)
from unlir_jax.saliency.gradients.libra import (
    libra_grad as libra_grad,
    libra_input_x_gradient as libra_input_x_gradient,
)
from unlir_jax.saliency.gradients.integrated import (
    completeness as completeness,
    integrated_gradients as integrated_gradients,
)
from unlir_jax.saliency.gradients.deep_lift import deep_lift as deep_lift
from unlir_jax.saliency.gradients.blur_ig import (
    blur_integrated_gradients as blur_integrated_gradients,
)
from unlir_jax.saliency.gradients.gradient_shap import gradient_shap as gradient_shap
from unlir_jax.saliency.gradients.smoothing import (
    noise_moments as noise_moments,
    smooth_grad as smooth_grad,
    var_grad as var_grad,
    square_grad as square_grad,
)
from unlir_jax.saliency.gradients.guided import (
    guided_backpropagation as guided_backpropagation,
    deconvolution as deconvolution,
    guided_grad_cam as guided_grad_cam,
)
from unlir_jax.saliency.perturbation.occlusion import occlusion as occlusion
from unlir_jax.saliency.perturbation.rise import rise as rise
from unlir_jax.saliency.perturbation.surrogates import (
    lime as lime,
    kernel_shap as kernel_shap,
)
from unlir_jax.saliency.optimisation.meaningful_perturbation import (
    meaningful_perturbation as meaningful_perturbation,
)
from unlir_jax.saliency.optimisation.extremal_perturbation import (
    extremal_perturbation as extremal_perturbation,
)
from unlir_jax.saliency.attention.rollout import (
    raw_attention as raw_attention,
    attention_rollout as attention_rollout,
)
from unlir_jax.saliency.attention.relevance import (
    generic_attention as generic_attention,
    attention_grad_cam as attention_grad_cam,
    legrad as legrad,
)
from unlir_jax.saliency.attention.attribution import (
    transformer_attribution as transformer_attribution,
)
from unlir_jax.saliency.attention.pooling import (
    attention_pooling as attention_pooling,
)
from unlir_jax.saliency.relevance.lrp import (
    lrp as lrp,
    Composite as Composite,
    conservation as conservation,
)
from unlir_jax.saliency.relevance.excitation import (
    excitation_backpropagation as excitation_backpropagation,
)
from unlir_jax.saliency.relevance.attention import attn_lrp as attn_lrp
from unlir_jax.saliency.controls import (
    fake_cam as fake_cam,
    random as random,
    center as center,
    edges as edges,
)
from unlir_jax.saliency.fusion import (
    augmented as augmented,
    fuse as fuse,
)
from unlir_jax.saliency.refinement.dense_crf import dense_crf as dense_crf
from unlir_jax.saliency.refinement.random_walk import (
    random_walk as random_walk,
    transitions as transitions,
)
from unlir_jax.saliency.refinement.refined import (
    REFINEMENTS as REFINEMENTS,
    REFINEMENT_TITLES as REFINEMENT_TITLES,
    parted as parted,
    refine_by_crf as refine_by_crf,
    refine_by_walk as refine_by_walk,
    refinement_defaults as refinement_defaults,
)
from unlir_jax.saliency.softened import softened as softened
from unlir_jax.saliency.spec import (
    CONTROLS as CONTROLS,
    ExplainerSpec as ExplainerSpec,
    METHODS as METHODS,
    SPECS as SPECS,
    SYNONYMS as SYNONYMS,
    explainer as explainer,
    is_signed as is_signed,
)

"""Explainers: factories of pure functions from images and labels to raw maps."""

from collections.abc import Callable

from unlir_jax.saliency import targets
from unlir_jax.saliency.cam.ablation_cam import ablation_cam
from unlir_jax.saliency.cam.cam import cam, grad_cam
from unlir_jax.saliency.cam.eigen_cam import eigen_cam, eigen_grad_cam
from unlir_jax.saliency.cam.full_grad import full_grad, full_gradient
from unlir_jax.saliency.cam.gradient_cams import (
    elementwise_grad_cam,
    finer_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    shapley_cam,
    smooth_grad_cam_plus_plus,
    xgrad_cam,
)
from unlir_jax.saliency.cam.score_cam import is_cam, score_cam, ss_cam
from unlir_jax.saliency.controls import center, edges, fake_cam, random
from unlir_jax.saliency.fusion import augmented, fuse
from unlir_jax.saliency.gradients.blur_ig import blur_integrated_gradients
from unlir_jax.saliency.gradients.gradient import gradient, input_x_gradient
from unlir_jax.saliency.gradients.gradient_shap import gradient_shap
from unlir_jax.saliency.gradients.guided import (
    deconvolution,
    guided_backpropagation,
    guided_grad_cam,
)
from unlir_jax.saliency.gradients.integrated import completeness, integrated_gradients
from unlir_jax.saliency.gradients.smoothing import (
    noise_moments,
    smooth_grad,
    square_grad,
    var_grad,
)
from unlir_jax.saliency.optimisation.extremal_perturbation import extremal_perturbation
from unlir_jax.saliency.optimisation.meaningful_perturbation import (
    meaningful_perturbation,
)
from unlir_jax.saliency.optimisation.opti_cam import opti_cam
from unlir_jax.saliency.perturbation.occlusion import occlusion
from unlir_jax.saliency.perturbation.rise import rise
from unlir_jax.saliency.perturbation.surrogates import kernel_shap, lime
from unlir_jax.types import Explainer

METHODS: dict[str, Callable[..., Explainer]] = {
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "smooth_grad_cam_plus_plus": smooth_grad_cam_plus_plus,
    "xgrad_cam": xgrad_cam,
    "hires_cam": hires_cam,
    "elementwise_grad_cam": elementwise_grad_cam,
    "layer_cam": layer_cam,
    "score_cam": score_cam,
    "ss_cam": ss_cam,
    "is_cam": is_cam,
    "ablation_cam": ablation_cam,
    "eigen_cam": eigen_cam,
    "eigen_grad_cam": eigen_grad_cam,
    "full_grad": full_grad,
    "shapley_cam": shapley_cam,
    "finer_cam": finer_cam,
    "opti_cam": opti_cam,
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "blur_integrated_gradients": blur_integrated_gradients,
    "gradient_shap": gradient_shap,
    "smooth_grad": smooth_grad,
    "var_grad": var_grad,
    "square_grad": square_grad,
    "guided_backpropagation": guided_backpropagation,
    "deconvolution": deconvolution,
    "guided_grad_cam": guided_grad_cam,
    "occlusion": occlusion,
    "rise": rise,
    "lime": lime,
    "kernel_shap": kernel_shap,
    "meaningful_perturbation": meaningful_perturbation,
    "extremal_perturbation": extremal_perturbation,
    "fake_cam": fake_cam,
    "random": random,
    "center": center,
    "edges": edges,
}
"""Factories by name; each takes the cut model and its own hyper-parameters."""

SYNONYMS = {
    "gradcam": "grad_cam",
    "gradcam_plus_plus": "grad_cam_plus_plus",
    "elementwise": "elementwise_grad_cam",
    "saliency": "gradient",
    "guided_backprop": "guided_backpropagation",
    "smoothgrad": "smooth_grad",
    "smoothgrad_squared": "square_grad",
    "vargrad": "var_grad",
}
"""Other libraries' spellings of names in `METHODS`."""

CONTROLS = ("fake_cam", "random", "center", "edges")
"""The methods that know nothing of the network."""

__all__ = [
    "CONTROLS",
    "METHODS",
    "SYNONYMS",
    "ablation_cam",
    "augmented",
    "blur_integrated_gradients",
    "cam",
    "center",
    "completeness",
    "deconvolution",
    "edges",
    "eigen_cam",
    "eigen_grad_cam",
    "elementwise_grad_cam",
    "extremal_perturbation",
    "fake_cam",
    "finer_cam",
    "full_grad",
    "full_gradient",
    "fuse",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_shap",
    "guided_backpropagation",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "is_cam",
    "kernel_shap",
    "layer_cam",
    "lime",
    "meaningful_perturbation",
    "noise_moments",
    "occlusion",
    "opti_cam",
    "random",
    "rise",
    "score_cam",
    "shapley_cam",
    "smooth_grad",
    "smooth_grad_cam_plus_plus",
    "square_grad",
    "ss_cam",
    "targets",
    "var_grad",
    "xgrad_cam",
]

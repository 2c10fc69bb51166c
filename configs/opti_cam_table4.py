"""Table 4 of Opti-CAM: AOPC, max-sensitivity and ADCC of methods for CNNs.

    unlir evaluate --config configs/opti_cam_table4.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/table4

    unlir evaluate --config configs/opti_cam_table4.py:model=mobilenet_v2,methods=\
grad_cam+layer_cam --config.data.path=imagenet200 --config.model.weights=FILE \
        --workdir runs/small

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024), who took AOPC
and max-sensitivity from Quantus: patches of 14 pixels, ten regions; noise of 0.2, ten
samples. Here max-sensitivity divides by the norm of the map instead of the image, so
its scale differs from the table. Its order can be compared.

Arguments: as in `configs/evaluate.py`. `model=vgg16_bn` gives the VGG-16 columns.

Expected: on the 50,000 validation images, as published (AOPC and ADCC in per cent,
more is better for both):

                   ResNet-50             VGG-16
    Grad-CAM       11.7  1.05  74.3      13.1  1.10  73.7
    Grad-CAM++     11.6  1.04  73.6      11.6  1.09  74.6
    Score-CAM      10.2  1.04  61.0      11.0  1.09  73.9
    XGrad-CAM      11.9  1.05  74.3      13.1  1.10  73.9
    Ablation-CAM   11.1  1.04  71.5      12.5  1.10  75.5
    Layer-CAM      13.0  1.22  61.1      13.3  1.25  51.7
    Opti-CAM        6.3  1.03  65.5       8.9  1.06  70.0

ExPerturbation (12.0, 1.07, 26.0; 11.2, 1.09, 42.8) is `extremal_perturbation`.

Time: max-sensitivity and ADCC explain each image 11 times more: 30,000 network passes
an image, all but 5,000 of them for Score-CAM.
"""

from unlir_jax.evaluation import settings

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "xgrad_cam",
    "ablation_cam",
    "layer_cam",
    "opti_cam",
)
OPTIONS = {
    "aopc_morf": {"patch": 14, "regions": 10},
    "max_sensitivity": {"radius": 0.2, "samples": 10},
}


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(
        argument,
        model="resnet50",
        methods=METHODS,
        metrics=("aopc_morf", "max_sensitivity", "adcc"),
        metric_options=OPTIONS,
    )
    found.batch_size = 8
    return found

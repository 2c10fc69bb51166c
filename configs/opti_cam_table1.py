"""Tables 1 and A.9 of Opti-CAM: average drop, gain and increase of methods for CNNs.

    unlir evaluate --config configs/opti_cam_table1.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/table1

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024). The class is
the true one; with `--config.labels=predicted` it is Table A.9's "most". Images are
masked in [0, 1], before the network's mean and standard deviation.

Arguments: as in `configs/evaluate.py`. `model=vgg16_bn` gives the VGG-16 columns.
The workdir of a network that was trained on Table A.10's images gives that table.

200 images in files NNN_name.jpg, with insertion and deletion as well:

    unlir evaluate --config configs/opti_cam_table1.py:model=mobilenet_v2,methods=\
grad_cam+grad_cam_plus_plus+ablation_cam+layer_cam+gradient_shap+opti_cam,metrics=\
average_drop+average_gain+average_increase+insertion+deletion \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Expected: on the 50,000 validation images, as published (AD, AG, AI in per cent):

                    ResNet-50           VGG-16
    Fake-CAM        0.8   1.6  46.0     0.5   0.6  42.6
    Grad-CAM       12.2  17.6  44.4    14.2  14.7  40.6
    Grad-CAM++     12.9  16.0  42.1    17.1  10.2  33.4
    Score-CAM       8.6  26.6  56.7    13.5  15.6  41.7
    Ablation-CAM   12.5  16.4  42.8    15.5  12.6  36.9
    XGrad-CAM      12.2  17.6  44.4    13.8  14.8  41.2
    Layer-CAM      15.6  15.0  38.8    48.9   3.1  13.5
    HiRes-CAM      12.2  17.6  44.4    15.8  13.2  37.8
    LIME           66.7   3.1  10.2    62.7   2.9  11.1
    GradientSHAP   96.8   0.1   1.3    94.0   0.1   2.9
    Opti-CAM        1.5  68.8  92.8     1.3  71.2  92.7

The settings of LIME and GradientSHAP were not published. LIME takes 50 passes here, by
the ratio of the published times to Opti-CAM's. GradientSHAP takes captum's 5 draws, and
magnitudes: with signs a map is grey nearly everywhere, and the drop is 26 instead of 99
(MobileNetV2, some 30 images). The table's ExPerturbation (38.1, 9.5, 22.5; 43.0, 7.1,
20.5) is `extremal_perturbation`. Its areas and steps were not published, so only
`methods=extremal_perturbation` runs it.

Time: 2,500 network passes an image, most of them for Score-CAM.
"""

from unlir_jax.evaluation import settings

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "ablation_cam",
    "xgrad_cam",
    "layer_cam",
    "hires_cam",
    "lime",
    "gradient_shap",
    "opti_cam",
)
OPTIONS = {
    "lime": {"samples": 50},
    "gradient_shap": {"samples": 5, "channels": "absolute_max"},
}


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(
        argument,
        model="resnet50",
        methods=METHODS,
        metrics=("average_drop", "average_gain", "average_increase"),
        method_options=OPTIONS,
    )
    # The paper's.
    found.batch_size = 8
    return found

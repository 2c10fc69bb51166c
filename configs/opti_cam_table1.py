"""Tables 1 and A.9 of Opti-CAM: average drop, gain and increase of methods for CNNs.

    unlir evaluate --config configs/opti_cam_table1.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/table1

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024). The class is
the true one; with `--config.labels=predicted` it is Table A.9's "most". Pictures are
masked in [0, 1], before the network's mean and deviation.

Arguments: those of `configs/evaluate.py`. `model=vgg16_bn` gives the VGG-16
columns, `model=` the workdir of a network trained on Table A.10's pictures that table.

200 pictures in files NNN_name.jpg, with insertion and deletion beside:

    unlir evaluate --config configs/opti_cam_table1.py:model=mobilenet_v2,methods=\
grad_cam+grad_cam_plus_plus+ablation_cam+layer_cam+gradient_shap+opti_cam,metrics=\
average_drop+average_gain+average_increase+insertion+deletion \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Expected: on the 50,000 validation pictures, as published (AD, AG, AI in per cent):

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

Not published are the settings of LIME and GradientSHAP: LIME takes 50 passes, which is
the ratio of the published times to Opti-CAM's, GradientSHAP captum's 5 draws and
magnitudes: with its signs a map is grey nearly everywhere, and its drop 26 instead of
99 (MobileNetV2, some 30 pictures). The table's ExPerturbation (38.1, 9.5, 22.5; 43.0,
7.1, 20.5) is `extremal_perturbation`, of which neither areas nor steps were published:
ask for it.

Time: 2,500 network passes a picture, most of them Score-CAM's.
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

"""Table 3 of Opti-CAM: insertion and deletion of methods for CNNs.

    unlir evaluate --config configs/opti_cam_table3.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/table3

    unlir evaluate --config configs/opti_cam_table3.py:model=mobilenet_v2,steps=28 \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024). The class is
the predicted one; 224 steps of 224 pixels; insertion from RISE's blur, deletion to
black.

Arguments: as in `configs/evaluate.py`, and `steps` of insertion and deletion.
`model=vgg16_bn` gives the VGG-16 columns.

Expected: on the 50,000 validation images, as published (insertion, deletion, in per
cent):

                   ResNet-50     VGG-16
    Fake-CAM       50.7  28.1    46.1  26.9
    Grad-CAM       66.3  14.7    64.1  11.6
    Grad-CAM++     66.0  14.7    62.9  12.2
    Score-CAM      65.7  16.3    62.5  12.1
    XGrad-CAM      66.3  14.7    64.1  11.7
    Layer-CAM      67.0  14.2    58.3   6.4
    Ablation-CAM   65.9  14.6    63.8  11.4
    LIME           60.0  15.3    56.6  14.8
    GradientSHAP   58.5   6.3    43.4   5.2
    Opti-CAM       62.0  19.7    59.2  11.0

LIME and GradientSHAP are as in `configs/opti_cam_table1.py`, and ExPerturbation (70.7,
15.0; 61.1, 15.0) is `extremal_perturbation`, see there.

Time: 450 network passes an image and method, 58 with `steps=28`, and the passes of
the method.
"""

from unlir_jax.evaluation import settings

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "xgrad_cam",
    "layer_cam",
    "ablation_cam",
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
    found, given = settings.choose(
        argument,
        model="resnet50",
        methods=METHODS,
        metrics=("insertion", "deletion"),
        method_options=OPTIONS,
        steps=224,
    )
    for options in found.metric_options.values():
        if "steps" in options:
            options.steps = given.steps
    found.labels = "predicted"
    found.batch_size = 8
    return found

"""Table A.7 of Opti-CAM: localisation of the maps of methods, for CNNs.

    unlir evaluate --config configs/opti_cam_table_a7.py:model=resnet50 \
        --config.data.path=imagenet_val --config.model.weights=resnet50.pth \
        --workdir runs/table_a7

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024), Appendix B. The
folder needs a table index.csv with a line for each image: path, class, and the box x0,
y0, x1, y1 of ImageNet's localisation task; or a folder of masks, see
docs/guides/data.md.

Arguments: as in `configs/evaluate.py`. `model=vgg16_bn` gives the VGG-16 columns.

Expected: on the 50,000 validation images, as published (per cent, SM in logarithms):

                  OM    LE    F1    BA    SP    EP    SM
    ResNet-50
    Fake-CAM      63.6  54.0  57.7  47.9  99.8  28.5  0.98
    Grad-CAM      72.9  65.8  49.8  56.2  69.8  33.3  1.30
    Grad-CAM++    73.1  66.1  50.4  56.2  69.9  33.1  1.29
    Score-CAM     72.2  64.9  49.6  54.5  68.7  32.4  1.25
    Ablation-CAM  72.8  65.7  50.2  56.1  69.9  33.1  1.26
    XGrad-CAM     72.9  65.8  49.8  56.2  69.8  33.3  1.30
    Layer-CAM     73.1  66.0  50.1  55.5  70.0  33.0  1.29
    Opti-CAM      72.2  64.8  47.3  49.2  59.4  30.5  1.34
    VGG-16
    Fake-CAM      64.7  54.0  57.7  47.9  99.8  28.5  1.07
    Grad-CAM      71.1  62.3  42.0  54.2  64.8  32.0  1.39
    Grad-CAM++    70.8  61.9  44.3  55.2  66.2  32.3  1.38
    Score-CAM     71.2  62.5  45.3  58.5  68.2  33.4  1.40
    Ablation-CAM  71.3  62.6  43.2  56.2  65.7  32.7  1.39
    XGrad-CAM     70.8  62.0  41.9  53.5  64.4  31.6  1.41
    Layer-CAM     70.5  61.5  28.0  54.7  65.0  32.4  1.45
    Opti-CAM      69.1  59.9  44.1  51.2  61.4  30.7  1.34

BA chooses its thresholds on the images that it evaluates, as the paper does;
`--config.metric_options.max_box_accuracy_v2.chosen_on=other_half` does not. The paper's
SP of Fake-CAM counts a hit wherever a map of ones may point. Here a map that is 1
everywhere but in a corner points at the first pixel with 1, which is rarely a hit.

Time: 2,400 network passes an image, nearly all for Score-CAM and Opti-CAM.
"""

from unlir_jax.evaluation import settings

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "ablation_cam",
    "xgrad_cam",
    "layer_cam",
    "opti_cam",
)
METRICS = {
    "official_metric": {},
    "localization_error": {},
    "f1": {"scaling": "range"},
    "max_box_accuracy_v2": {"chosen_on": "evaluated"},
    "pointing_game": {"tolerance": 0},
    "energy_pointing_game": {"scaling": "range"},
    "saliency_metric": {},
}


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(
        argument,
        model="resnet50",
        methods=METHODS,
        metrics=tuple(METRICS),
        metric_options=METRICS,
    )
    found.batch_size = 8
    return found

"""Table A.8 of Opti-CAM: localisation of the maps of methods, for transformers.

    unlir evaluate --config configs/opti_cam_table_a8.py:model=vit_base_patch16_224 \
        --config.data.path=imagenet_val --config.model.weights=vit_base.safetensors \
        --workdir runs/table_a8

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024), Appendix B. The
folder is that of `configs/opti_cam_table_a7.py`, and the metrics are the same. The
layer is that of `configs/opti_cam_table2.py`.

Arguments: as in `configs/evaluate.py`. `model=deit_base_patch16_224` gives the DeiT-B
rows.

Expected: on the 50,000 validation images, as published (per cent, SM in logarithms):

                  OM    LE    F1    BA    SP    EP    SM
    ViT-B
    Fake-CAM      62.8  54.0  57.7  47.9  99.8  28.6  0.87
    Grad-CAM      79.6  74.3  29.4  45.0  58.1  31.0  3.27
    Grad-CAM++    84.2  80.6  14.8  23.8  51.4  27.3  4.15
    Score-CAM     77.6  71.6  46.0  54.3  66.1  33.1  3.14
    XGrad-CAM     82.0  76.9  19.6  41.3  52.8  28.5  3.31
    Layer-CAM     70.7  63.9  20.6  50.5  60.7  32.6  1.44
    TIBAV         70.1  63.1  26.6  58.8  66.1  35.0  1.23
    RawAtt        72.4  64.8  18.5  50.4  55.4  31.6  1.68
    Rollout       67.6  58.8  36.9  50.7  57.8  30.0  1.16
    Opti-CAM      64.4  54.6  54.5  48.0  58.2  28.7  0.98
    DeiT-B
    Fake-CAM      61.4  54.0  57.7  47.9  99.8  28.7  0.83
    Grad-CAM      65.5  60.3  44.3  47.2  62.8  30.2  1.20
    Grad-CAM++    70.6  67.2  34.3  43.6  57.7  30.3  2.14
    Score-CAM     79.9  76.2  31.9  43.8  63.4  32.2  3.14
    XGrad-CAM     82.0  78.4  19.5  44.1  53.4  28.8  3.03
    Layer-CAM     80.2  77.3  17.6  50.8  62.7  35.1  3.15
    TIBAV         68.2  62.2  28.1  59.6  64.1  33.5  1.08
    RawAtt        73.5  68.2   5.9  48.1  46.5  27.3  1.91
    Rollout       63.9  57.0  27.8  47.9  36.5  27.2  0.94
    Opti-CAM      62.3  55.1  53.9  48.0  55.1  28.8  0.84

TIBAV is `transformer_attribution`.
ExPerturbation (71.5, 64.9, 35.9, 44.6, 62.3, 35.3, 1.34; 69.9, 64.3, 36.2, 44.2, 63.1,
35.5, 1.16) is `extremal_perturbation`. BA and the SP of Fake-CAM are as in
`configs/opti_cam_table_a7.py`.

Time: 1,000 network passes an image, nearly all for Score-CAM and Opti-CAM.
"""

from unlir_jax.evaluation import settings

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "xgrad_cam",
    "layer_cam",
    "raw_attention",
    "attention_rollout",
    "transformer_attribution",
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
        model="vit_base_patch16_224",
        methods=METHODS,
        metrics=tuple(METRICS),
        metric_options=METRICS,
    )
    found.batch_size = 8
    return found

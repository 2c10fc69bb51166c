"""Table 2 of Opti-CAM: average drop, gain and increase of methods for transformers.

    unlir evaluate --config configs/opti_cam_table2.py:model=vit_base_patch16_224,\
data=imagenet --config.data.options.data_dir=TFDS \
        --config.model.weights=vit_base.safetensors --workdir runs/table2

    unlir evaluate --config configs/opti_cam_table2.py:model=vit_base_patch16_224,\
methods=grad_cam+attention_rollout+opti_cam --config.data.path=imagenet200 \
        --config.model.weights=vit_base.safetensors --workdir runs/small

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024). The class is
the true one. Maps come from the first norm of the last block, without the class token,
which is where the network is cut by default.

Arguments: as in `configs/evaluate.py`. `model=deit_base_patch16_224` gives the DeiT-B
columns. With `metrics=insertion+deletion --config.labels=predicted` it gives the
transformers of Table 3, see `configs/opti_cam_table3.py`.

Expected: on the 50,000 validation images, as published (AD, AG, AI in per cent):

                    ViT-B               DeiT-B
    Fake-CAM        0.3   0.4  48.3     0.6   0.3  44.6
    Grad-CAM       69.4   2.5  12.4    33.5   1.7  12.5
    Grad-CAM++     86.3   1.5   1.0    50.7   0.9   7.2
    Score-CAM      32.0   6.2  33.0    53.6   2.2  12.2
    XGrad-CAM      88.1   0.4   4.3    80.5   0.3   4.1
    Layer-CAM      82.0   0.2   2.9    88.9   0.4   2.6
    TIBAV          81.7   0.8   5.8    62.3   0.7   7.1
    RawAtt         92.6   0.2   2.8    95.3   0.0   1.8
    Rollout        42.1   5.6  20.9    55.2   0.8   7.9
    HiRes-CAM      98.4   0.0   0.7    97.2   0.0   1.2
    LIME           71.5   1.7   7.1    55.6   1.7   9.7
    GradientSHAP   98.1   0.0   0.8    95.8   0.1   1.5
    Opti-CAM        0.6  18.0  90.1     0.9  26.0  83.5

RawAtt is `raw_attention`, Rollout `attention_rollout`, TIBAV
`transformer_attribution`. LIME and GradientSHAP are as in
`configs/opti_cam_table1.py`. ExPerturbation (28.8, 6.2, 24.4; 60.9, 2.0, 8.5) is
`extremal_perturbation`, see there.

Time: 1,000 network passes an image, most of them for Score-CAM.
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
        model="vit_base_patch16_224",
        methods=METHODS,
        metrics=("average_drop", "average_gain", "average_increase"),
        method_options=OPTIONS,
    )
    # The paper's.
    found.batch_size = 8
    return found

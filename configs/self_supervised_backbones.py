"""Interpretability of self-supervised backbones: drop, gain, increase, energy in boxes.

    unlir evaluate --config configs/self_supervised_backbones.py:model=resnet50 \
        --config.data.path=imagenet_val --config.model.weights=dino_resnet50.pth \
        --workdir runs/dino_resnet50

    unlir evaluate --config configs/self_supervised_backbones.py:\
model=vit_base_patch16_224_dino --config.data.path=imagenet_val \
        --config.model.weights=dino_vitb16.pth --score references:alike \
        --workdir runs/dino_vit

The team's public code on self-supervised representations compares such backbones by
class activation maps, drop, increase and the energy pointing game. The folder is that
of `configs/opti_cam_table_a7.py`: its table index.csv has the boxes.

    backbone                    model=                        classes by
    ResNet-50, supervised       resnet50                      its classifier
    DeiT-B, supervised          deit_base_patch16_224         its classifier
    ResNet-50, DINO, MoCo-v3    resnet50                      a linear classifier
    ViT-B, MoCo-v3              vit_base_patch16_224          a linear classifier
    ViT-S, ViT-B, DINO          vit_base_patch16_224_dino     a linear classifier
    XCiT-S12, DINO              xcit_small_12_p16_224_dino    references
    CaiT-S24, supervised        cait_s24_224                  its classifier
    ViT, DINOv2                 vit_base_patch14_dinov2       a linear classifier

A linear classifier is part of the file of weights, or comes from `unlir train --config
configs/linear_probe.py:backbone=resnet50`: `model=` is then the workdir.

Without a classifier, the score is the similarity to a reference, `--score
references:alike`. The module `references` is yours: `alike = scores.similarity(means)`,
where row i of `means` is the mean embedding of class i, see docs/guides/scores.md.
Classes in alphabetical order are its rows. Scores of different kinds do not compare:
read each backbone against its own controls.

Arguments: as in `configs/evaluate.py`.

Expected: no figures are published. Methods that beat the controls on one backbone do
not have to beat them on another.

Time: 130 network passes an image, nearly all for Opti-CAM.
"""

from unlir_jax.evaluation import settings

METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "opti_cam")
METRICS = {
    "average_drop": {},
    "average_gain": {},
    "average_increase": {},
    "energy_pointing_game": {"scaling": "range"},
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

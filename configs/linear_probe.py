r"""Train a linear classifier on the frozen features of a pretrained network.

The usual measure of the quality of features. Each image passes through the backbone
once. Its pooled maps are cached on disk, and reused for other seeds and settings.

    unlir train --config configs/linear_probe.py:backbone=efficientnet_lite0 \
        --config.data.path=DIR --workdir runs/probe

DIR/train/CLASS and DIR/test/CLASS hold the images.

Arguments: `backbone`, a name of `unlir models`, whose installed weights are used unless
`--config.model.weights=FILE` names others; `data`, see `unlir_jax/data/presets.py`.

A vision transformer needs images of whole patches, and takes them at any size:
`backbone=vit_small_patch14_dinov2` with `--config.data.image_size=224`. Its head sees
the class token, the mean of the grid, or both (`--config.probe.pooling=token+average`).

Pooling, weight decay and steps are chosen on held-out training images. The choice is
printed, and recorded in `summary.json`. `--config.probe.pooling=average`,
`--config.optimizer.weight_decay=1.0` and `--config.steps=1000` fix them, and
`--config.probe.choose=false` with all three leaves the search out; see
docs/guides/train.md.

Expected: the accuracy of logistic regression with a tuned penalty on average-pooled
features of the same network, or more, give or take half a point. On 50 species of
CUB-200-2011 (30 training images each) 93.0 % with EfficientNet-Lite0, seed 0;
scikit-learn 1.9.1 with C by cross-validation has 92.8 %.

Time: half a minute to two of processor time for the search once features are cached,
which takes 10 ms an image on two idle CPU cores.
"""

from ml_collections import config_dict

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults


def get_config(argument=""):
    """Give the settings; they suit pooled features of ImageNet networks."""
    given = config.parse_arguments(
        argument, backbone="efficientnet_lite0", data="folder"
    )
    settings = defaults.training()
    presets.choose_data(settings, given.data)
    settings.batch_size = 256
    settings.steps = 0
    settings.data.augment = ""
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.model.dropout = 0.0
    settings.features.cache = True
    settings.probe.choose = True
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.weight_decay = config_dict.placeholder(float)
    settings.optimizer.table = (("classifier/.*", {}), (".*", None))
    settings.evaluate.every = 250
    settings.checkpoint.every = 250
    return settings


def get_variants(argument=""):
    """Name five seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(5)}

"""Train a linear classifier on the frozen features of a pretrained network.

The usual measure of what features are worth. The trunk sees each picture once; its
pooled maps are kept on the disk, and the next seed or setting starts from them.

    unlir train --config configs/linear_probe.py:backbone=efficientnet_lite0 \\
        --config.data.path=DIR --workdir runs/probe

DIR/train/CLASS and DIR/test/CLASS hold the pictures. Arguments: backbone, a name of
`unlir models`; without --config.model.weights=FILE the weights at hand are taken.
"""

from unlir_jax import config, defaults


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(argument, backbone="efficientnet_lite0")
    settings = defaults.training()
    settings.batch_size = 256
    settings.steps = 1000
    settings.data.augment = ""
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.features.cache = True
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 1e-3
    settings.optimizer.weight_decay = 0.1
    settings.optimizer.table = (("classifier/.*", {}), (".*", None))
    settings.evaluate.every = 250
    settings.checkpoint.every = 250
    settings.log.every = 50
    return settings

r"""Fine-tune a pretrained network on a folder of images, or on a known data set.

The classifier starts from random weights and learns ten times as fast as the backbone,
whose norms keep their pretrained statistics.

    unlir train --config configs/fine_tune.py:backbone=mobilenet_v2 \
        --config.data.path=DIR --workdir runs/fine_tuned

DIR/train/CLASS and DIR/test/CLASS hold the images; `data=cub` reads what
tensorflow-datasets has prepared.

Arguments: `backbone`, a name of `unlir models`, whose installed weights are used unless
`--config.model.weights=FILE` names others; `data`, see `unlir_jax/data/presets.py`.

Starting from a linear probe keeps a random classifier from distorting the backbone
(Kumar et al. 2022):

    unlir train --config configs/fine_tune.py --config.data.path=DIR \
        --config.init_from=runs/probe --config.optimizer.learning_rate=0.01 \
        --config.epochs=3 --workdir runs/fine_tuned

Expected: on 50 species of CUB-200-2011 with EfficientNet-Lite0, seed 0, on a CPU:
89.2 % after 5 epochs with batches of 64 and a learning rate of 0.1, and
92.2 % after 3 epochs from the probe, which had 92.9 %. The 20 epochs of this file have
not been run here.

Time: 20 epochs of 1,500 images need an accelerator; on two CPU cores an epoch takes
three minutes or more.
"""

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument, backbone="efficientnet_lite0", data="folder"
    )
    settings = defaults.training()
    settings.data.augment = "random_resized_crop(area=(0.25, 1.0))|flip"
    presets.choose_data(settings, given.data)
    settings.batch_size = 32
    settings.epochs = 20.0
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.objective.label_smoothing = 0.1
    settings.optimizer.options = {"momentum": 0.9, "nesterov": True}
    settings.optimizer.learning_rate = 0.05
    settings.optimizer.weight_decay = 1e-4
    settings.optimizer.clip_norm = 1.0
    settings.optimizer.table = (
        ("classifier/kernel", {}),
        ("classifier/bias", {"weight_decay": False}),
        (".*/(bias|scale)", {"weight_decay": False, "learning_rate": 0.1}),
        (".*", {"learning_rate": 0.1}),
    )
    settings.optimizer.schedule.warmup = 0.05
    settings.evaluate.every = 250
    settings.checkpoint.every = 250
    return settings


def get_variants(argument=""):
    """Name three seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}

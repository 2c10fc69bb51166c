r"""Train a network that decides by parts.

    unlir train --config configs/train_parts.py:backbone=mobilenet_v2 \
        --config.data.path=DIR --workdir runs/parts

Expected: TODO
Time: TODO
"""

from unlir_jax import config, defaults, presets


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument, backbone="efficientnet_lite0", data="folder", parts=32
    )
    settings = defaults.training()
    presets.choose_data(settings, given.data)
    settings.batch_size = 64
    settings.epochs = 4.0
    settings.data.augment = ""
    settings.data.crop = 1.0
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.model.decision = {
        "name": "descriptors",
        "layer": "auto",
        "parts": given.parts,
        "dropout": 0.5,
    }
    settings.features.cache = True
    settings.start.parts = "kmeans"
    settings.start.classifier = "ridge"
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 1e-5
    settings.optimizer.weight_decay = 0.0
    settings.optimizer.table = (
        ("classifier/(kernel|bias)", {}),
        (".*", None),
    )
    return settings


def get_variants(argument=""):
    """Name three seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}

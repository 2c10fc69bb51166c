r"""Learn one weight for each filter of a pretrained network, and a classifier.

Kernels and norms are frozen, and have no optimiser state. This config is for many
images, on any devices; configs/few_shot.py is for few.

    unlir train --config configs/filters.py:backbone=mobilenet_v2 \
        --config.data.path=DIR --config.data.image_size=160 --workdir runs/filters

DIR/train/CLASS and DIR/test/CLASS hold the images; `data=cub` reads what
tensorflow-datasets has prepared. The workdir ends with a plain network, whose weights
are multiplied in, and with adapter.safetensors: see docs/guides/few_shot.md.

Arguments: `backbone`, a name of `unlir models`, whose installed weights are used unless
`--config.model.weights=FILE` names others; `data`, see `unlir_jax/data/presets.py`.

`--config.model.filters.after=` names the block after which filters have weights, and
`--config.penalty.name=l1` (hard_concrete, towards_one) with `--config.penalty.weight=W`
adds a penalty. `--config.init_from=runs/probe` starts from the classifier of
configs/linear_probe.py.

Expected: on 50 species of CUB-200-2011 (30 training images each) with MobileNetV2 at
160 px, seed 0, on a CPU: 88.8 % after 5 epochs from a new classifier, and 91.0 % after
3 epochs from the probe, which had 90.6 %. The 10 epochs of this file have not been run.

Time: about 35 images a second on one busy CPU core, so 45 s for one of those epochs.
"""

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(argument, backbone="mobilenet_v2", data="folder")
    settings = defaults.training()
    settings.data.augment = "random_resized_crop(area=(0.25, 1.0))|flip"
    presets.choose_data(settings, given.data)
    settings.batch_size = 32
    settings.epochs = 10.0
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.model.filters.after = "auto"
    settings.objective.label_smoothing = 0.1
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 1e-2
    settings.optimizer.weight_decay = 0.1
    settings.optimizer.table = (
        # Decay would pull them to 0, and not to 1.
        ("filters/.*", {"weight_decay": False}),
        ("classifier/.*", {"learning_rate": 0.1}),
        (".*", None),
    )
    settings.optimizer.schedule.warmup = 0.05
    settings.evaluate.every = 250
    settings.checkpoint.every = 250
    return settings


def get_variants(argument=""):
    """Name three seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}

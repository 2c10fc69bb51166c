r"""Train a network from scratch with labels: the baseline of all other methods.

    unlir train --config configs/supervised.py:data=synthetic_parts --workdir runs/parts
    unlir train --config configs/supervised.py:data=cifar10,model=cifar_resnet18 \
        --workdir runs/cifar10
    unlir train --config configs/supervised.py:data=imagenet,model=resnet50 \
        --config.model.dtype=bfloat16 --workdir runs/imagenet

Arguments: `data`, a name in `unlir_jax/data/presets.py`; `model`, a name of `unlir
models`, by default one that suits the data. What tensorflow-datasets has prepared is
found where it was put, or at `--config.data.path=DIR`.

The recipes are the usual ones: CIFAR with SGD, momentum and a cosine over 200 epochs
(He et al. 2016, with the schedule of Loshchilov and Hutter 2017); images of 224 px
with batches of 1024, a learning rate of 0.1 per 256 and five epochs of warm-up (Goyal
et al. 2017).

Expected: 99.9 % on synthetic parts (seed 0, ten classes, 4,000 test images).
The recipes for CIFAR and ImageNet have not been run to their end here: no
accuracy is promised for them.

Time: ten minutes for synthetic parts on two busy CPU cores. The others need
accelerators.
"""

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(argument, data="synthetic_parts", model="")
    data = presets.SYNONYMS.get(given.data, given.data)
    settings = defaults.training()
    presets.choose_data(settings, data)
    settings.optimizer.options = {"momentum": 0.9, "nesterov": True}
    settings.model.weights = "random"
    if data == "synthetic_parts":
        _creatures(settings)
    elif data in presets.SMALL:
        _cifar(settings)
    else:
        _pictures(settings)
    settings.model.name = given.model or settings.model.name
    return settings


def _creatures(settings):
    settings.model.name = "cifar_resnet8"
    settings.data.options = {"classes": 10, "image_size": 64}
    settings.data.train_options = {"size": 20000}
    settings.data.test_options = {"size": 4000}
    settings.data.image_size = 64
    settings.data.augment = "pad_crop(4)"
    settings.batch_size = 64
    settings.epochs = 5.0
    settings.optimizer.learning_rate = 0.1
    settings.optimizer.weight_decay = 5e-4
    settings.optimizer.schedule.warmup = 0.1
    settings.evaluate.every = 313
    settings.checkpoint.every = 313


def _cifar(settings):
    settings.model.name = "cifar_resnet18"
    settings.batch_size = 128
    settings.epochs = 200.0
    settings.data.cache = "memory"
    settings.optimizer.learning_rate = 0.1
    settings.optimizer.weight_decay = 5e-4
    settings.evaluate.every = 1955
    settings.checkpoint.every = 1955


def _pictures(settings):
    settings.model.name = "resnet50"
    settings.batch_size = 1024
    settings.epochs = 90.0
    settings.data.workers = 8
    settings.model.precision = "default"
    settings.objective.label_smoothing = 0.1
    settings.optimizer.learning_rate = 0.4
    settings.optimizer.weight_decay = 5e-5
    settings.optimizer.schedule.warmup = 5 / 90
    settings.evaluate.every = 5000
    settings.checkpoint.every = 1250

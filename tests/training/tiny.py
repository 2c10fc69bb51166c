"""Settings of a training that takes seconds."""

from unlir_jax.runtime import config
from unlir_jax.training import defaults


def get_config(argument=""):
    given = config.parse_arguments(argument, model="cifar_resnet8", average=0.0)
    settings = defaults.training()
    settings.batch_size = 16
    settings.steps = 24
    settings.average = given.average
    settings.data.source = "synthetic_parts"
    settings.data.options = {"classes": 6, "image_size": 32}
    settings.data.train_options = {"size": 40}
    settings.data.test_options = {"size": 22}
    settings.data.image_size = 32
    settings.data.augment = "pad_crop(2)|flip"
    settings.data.threads = 1
    settings.model.name = given.model
    settings.model.weights = "random"
    settings.optimizer.options = {"momentum": 0.9}
    settings.optimizer.learning_rate = 0.05
    settings.optimizer.weight_decay = 1e-3
    settings.checkpoint.every = 4
    settings.evaluate.every = 6
    settings.log.every = 1
    return settings


def get_variants(argument=""):
    return {"a": {"seed": 0}, "b": {"seed": 1}}

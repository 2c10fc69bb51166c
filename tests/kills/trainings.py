"""Settings of trainings that take a second beside their start."""

from training import tiny

from unlir_jax.runtime import config

DECISION = {"name": "descriptors", "layer": "auto", "parts": 4, "dimensions": (8, 8)}


def get_config(argument=""):
    given = config.parse_arguments(argument, kind="plain")
    settings = tiny.get_config()
    settings.steps = 6
    settings.checkpoint.every, settings.evaluate.every = 2, 3
    settings.checkpoint.best = True
    settings.data.train_options = {"size": 40}
    if given.kind == "plain":
        return settings
    settings.data.augment = ""
    settings.features.cache, settings.features.folder = True, "features"
    settings.optimizer.table = (("classifier/(kernel|bias)", {}), (".*", None))
    if given.kind == "parts":
        settings.data.train_options = {"size": 60}
        settings.optimizer.learning_rate = 1e-3
        settings.start.parts, settings.start.classifier = "kmeans", "ridge"
        with settings.unlocked():
            settings.model.decision = DECISION
    return settings

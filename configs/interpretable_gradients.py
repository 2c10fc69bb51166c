r"""Train a network whose input gradient resembles the guided one.

    unlir train --config configs/interpretable_gradients.py:model=cifar_resnet8 \
        --config.data.path=FILE.npz --workdir runs/interpretable
    unlir train --config configs/interpretable_gradients.py:weight=0 \
        --config.data.path=FILE.npz --workdir runs/plain
    unlir train \
        --config configs/interpretable_gradients.py:data=cifar100,model=cifar_resnet18 \
        --workdir runs/cifar100

The loss is cross-entropy + `weight` · distance of the two gradients (Torres Figueroa et
al., VISAPP 2024). `weight=0` is the plain twin, with the same seed and steps.

Arguments: `model`, a name of `unlir models` that has ReLU, ReLU6, GELU or SiLU;
`weight`, 0.0075 as published; `distance`, see `objectives.input_gradients`; `data`, see
`unlir_jax/data/presets.py`; `over`, see below. `--config.objective.detached=False`
learns the guided gradient too.

`over=batch` multiplies `weight` by the batch size, so it weighs the sum of a batch's
distances; `over=image` weighs their mean. The formula that we know has the mean, with
which 0.0075 shows nothing in short trainings. So `batch` is usual, but with
`data=cifar100` it is `image`. `--config.objective.weight` is always that of the mean.

`data=cifar100` has the protocol of the authors' scripts: 200 epochs, batches of 128,
SGD from 0.1, times 0.2 at epochs 60, 120 and 160. The published networks are
`model=cifar_resnet18` and `model=cifar_mobilenet_v2`. Others have 20 epochs and a
cosine. Arrays are not augmented, as the term then costs less accuracy;
`--config.data.augment="pad_crop(4)|flip"` does it.

The summary has `test/accuracy`, `test/gradient_cosine` and
`test/gradient_total_variation`.

Expected: with `cifar_resnet8`, 8,000 images of CIFAR-10 and three seeds, an accuracy of
59.0 % and a cosine of .290; the plain twins have 58.4 % and .090. With ten epochs the
term costs two points of accuracy: see docs/results/interpretability.md. No figures are
published for trainings as short as these.

Time: about twenty processor minutes with a weight, and eight without; more than twice
of it on a busy machine. `--config.epochs=10` halves it. `data=cifar100` needs an
accelerator, and has not been run here. `cifar_resnet18` takes 1e17 operations by
counting, which is an hour at 3e13 a second; `cifar_mobilenet_v2` takes a tenth.
"""

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults

WEIGHT, OVER = 7.5e-3, ("batch", "image")


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument, data="npz", model="", weight=WEIGHT, distance="cosine", over=""
    )
    data = presets.SYNONYMS.get(given.data, given.data)
    over = given.over or ("image" if data in presets.SMALL else "batch")
    if over not in OVER:
        known = " or ".join(OVER)
        raise ValueError(f"`over`={over!r}; expected {known}.")
    if not given.weight >= 0:
        raise ValueError(f"`weight`={given.weight}; expected 0 or more.")
    settings = defaults.training()
    presets.choose_data(settings, data)
    settings.model.name = given.model or "cifar_resnet8"
    settings.model.weights = "random"
    settings.objective = {
        "name": "interpretable_gradients",
        "weight": given.weight,
        "distance": given.distance,
        "detached": True,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    settings.batch_size = 64
    settings.data.cache = "memory"
    settings.data.augment = ""
    settings.epochs = 20.0
    settings.optimizer.options = {"momentum": 0.9, "nesterov": True}
    settings.optimizer.learning_rate = 0.1
    settings.optimizer.weight_decay = 5e-4
    settings.optimizer.schedule.warmup = 0.1
    if data in presets.SMALL:
        _published(settings)
    elif data == "synthetic_parts":
        settings.data.options = {"classes": 10, "image_size": 64}
        settings.data.train_options = {"size": 4000}
        settings.data.test_options = {"size": 1000}
        settings.data.image_size = 64
        settings.data.augment = "pad_crop(4)"
        settings.batch_size = 32
        settings.epochs = 5.0
        settings.optimizer.learning_rate = 0.05
    if over == "batch":
        settings.objective.weight = given.weight * settings.batch_size
    return settings


def _published(settings):
    settings.data.augment = "pad_crop(4)|flip"
    settings.batch_size = 128
    settings.epochs = 200.0
    settings.optimizer.schedule = {
        "name": "multi_step",
        "warmup": 1 / 200,
        "final": 0.0,
        "milestones": (60 / 200, 120 / 200, 160 / 200),
        "factor": 0.2,
    }
    settings.evaluate.every = 1955
    settings.checkpoint.every = 1955


def get_variants(argument=""):
    """Name three seeds, with the term and without."""
    weight = get_config(argument).objective.weight
    return {
        f"weight={each:g}_seed={seed}": {"objective.weight": each, "seed": seed}
        for each in (weight, 0.0)
        for seed in range(3)
    }

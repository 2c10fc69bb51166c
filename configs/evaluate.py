r"""Score explanations: many methods by many metrics over a data set, with intervals.

    unlir evaluate --config configs/evaluate.py:model=mobilenet_v2 \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/scores

Arguments: `model`, a name of `unlir models` or the workdir of a training; `methods` and
`metrics`, names of `unlir methods` joined by +; `data`, a name in
`unlir_jax/data/presets.py`.

DIR holds class folders, files whose names begin with the class index (281_tabby.jpg),
or a table index.csv. Controls, which are computed without the network, are scored with
all methods unless `--config.controls=False`.

Expected: on 200 images of ImageNet, see docs/results/saliency.md.

Time: on two CPU cores about 20 network passes an image, method and curve, and 300 for
Opti-CAM.
"""

from unlir_jax.evaluation import settings


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(argument, model="efficientnet_lite0")
    return found

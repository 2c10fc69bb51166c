r"""Open-set recognition: scores that tell known classes from unknown ones.

    unlir evaluate --config configs/open_set.py:backbone=mobilenet_v2,scores=msp+best \
        --config.data.path=cub50 --config.model.weights=FILE --config.splits=5 \
        --workdir runs/open

Half of the classes of DIR are known, drawn for each split. A classifier and the scores
are fitted to DIR/train of the known classes, on features of a frozen network. All of
DIR/test is scored. With `--config.unknown=CLASSES.txt`, a class a line, there is one
split; JSON in the format of the Semantic Shift Benchmark says which are hard, too.
`--config.similarity=True` also scores hard and easy unknown classes apart, and
`--config.far=DIR` images of another folder. `--config.protocol=cifar10` takes the
splits of the field, and ssb_cub one of the Semantic Shift Benchmark. `unlir explain
IMAGE --model runs/open` then refuses images.

Arguments: `backbone`, a name of `unlir models`; `data`, a name in
`unlir_jax/data/presets.py`; `scores`, several joined by +: msp, max_logit, energy,
entropy, gen, kl_matching, openmax, mahalanobis, relative_mahalanobis, knn, nnguide,
vim, fdbd, react, scale, ash, parts, and best, which is chosen on known classes; or
`all`.

Reproduces the protocol of Vaze, Han, Vedaldi and Zisserman, *Open-Set Recognition: A
Good Closed-Set Classifier is All You Need*, ICLR 2022, with a frozen network.

Expected: on 50 species of CUB-200-2011 with MobileNetV2, five splits: AUROC 89.3 % by
msp and 90.8 % by relative_mahalanobis, see docs/results/open_set.md.

Time: on two busy CPU cores two minutes for the features of 2,949 images, which are
kept for later runs, and one to two minutes a split with all scores.
"""

from unlir_jax.data import presets
from unlir_jax.open_set import score_names, settings
from unlir_jax.runtime import config


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument,
        backbone="mobilenet_v2",
        data="folder",
        scores=score_names.USUAL,
    )
    found = settings.open_set()
    presets.choose_data(found, given.data)
    found.model.name = given.backbone
    score_names.choose(found, given.scores)
    found.data.augment = ""
    return found

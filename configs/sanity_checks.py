"""Sanity checks: the change of a map when the weights are randomised.

    unlir evaluate --config configs/sanity_checks.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.data.limit=1000 \
        --config.model.weights=resnet50.pth --workdir runs/sanity

    unlir evaluate --config configs/sanity_checks.py:model=mobilenet_v2 \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, *Sanity checks for saliency maps*,
NeurIPS 2018; Opti-CAM's paper checks ResNet-50 in five stages. Layers are redrawn from
the head backwards. The map is compared with the first one by structural similarity,
rank correlation and histograms of oriented gradients.

With `metrics=random_labels+random_labels@spearman --config.model.random_labels=FILE`,
FILE being the same network trained on shuffled labels, it is the paper's second check.

Arguments: as in `configs/evaluate.py`.

Expected: controls stay at 1, and explanations fall. The only published value for
Opti-CAM is a structural similarity of 0.013 under random labels (ResNet-50).

Time: ten times the time of the methods.
"""

from unlir_jax.evaluation import settings


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(
        argument,
        model="resnet50",
        methods=("grad_cam", "layer_cam", "gradient", "guided_backpropagation"),
        metrics=tuple(
            f"{kind}_randomization{measure}"
            for kind in ("cascading", "independent")
            for measure in ("", "@spearman", "@hog")
        ),
    )
    return found

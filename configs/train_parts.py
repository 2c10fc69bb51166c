r"""Train a network that decides by parts.

    unlir train --config configs/train_parts.py:backbone=mobilenet_v2 \
        --config.data.path=DIR --workdir runs/parts

`method=bag`, `prototypes` and `landmarks` are other decisions on the same features:
DP-Net's bag of parts in our reconstruction, ProtoPNet's prototypes, PDiscoNet's
landmarks. `method=projection` continues a workdir of `method=prototypes`, given by
`--config.init_from=WORKDIR`: each prototype becomes a location of a training image,
then the classifier learns again.

`method=fine_tune` continues a workdir of the default in the same way. The whole network
learns, from augmented images, with terms on the parts (`--config.objective.terms.NAME`,
as for all methods that take steps). `--config.model.decision.assignment=learned` learns
binary gates, which decide the classes of a part of `method=bag`.
`--config.objective.anneal=0.1` cools them.

`method=unsupervised` finds fewer parts without labels, whitens their descriptors by the
differences between nearest neighbours, and measures retrieval. `few_label` gives the
classifier five labels of each class (`--config.start.labels_per_class`).

`--config.start.parts=lda`, `assignment`, `ipfp`, `soft_assign` or `groups` finds parts
of classes or of groups of images, by discriminant analysis or quadratic assignment.
`--config.model.decision.layer=2x` also uses the image at twice its size, `decision.at`
an earlier layer. `--config.model.adapter=FILE` first weights the filters of the
backbone; the file comes from a run of configs/few_shot.py on the same images and
weights.

Vision transformers, Swin and ConvNeXt are backbones too, such as
`backbone=vit_small_patch14_dinov2` with `--config.data.image_size=154`.

`data=synthetic_parts` learns synthetic animals from scratch by a bag of parts that
compete for locations. `data=imagenet` is for a pod of 32 accelerators and was not run.

Arguments: `backbone`, a name of `unlir models`, whose installed weights are used unless
`--config.model.weights=FILE` names others; `data`, see `unlir_jax/data/presets.py`;
`method`, see above; `parts`, their number, 0 for the method's own.

Expected: on 50 species of CUB-200-2011, cropped to the bird, mean and standard
deviation of seeds 0 to 2:

    backbone             accuracy       keypoint share   NMI
    MobileNetV2          93.9 +- 0.0    .59 +- .01       .36 +- .01
    EfficientNet-Lite0   93.7 +- 0.1    .61 +- .00       .39 +- .01

Tuned logistic regression on the best pooling of the same features has 92.3 and 93.2 %,
and parts that are fixed places in the frame a keypoint share of .37 and an NMI of .30.
Solar cells (`data=elpv`, EfficientNet-Lite0, `--config.data.options.seed` 0 to 4, which
draws the division): 87.3 +- 1.0 %, average pooling 86.1 +- 0.9; with an adapter for
each division 88.6 +- 1.1 %. docs/results/appendix.md says how the settings were chosen.

Time: on two CPU cores 15 ms an image for the features, once; then a minute and a
quarter on 1500 images for parts, classifier, baselines, figures and the gallery, and
one to two more for interventions (taken on a busy machine).
"""

from unlir_jax.data import presets
from unlir_jax.runtime import config
from unlir_jax.training import defaults

# What has to learn its trunk, or has too many pictures to keep their features.
WITHOUT_CACHE = {
    "synthetic_parts": "scratch",
    "imagenet": "pod",
    "imagenet2012": "pod",
}
# Whose maps have signs: a part's descriptor is a mean there, and no power mean.
SIGNED = ("vit_", "deit", "swin_", "convnext")
METHODS = (
    "descriptors",
    "unsupervised",
    "few_label",
    "fine_tune",
    "bag",
    "prototypes",
    "projection",
    "landmarks",
    "scratch",
    "pod",
)
TERMS = (
    "diversity",
    "decisiveness",
    "balance",
    "specificity",
    "binary",
    "presence",
    "concentration",
    "consistency",
    "orthogonality",
    "equivariance",
    "cluster",
    "separation",
)


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument,
        backbone="",
        data="folder",
        method="",
        parts=0,
    )
    scratch = given.data == "synthetic_parts"
    backbone = given.backbone or ("cifar_resnet8" if scratch else "efficientnet_lite0")
    method = given.method or WITHOUT_CACHE.get(given.data, "descriptors")
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"`method`={method!r}; expected one of {known}.")
    settings = defaults.training()
    presets.choose_data(settings, given.data)
    settings.batch_size = 64
    settings.data.augment = ""
    settings.data.crop = 1.0
    if given.data == "elpv":
        # All that a picture has; and which division into training and test is drawn.
        settings.data.image_size = 300
        settings.data.options = {"share": 0.25, "seed": 0}
    settings.model.name = backbone
    settings.model.freeze_norms = True
    settings.features.cache = True
    settings.optimizer.name = "adamw"
    globals()[f"_{method}"](settings, given.parts)
    decision = settings.model.decision
    if backbone.startswith(SIGNED) and decision.name == "descriptors":
        decision.power = 1.0
    return settings


def _descriptors(settings, parts):
    # All is solved in closed form at the start; a step of rate 0 only closes the run.
    settings.steps = 1
    settings.model.decision = {
        "name": "descriptors",
        "layer": "auto",
        "parts": parts or 64,
        "dimensions": (64, 64),
        "damping": 0.5,
        "dropout": 0.0,
    }
    settings.start.parts = "kmeans"
    settings.start.classifier = "ridge"
    settings.optimizer.learning_rate = 0.0
    settings.optimizer.weight_decay = 0.0
    settings.optimizer.table = (
        ("classifier/(kernel|bias)", {}),
        (".*", None),
    )


def _unsupervised(settings, parts):
    # Fewer and larger parts: an encoding is to be small, and k-means has no labels.
    _descriptors(settings, parts or 16)
    settings.model.decision.layer = ""
    settings.model.decision.dimensions = (256, 0)
    settings.model.decision.damping = 4.0
    settings.start.whitening = "neighbours"


def _few_label(settings, parts):
    _unsupervised(settings, parts)
    settings.start.labels_per_class = 5


def _fine_tune(settings, parts):
    # What a closed form found is where it starts from: `init_from`.
    _descriptors(settings, parts)
    settings.start.parts = settings.start.classifier = "random"
    settings.features.cache = False
    settings.data.augment = "random_resized_crop(area=(0.5, 1.0))|flip"
    settings.steps, settings.epochs = 0, 10.0
    _constrain(settings, balance=0.02, equivariance=0.1)
    _whole(settings)
    settings.optimizer.learning_rate = 1e-3


def _bag(settings, parts):
    settings.epochs = 50.0
    settings.model.decision = {
        "name": "bag",
        "layer": "",
        "parts": parts or 200,
        "region": "cells",
        "sizes": (1, 2, 3),
        "boxes": 32,
        "pooling": "max",
        "assignment": "none",
        "dropout": 0.5,
    }
    settings.start.parts = "kmeans"
    _constrain(settings, diversity=0.1, decisiveness=0.02, balance=0.02)
    settings.optimizer.learning_rate = 6e-3
    settings.optimizer.weight_decay = 0.1
    settings.optimizer.table = (
        ("classifier/regions/.*", None),
        ("classifier/parts/kernel", {"learning_rate": 0.3}),
        ("classifier/bias", {"weight_decay": False}),
        ("classifier/.*", {}),
        (".*", None),
    )


def _prototypes(settings, parts):
    settings.epochs = 30.0
    settings.model.decision = {
        "name": "prototypes",
        "layer": "",
        "per_class": parts or 10,
        # On a frozen trunk, layers that start at random learn the pictures by heart.
        "space": "white",
        "dimensions": (256, 64),
    }
    settings.start.parts = "class_kmeans"
    _constrain(settings, cluster=0.1, separation=0.05)
    settings.optimizer.learning_rate = 2e-3
    settings.optimizer.weight_decay = 0.0
    settings.optimizer.table = (
        ("classifier/regions/.*", {"learning_rate": 0.2}),
        ("classifier/.*", {}),
        (".*", None),
    )


def _projection(settings, parts):
    _prototypes(settings, parts)
    settings.epochs = 10.0
    settings.start.parts = "project"
    _constrain(settings, specificity=0.1)
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.table = (
        ("classifier/kernel", {"weight_decay": False}),
        (".*", None),
    )


def _landmarks(settings, parts):
    settings.epochs = 30.0
    settings.model.decision = {
        "name": "landmarks",
        "layer": "auto",
        "parts": parts or 16,
        "dropout": 0.3,
    }
    settings.start.parts = "kmeans"
    _constrain(settings, concentration=1.0, orthogonality=1.0, presence=1.0)
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.weight_decay = 0.1
    settings.optimizer.table = (
        ("classifier/regions/.*", None),
        ("classifier/(parts/kernel|background)", {"weight_decay": False}),
        ("classifier/(bias|modulation)", {"weight_decay": False}),
        ("classifier/.*", {}),
        (".*", None),
    )


def _scratch(settings, parts):
    # Pictures of 64 px are drawn as they are read; all is learnt, from nothing.
    settings.features.cache = False
    settings.model.freeze_norms = False
    settings.model.weights = "random"
    settings.data.image_size = 64
    settings.data.augment = "pad_crop(4)"
    settings.data.options = {"classes": 10, "image_size": 64}
    settings.data.train_options = {"size": 4000}
    settings.data.test_options = {"size": 1000}
    settings.batch_size = 32
    settings.steps = 1500
    settings.model.decision = {
        "name": "bag",
        "layer": "",
        "parts": parts or 48,
        "dimensions": (0, 0),
        "region": "cells",
        "pooling": "top_k",
        "top": 4,
        "competition": True,
        "assignment": "none",
        "dropout": 0.3,
    }
    _constrain(settings, 0.0)
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.weight_decay = 1e-3
    settings.optimizer.table = (
        ("classifier/.*", {"weight_decay": False, "learning_rate": 5.0}),
        (".*/(bias|scale)", {"weight_decay": False}),
        (".*", {}),
    )
    settings.optimizer.schedule.warmup = 0.1
    settings.evaluate.every = 500
    settings.checkpoint.every = 500


def _pod(settings, parts):
    # Sized for 32 accelerators with 64 pictures each; not run here.
    settings.features.cache = False
    settings.data.augment = "random_resized_crop(area=(0.25, 1.0))|flip"
    settings.data.crop = 0.875
    settings.batch_size = 2048
    settings.epochs = 30.0
    settings.average = 0.9999
    settings.model.decision = {
        "name": "descriptors",
        "layer": "auto",
        "parts": parts or 64,
        "dimensions": (64, 64),
        "rank": 128,
        "dropout": 0.3,
    }
    _constrain(settings, balance=0.02, equivariance=0.1)
    _whole(settings)
    settings.optimizer.learning_rate = 2e-3
    settings.evaluate.every = 1000
    settings.checkpoint.every = 1000


def _whole(settings):
    """Let all learn, what was there before at a tenth of the rate."""
    settings.optimizer.weight_decay = 0.05
    settings.optimizer.clip_norm = 1.0
    settings.optimizer.table = (
        ("classifier/(parts|regions)/.*", {"weight_decay": False}),
        ("classifier/(bias|mean|scale)", {"weight_decay": False}),
        ("classifier/.*", {}),
        (".*/(bias|scale)", {"weight_decay": False, "learning_rate": 0.1}),
        (".*", {"learning_rate": 0.1}),
    )
    settings.optimizer.schedule.warmup = 0.1


def _constrain(settings, label_smoothing=0.1, **weights):
    """Weigh terms on parts; all others are there, at 0, to be set on a command line."""
    settings.objective = {
        "name": "parts",
        "label_smoothing": label_smoothing,
        # Of the temperature of learned gates, at the end.
        "anneal": 1.0,
        "terms": dict.fromkeys(TERMS, 0.0) | weights,
    }


def get_variants(argument=""):
    """Name three seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}

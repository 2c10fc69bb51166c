r"""Train the pooling of a pretrained network, by attention or in a plain way.

    unlir train --config configs/attention_pooling.py:pooling=ca_stream \
        --config.data.path=DIR --workdir runs/ca_stream

    python launch/sweep.py run --config configs/attention_pooling.py:pooling=average \
        --config.data.path=DIR --root runs/average
    unlir evaluate --config configs/attention_pooling.py:given=average+ca_stream,\
root=runs --config.data.path=DIR --workdir runs/scores

DIR/train/CLASS and DIR/test/CLASS hold the images. Afterwards `unlir explain IMAGE
--model runs/ca_stream --method attention_pooling,grad_cam` shows what it looks at.

The second command trains three seeds. The third compares how two poolings are
explained: test accuracy and the CAMs of CA-Stream's table, paired by seed and image.
`given` names workdirs of trainings, joined by +, the first of which the others are
compared with. They are `root`/NAME/seed=N, or what `--config.given.NAME.name` says:
{seed} stands for the seed, and a name without it is one network for all seeds.

`pooling=ca_stream` is CA-Stream (Torres Figueroa et al. 2024): a query travels through
the stages of the frozen backbone. `simpool` is SimPool (Psomas et al. 2023),
`efficient_probing` Efficient Probing (Psomas et al. 2026). `average`, `max` and `gem`
train a classifier on what they pool.

A classifier that knows all classes of the data by name stays as it is with CA-Stream,
and learns on with the others. With CA-Stream, a new one learns on average-pooled
features first, which gives the one of `pooling=average` with the same seed, and is then
frozen, as published. `summary.json` says which it was, and
`--config.model.attention_pooling.classifier=learned` or `frozen` decides.

Arguments: `backbone`, a name of `unlir models`, whose installed weights are used unless
`--config.model.weights=FILE` names others; `pooling`, see above; `data`, see
`unlir_jax/data/presets.py`; `rate`, what multiplies the learning rate for the attention
on kept features, 0 for the default; `given`, `root`, `seeds` and
`methods`, joined by +, of the third command; `recipe`, one of

- `features`: the maps of all images are computed once and kept, and a step touches no
  backbone. Efficient Probing fits its queries and values in closed form, see
  `unlir_jax.parts.queries`, and only its classifier takes steps;
- `resnet`: the recipe of CA-Stream's residual networks, on augmented images;
- `convnext`: that of its ConvNeXts. Its moving average is the same a step; the authors
  update theirs every 32 steps.

The last two recipes start with the classifier of the weights:
`--config.model.weights=runs/average/weights.safetensors` names a run with
`pooling=average`.

On kept features, CA-Stream begins as average pooling, and stays near it at the default
rate. `--config.model.attention_pooling.start=left_out` first lets its query and links
learn behind classifiers that have not seen the image. Its query passes the last two
stages of the backbone in front of its last maps. The maps of all stages
(`--config.model.attention_pooling.stages=auto`) take 3 MB an image of 224 px. `stages=`
is the variant with one block on the last maps. Other stages are the paths of the
modules in front of which they end, joined by +.

Rate and weight decay of the classifier were chosen on held-out training images behind
plain poolings, see docs/results/probes.md; the rates of the attention were not.

Efficient Probing on kept features has 16 queries instead of the paper's 32. They follow
k-means of the locations, and the values a ridge regression. The paper learns both by
gradients: `pooling=efficient_probing,rate=3e-4` does, with 32 queries from average
pooling on.

Expected: on 50 species of CUB-200-2011 at 224 px, 91.3 % with average pooling of
MobileNetV2 and 93.1 % of EfficientNet-Lite0; CA-Stream and SimPool stay within half a
point, see docs/results/probes.md. With `start=left_out` so does CA-Stream, and CAMs
score higher, but for the most part not at fitted temperatures; see
docs/results/interpretability.md. The published recipes were not run here: on ImageNet,
ResNet-50 has 74.55 % with average pooling and 74.70 % with CA-Stream, ConvNeXt-B 83.72
and 83.51 %.

Time: a minute or two for 1,500 images on two busy CPU cores, features included; several
times as long with `start=left_out`. The published recipes need accelerators.
"""

from unlir_jax.data import presets
from unlir_jax.evaluation.study import settings as study
from unlir_jax.runtime import config
from unlir_jax.training import defaults

PLAIN = "average", "max", "gem"
ATTENTION = {
    "ca_stream": {"stages": "auto", "start": "xavier"},
    "simpool": {"gamma": 2.0, "shifted": False},
    "efficient_probing": {"queries": 32, "start": "random"},
}
# Of the pooling on kept features; attention learns few images by heart.
RATES = {"ca_stream": 3e-4, "simpool": 1e-3}
RECIPES = "features", "resnet", "convnext"
SCORE_CAM = "score_cam"


def get_config(argument=""):
    """Give the settings of a training, or with `given` of the comparison."""
    given = config.parse_arguments(
        argument,
        backbone="efficientnet_lite0",
        pooling="ca_stream",
        data="folder",
        recipe="features",
        rate=0.0,
        given="",
        root="",
        seeds=3,
        methods=f"grad_cam+grad_cam_plus_plus+{SCORE_CAM}",
    )
    if given.given:
        return _comparison(given)
    if given.pooling not in (*PLAIN, *ATTENTION):
        known = ", ".join((*PLAIN, *ATTENTION))
        raise ValueError(f"`pooling`={given.pooling!r}; expected one of {known}.")
    if given.recipe not in RECIPES:
        known = ", ".join(RECIPES)
        raise ValueError(f"`recipe`={given.recipe!r}; expected one of {known}.")
    settings = defaults.training()
    presets.choose_data(settings, given.data)
    settings.model.name = given.backbone
    settings.model.freeze_norms = True
    settings.optimizer.table = (
        ("(pool|classifier)/.*/?(bias|scale)", {"weight_decay": False}),
        ("(pool|classifier)/.*", {}),
        (".*", None),
    )
    if given.pooling in PLAIN:
        settings.probe.pooling = given.pooling
        settings.model.dropout = 0.0
        settings.optimizer.table = (
            ("classifier/bias", {"weight_decay": False}),
            ("classifier/.*", {}),
            (".*", None),
        )
    else:
        own = {"name": given.pooling, "classifier": "auto"}
        own["classifier_start"] = "random"
        settings.model.attention_pooling = own | ATTENTION[given.pooling]
    globals()[f"_{given.recipe}"](settings)
    if given.rate:
        _set_rate(settings, given)
    return settings


def _comparison(given):
    """Compare trained networks by the CAMs of CA-Stream's table."""
    names = given.given.split("+")
    found = study.study("", {}, given.seeds, names, given.data)
    for name in names if given.root else ():
        found.given[name].name = f"{given.root}/{name}/seed={{seed}}"
    found.data.split = "test"
    found.methods = tuple(given.methods.split("+"))
    if SCORE_CAM in found.methods:
        found.method_options = {SCORE_CAM: {"weighting": "probability"}}
    found.metric_options = {name: {"steps": 28} for name in ("insertion", "deletion")}
    found.sanity.images = 0
    return found


def _set_rate(settings, given):
    """Let the attention learn at a rate of its own, a factor on the classifier's."""
    if given.pooling not in ATTENTION or given.recipe != "features" or given.rate < 0:
        known = " or ".join(ATTENTION)
        raise ValueError(
            f"`rate`={given.rate} with pooling={given.pooling} and recipe="
            f"{given.recipe}; expected a number above 0 with pooling={known} and "
            "recipe=features."
        )
    (pattern, _), *others = settings.optimizer.table
    rule = {"learning_rate": given.rate, "weight_decay": False}
    settings.optimizer.table = ((pattern, rule), *others)
    if given.pooling == "efficient_probing":
        pooled = settings.model.attention_pooling
        pooled.start = pooled.classifier_start = "average"
        pooled.queries = ATTENTION[given.pooling]["queries"]


def _features(settings):
    settings.features.cache = True
    settings.data.augment = ""
    settings.batch_size = 64
    settings.epochs = 30.0
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.weight_decay = 3.0
    pooled = settings.model.attention_pooling
    if not pooled.name:
        return
    rate = {"learning_rate": RATES.get(pooled.name), "weight_decay": False}
    settings.optimizer.table = (
        ("pool/.*", rate if pooled.name in RATES else None),
        ("classifier/bias", {"weight_decay": False}),
        ("classifier/.*", {}),
        (".*", None),
    )
    # Few images are seen often: it begins as average pooling.
    if pooled.name == "ca_stream":
        pooled.start = pooled.classifier_start = "average"
        pooled.stages = "late"
    if pooled.name == "efficient_probing":
        # Queries and values are fitted in closed form; then the classifier learns on.
        pooled.start, pooled.queries = "parts", 16


def _resnet(settings):
    settings.data.augment = "random_resized_crop|flip|color(0.4)"
    settings.batch_size = 256
    settings.epochs = 90.0
    settings.optimizer.options = {"momentum": 0.9}
    settings.optimizer.learning_rate = 0.1
    settings.optimizer.weight_decay = 1e-4
    settings.optimizer.schedule.name = "multi_step"
    settings.optimizer.schedule.milestones = (30 / 90, 60 / 90)
    settings.evaluate.every = 5000


def _convnext(settings):
    settings.data.augment = "random_resized_crop|flip"
    settings.batch_size = 256
    settings.epochs = 100.0
    settings.average = 0.99998 ** (1 / 32)
    settings.objective.label_smoothing = 0.11
    settings.objective.mixup = 0.2
    settings.objective.cutmix = 1.0
    settings.optimizer.name = "adamw"
    settings.optimizer.learning_rate = 9e-3
    settings.optimizer.weight_decay = 0.3
    settings.optimizer.schedule.warmup = 0.1
    settings.evaluate.every = 5000


def get_variants(argument=""):
    """Name three seeds."""
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}

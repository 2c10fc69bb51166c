r"""Compare trainings that shall make explanations cover whole objects.

    python launch/sweep.py run --config configs/localization_training.py \
        --root runs/located
    unlir evaluate --config configs/localization_training.py:root=runs/located \
        --workdir runs/located/scores

    unlir train --config configs/localization_training.py:objective=adl \
        --workdir runs/adl

The first command trains a network for each arm and seed. The second scores where their
maps say that the object is, and compares each arm with the plain one. Both resume. The
last trains one arm.

    arm            training
    plain          cross-entropy
    cutmix         boxes of other images are pasted, strength 1 (Yun et al., ICCV 2019)
    hide_and_seek  random patches are hidden (Singh and Lee, ICCV 2017)
    adl            the maps lose the place that decides most (Choe and Shim, CVPR 2019)

Arguments: `data`, see `unlir_jax/data/presets.py`; `model`, a name of `unlir models`;
`objective`, the arm that `unlir train` trains; `arms`, joined by +, or `all`; `seeds`,
a number; `root`, the folder of the trained networks.

Data without boxes or masks has no such scores. Patches have the sizes of the paper in
shares of the side: on 224 pixels 16, 32, 44 and 56. Scores are `corloc` with the
threshold chosen on the images that are scored, which is MaxBoxAcc; MaxBoxAccV2; and
PxAP where there are masks.

Expected: by the first commands MaxBoxAcc of 48.5 % plain, 48.1 % with CutMix, 45.5 %
with hide-and-seek and 60.3 % with ADL, see docs/results/localization.md. These animals
fill the middle of their images, so that a map of the centre has 97.8 %.

Time: on two CPU cores that others used as well, 22 minutes for the twelve trainings
and 19 for their scores.
"""

from ml_collections import config_dict

from unlir_jax.data import presets
from unlir_jax.evaluation.study import recipe
from unlir_jax.evaluation.study import settings as study
from unlir_jax.models import zoo
from unlir_jax.runtime import config

PLAIN = "plain"
# What each arm sets, but for the sides of patches.
ARMS = {
    PLAIN: {},
    "cutmix": {"objective.cutmix": 1.0},
    "hide_and_seek": {"objective.name": "hide_and_seek"},
    "adl": {"objective.name": "adl"},
}
PATCHES, PIXELS = (0, 16, 32, 44, 56), 224
METRICS = ("corloc", "max_box_accuracy_v2", "pixel_average_precision")


def get_config(argument=""):
    """Give the settings of a training, or with `root` of the study."""
    given = _arguments(argument)
    arms = _arms(given)
    if given.root:
        found = study.study(given.root, arms, given.seeds)
        found.methods = ("grad_cam",)
        found.metrics, found.localization = METRICS, ""
        found.metric_options = {"corloc": {"chosen_on": "evaluated"}}
        found.sanity.images = 0
        found.images = 400
        return found
    # What an arm does not set is left to its objective.
    objective = {
        "name": config_dict.FieldReference("classify", field_type=str),
        "label_smoothing": 0.0,
        "cutmix": 0.0,
        "patches": config_dict.placeholder(tuple),
        "share": config_dict.placeholder(float),
        "colour": config_dict.placeholder(tuple),
        "layers": config_dict.placeholder(tuple),
        "drop_rate": config_dict.placeholder(float),
        "threshold": config_dict.placeholder(float),
    }
    if given.objective not in ARMS:
        known = ", ".join(ARMS)
        raise ValueError(f"`objective`={given.objective!r}; expected one of {known}.")
    found = _recipe(given, objective)
    for setting, value in _sets(given, given.objective).items():
        found.objective[setting.removeprefix("objective.")] = value
    return found


def get_variants(argument=""):
    """Name all arms and seeds."""
    given = _arguments(argument)
    return recipe.variants(_arms(given), given.seeds)


def _arguments(argument):
    return config.parse_arguments(
        argument,
        data="synthetic_parts",
        model="cifar_resnet8",
        objective=PLAIN,
        arms="all",
        seeds=3,
        root="",
    )


def _arms(given):
    """List the arms that are asked for, each with what it sets."""
    found = recipe.choose(given.arms, ARMS, PLAIN, given.seeds)
    return {name: _sets(given, name) for name in found}


def _sets(given, arm):
    """Give what an arm sets; patches have the same shares of the side as published."""
    sets = dict(ARMS[arm])
    if arm == "hide_and_seek":
        settings = _recipe(given, {})
        side = settings.data.image_size or zoo.find(given.model)[1].image_size
        sets["objective.patches"] = tuple(round(n * side / PIXELS) for n in PATCHES)
    return sets


def _recipe(given, objective):
    """Give the recipe of all arms, with smaller synthetic images than elsewhere."""
    settings = recipe.training(_data(given), given.model, objective)
    if _data(given) == recipe.SMALL:
        settings.data.options = {"classes": 6, "image_size": 32}
        settings.data.image_size = 32
        settings.data.augment = "pad_crop(2)"
        settings.epochs = 3.0
    return settings


def _data(given):
    return presets.SYNONYMS.get(given.data, given.data)

r"""Compare ways to train a network that is to be explained, at equal recipe and seeds.

    python launch/sweep.py run --config configs/interpretable_training.py:data=npz \
        --root runs/study --config.data.path=FILE.npz
    unlir evaluate --config configs/interpretable_training.py:data=npz,root=runs/study \
        --workdir runs/study/scores

    unlir train --config configs/interpretable_training.py:data=npz \
        --config.data.path=FILE.npz --workdir runs/plain

The first command trains a network for each arm and seed. The second scores all of them
and compares each arm with the plain one. Both resume. The last trains one of them.

    arm                      loss
    plain                    cross-entropy
    interpretable_gradients  + distance of plain and guided input gradient
    gradient_penalty         + squared input gradient (double backpropagation)
    jacobian_penalty         + squared Jacobian of the logits
    saliency_guided          + divergence without the least salient pixels
    right_reasons            + squared gradient outside of masks, where data has them
    label_smoothing          targets smoothed by 0.1
    mixup                    images mixed, strength 0.2
    b_cos                    cross-entropy of a B-cos network, `b_cos_small`

Arguments: `data`, see `unlir_jax/data/presets.py`; `model`, a name of `unlir models`;
`arms`, joined by +, or `all`; `seeds`, a number; `weight`, of interpretable gradients,
times the batch size as in `interpretable_gradients.py`; `root`, the folder of the
trained networks. Both commands take the same.

Each network is scored as it was trained, and at a temperature that is fitted on test
images which are not scored. Scores of images that both networks of a pair classify
rightly stand next to them.

Expected: over two data sets and two networks, interpretable gradients raise the cosine,
and CAMs get no better: see docs/results/interpretability.md. No figures are published
for such a comparison. `right_reasons` and `b_cos` were run on synthetic parts at 32
pixels: a B-cos network learns slowly there. The other arms were run on digits alone.

Time: on two shared CPU cores, `cifar_resnet8` at 32 pixels trained on 71 images a
second in the plain arm, and on 12 with interpretable gradients.
"""

from unlir_jax.data import presets
from unlir_jax.evaluation.study import recipe
from unlir_jax.evaluation.study import settings as study
from unlir_jax.runtime import config

# What each arm sets. `gradient_penalty` of weight 0 is the cross-entropy alone, for a
# network that has no rectifier to guide.
ARMS = {
    "plain": {},
    "interpretable_gradients": {"objective.weight": None},
    "gradient_penalty": {
        "objective.name": "gradient_penalty",
        "objective.weight": 0.1,
    },
    "jacobian_penalty": {
        "objective.name": "jacobian_penalty",
        "objective.weight": 0.01,
    },
    "saliency_guided": {"objective.name": "saliency_guided", "objective.weight": 1.0},
    # On synthetic parts at 32 pixels, 0.1 and 0.01 cost many points of accuracy.
    "right_reasons": {"objective.name": "right_reasons", "objective.weight": 0.001},
    "label_smoothing": {"objective.label_smoothing": 0.1},
    "mixup": {"objective.mixup": 0.2},
    "b_cos": {
        "model.name": "b_cos_small",
        "objective.name": "gradient_penalty",
        "objective.weight": 0.0,
    },
}
MASKED = ("synthetic_parts",)


def get_config(argument=""):
    """Give the settings of a training, or with `root` of the study."""
    given = _arguments(argument)
    arms = _arms(given)
    if given.root:
        return study.study(given.root, arms, given.seeds)
    objective = {
        "name": "interpretable_gradients",
        "weight": 0.0,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    return recipe.training(_data(given), given.model, objective)


def get_variants(argument=""):
    """Name all arms and seeds."""
    given = _arguments(argument)
    return recipe.variants(_arms(given), given.seeds)


def _arguments(argument):
    return config.parse_arguments(
        argument,
        data="synthetic_parts",
        model="cifar_resnet8",
        arms="all",
        seeds=3,
        weight=7.5e-3,
        root="",
    )


def _arms(given):
    """List the arms that are asked for, each with what it sets."""
    usual = [name for name in ARMS if name != "right_reasons" or given.data in MASKED]
    asked = "+".join(usual) if given.arms == "all" else given.arms
    found = recipe.choose(asked, ARMS, "plain", given.seeds)
    if "interpretable_gradients" in found:
        weight = recipe.summed(given.weight, _data(given))
        found["interpretable_gradients"] = {"objective.weight": weight}
    return found


def _data(given):
    return presets.SYNONYMS.get(given.data, given.data)

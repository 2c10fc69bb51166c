r"""Compare how robust and plain networks are explained, at equal recipe and seeds.

    python launch/sweep.py run --config configs/robust_saliency.py:data=npz \
        --root runs/robust --config.data.path=FILE.npz
    unlir evaluate --config configs/robust_saliency.py:data=npz,root=runs/robust \
        --workdir runs/robust/scores

    unlir evaluate --config configs/robust_saliency.py:data=npz,arms=none,given=a+b \
        --config.given.a.name=cifar_resnet20 --config.given.a.weights=A.npz \
        --config.given.b.name=runs/mine --config.data.path=FILE.npz --workdir runs/given

    unlir train --config configs/robust_saliency.py:data=npz \
        --config.data.path=FILE.npz --workdir runs/plain

The first command trains a network for each arm and seed. The second scores all of them
and compares each arm with the standard one. The third scores networks as they are. All
resume. The last trains one arm, the standard one.

    arm                      training
    standard                 cross-entropy
    interpretable_gradients  + distance of plain and guided input gradient
    l2                       PGD within 0.5 in l2, 7 steps of 0.1
    linf                     PGD within 8/255 in linf, 10 steps of 2/255
    boundary_projection      the least l2 change that deceives, shrunk to 0.5, 20 steps

Arguments: `data`, see `unlir_jax/data/presets.py`; `model`, a name of `unlir models`;
`arms`, joined by +, `all`, or `none` with `given`; `seeds`, a number; `weight`, of
interpretable gradients, times the batch size as in `interpretable_gradients.py`; `linf`
and `l2`, the budgets of the trainings; `steps`, of all attacks of trainings, or 0 for
the table's; `root`, the folder of the trained networks; `given`, names of arms
that are networks as they are, joined by +. All commands take the same.

A given network is a name of `unlir models` with a file of weights, a workdir of a
training, or `package.module:factory`. It is scored next to the trained ones, and paired
with each seed of the baseline. `baseline` names the arm that all are compared with.

Scores are as in `interpretable_training.py`. Accuracy under APGD within two budgets
of each norm, the distance to an error by boundary projection, and the alignment of
Etmann et al. (ICML 2019) stand next to them: |<x, g>| / |g|, x the image in [0, 1] and
g the gradient of the predicted class's logit.

Expected: over three seeds the alignment rises from 0.73 to 1.15 with `linf` on digits,
and from 1.15 to 2.54 with `boundary_projection` on CIFAR-10. With `linf` and
`cifar_resnet8` on CIFAR-10 it rises from 0.77 to 3.27 over two seeds, see
docs/results/robustness.md. The literature says that it rises. No figures are published
for this comparison.

Time: a step of `linf` with ten gradients takes about six times as long as one of
`standard`. On digits, a network took half a minute to three minutes on a busy core.
"""

from ml_collections import config_dict

from unlir_jax.data import presets
from unlir_jax.evaluation.robustness.settings import number
from unlir_jax.evaluation.study import recipe
from unlir_jax.evaluation.study import settings as study
from unlir_jax.runtime import config

STANDARD, NONE = "standard", "none"
# What each arm sets, but for weights and budgets.
ARMS = {
    STANDARD: {},
    "interpretable_gradients": {
        "objective.name": "interpretable_gradients",
        "objective.method": None,
    },
    "l2": {
        "objective.method": "pgd",
        "objective.norm": "l2",
        "objective.steps": 7,
        "objective.step_size": 0.2,
    },
    "linf": {
        "objective.method": "pgd",
        "objective.norm": "linf",
        "objective.steps": 10,
        "objective.step_size": 0.25,
    },
    "boundary_projection": {
        "objective.method": "boundary_projection",
        "objective.norm": "l2",
        "objective.steps": 20,
    },
}
SIZE = "objective.step_size"
# Of evaluations; standard networks keep some images within the smaller ones.
BUDGETS = {"linf": (2 / 255, 8 / 255), "l2": (0.25, 0.5)}


def get_config(argument=""):
    """Give the settings of a training, or with `root` or no arms of the study."""
    given = _arguments(argument)
    names = given.given.split("+") if given.given else []
    arms = _arms(given)
    if given.root or given.arms == NONE:
        found = study.study(given.root, arms, given.seeds, names, given.data)
        for norm, budgets in BUDGETS.items():
            found.robustness[norm] = budgets
        found.robustness.distance_steps = 50
        return found
    # What an arm does not set is left to its objective.
    objective = {
        "name": "adversarial",
        "weight": config_dict.placeholder(float),
        "method": config_dict.FieldReference("plain", field_type=str),
        "norm": config_dict.placeholder(str),
        "epsilon": config_dict.placeholder(float),
        "steps": config_dict.placeholder(int),
        "step_size": config_dict.placeholder(float),
        "label_smoothing": 0.0,
    }
    return recipe.training(_data(given), given.model, objective)


def get_variants(argument=""):
    """Name all arms and seeds."""
    given = _arguments(argument)
    if given.arms == NONE:
        raise ValueError("`arms`='none' has nothing to train; expected some arms.")
    return recipe.variants(_arms(given), given.seeds)


def _arguments(argument):
    return config.parse_arguments(
        argument,
        data="synthetic_parts",
        model="cifar_resnet8",
        arms="all",
        seeds=3,
        weight=7.5e-3,
        linf="8/255",
        l2="0.5",
        steps=0,
        root="",
        given="",
    )


def _arms(given):
    """List the arms that are asked for, each with what it sets."""
    if given.arms == NONE:
        return {}
    found = recipe.choose(given.arms, ARMS, STANDARD, given.seeds)
    budgets = {"linf": number(given.linf), "l2": number(given.l2)}
    for sets in found.values():
        if "objective.norm" in sets:
            _fit(sets, budgets[sets["objective.norm"]], given.steps)
    if "interpretable_gradients" in found:
        weight = recipe.summed(given.weight, _data(given))
        found["interpretable_gradients"]["objective.weight"] = weight
    return found


def _fit(sets, budget, steps):
    """Set the budget of an arm, and the number of its steps with the usual length."""
    sets["objective.epsilon"] = budget
    if steps:
        sets["objective.steps"] = steps
        sets.pop(SIZE, None)
    elif SIZE in sets:
        sets[SIZE] *= budget


def _data(given):
    return presets.SYNONYMS.get(given.data, given.data)

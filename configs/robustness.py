r"""Robustness: how often attacks and corruptions make a network err.

    unlir evaluate --config configs/robustness.py:model=mobilenet_v2,norm=linf \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/robust

    unlir evaluate --config configs/robustness.py:model=mobilenet_v2,corruptions=all \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/corrupted

Croce & Hein, ICML 2020, for attacks with a budget; Cina et al., *AttackBench*, AAAI
2025, for the comparison of attacks without one; Hendrycks & Dietterich, ICLR 2019, for
corruptions.

Arguments: `model`, a name of `unlir models` or the workdir of a training; `data`, a
name in `unlir_jax/data/presets.py`; `norm`, one of linf, l2, l1 and l0; `epsilon`,
budgets such as 2/255+8/255; `attacks`, names of docs/reference/attacks.md joined by +,
or none; `corruptions`, names joined by +, or all.

`ensemble` is AutoAttack, and takes up to 2,000 passes an image and budget.

Expected: networks without adversarial training keep little of their accuracy at 2/255.

Time: APGD takes 100 passes forward and backward an image and budget, FMN 100 an image,
and all corruptions 75 passes forward.
"""

from unlir_jax.evaluation.robustness import settings


def get_config(argument=""):
    """Give the settings."""
    return settings.choose(argument, model="efficientnet_lite0")

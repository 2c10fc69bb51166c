"""Attacks: factories of functions that change images so that a network errs.

Importing an attack registers it. The order of the imports is that of lists and tables.
"""

# isort: off
from unlir_jax.attacks import losses as losses
from unlir_jax.attacks import randomised_smoothing as randomised_smoothing
from unlir_jax.attacks.fgsm import fgsm as fgsm
from unlir_jax.attacks.deepfool import deepfool as deepfool
from unlir_jax.attacks.carlini_wagner import carlini_wagner as carlini_wagner
from unlir_jax.attacks.smooth_carlini_wagner import (
    smooth_carlini_wagner as smooth_carlini_wagner,
)
from unlir_jax.attacks.ddn import ddn as ddn
from unlir_jax.attacks.fmn import fmn as fmn
from unlir_jax.attacks.boundary_projection import (
    boundary_projection as boundary_projection,
)
from unlir_jax.attacks.fab import fab as fab
from unlir_jax.attacks.bim import bim as bim
from unlir_jax.attacks.mi_fgsm import mi_fgsm as mi_fgsm
from unlir_jax.attacks.pgd import pgd as pgd
from unlir_jax.attacks.smooth_bim import smooth_bim as smooth_bim
from unlir_jax.attacks.smooth_pgd import smooth_pgd as smooth_pgd
from unlir_jax.attacks.apgd import apgd as apgd
from unlir_jax.attacks.square import square as square
from unlir_jax.attacks.ensemble import ensemble as ensemble
from unlir_jax.attacks.outcome import (
    outcome as outcome,
    summary as summary,
)
from unlir_jax.attacks.transfer import transfer as transfer
from unlir_jax.attacks.universal import (
    Universal as Universal,
    universal as universal,
)
from unlir_jax.attacks.move_map import move_map as move_map
from unlir_jax.attacks.keep_map import keep_map as keep_map
from unlir_jax.attacks.spec import (
    ATTACKS as ATTACKS,
    Attack as Attack,
    Attacked as Attacked,
    AttackSpec as AttackSpec,
    SPECS as SPECS,
    SYNONYMS as SYNONYMS,
    attack as attack,
    defaults as defaults,
)

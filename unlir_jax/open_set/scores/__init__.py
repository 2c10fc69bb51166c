"""Scores of how well an image fits the known classes: factories by name.

Importing a score registers it. The order of the imports is that of lists and tables.
"""

# isort: off
from unlir_jax.open_set.scores.softmax import (
    msp as msp,
    max_logit as max_logit,
    energy as energy,
    entropy as entropy,
    gen as gen,
)
from unlir_jax.open_set.scores.kl_matching import kl_matching as kl_matching
from unlir_jax.open_set.scores.openmax import openmax as openmax
from unlir_jax.open_set.scores.gaussians import (
    mahalanobis as mahalanobis,
    relative_mahalanobis as relative_mahalanobis,
)
from unlir_jax.open_set.scores.neighbours import knn as knn, nnguide as nnguide
from unlir_jax.open_set.scores.vim import vim as vim
from unlir_jax.open_set.scores.fdbd import fdbd as fdbd
from unlir_jax.open_set.scores.activations import (
    react as react,
    scale as scale,
    ash as ash,
)
from unlir_jax.open_set.scores.parts import parts as parts
from unlir_jax.open_set.scores.spec import (
    Linear as Linear,
    SCORES as SCORES,
    SPECS as SPECS,
    Score as Score,
    ScoreSpec as ScoreSpec,
    score as score,
)

"""Make a network smaller by the channels that count least."""

from unlir_jax.models.channels import Graph, graph
from unlir_jax.pruning.choice import Choice, choose
from unlir_jax.pruning.cost import each_channel, flops
from unlir_jax.pruning.inputs import Moments, gate_gradients, measure
from unlir_jax.pruning.networks import prune, save
from unlir_jax.pruning.reconstruction import reconstruct
from unlir_jax.pruning.scores import KINDS, Scores, per_cost, scores
from unlir_jax.pruning.surgery import compensate, mask, remove

__all__ = [
    "KINDS",
    "Choice",
    "Graph",
    "Moments",
    "Scores",
    "choose",
    "compensate",
    "each_channel",
    "flops",
    "gate_gradients",
    "graph",
    "mask",
    "measure",
    "per_cost",
    "prune",
    "reconstruct",
    "remove",
    "save",
    "scores",
]

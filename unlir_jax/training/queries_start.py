"""Start of Efficient Probing in closed form, on kept features."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from unlir_jax import tree
from unlir_jax.models import pretrained
from unlir_jax.objectives.objective import Hook, Session
from unlir_jax.parts import queries
from unlir_jax.runs import divergence
from unlir_jax.types import Variables

START = "parts"
"""The `start` of a way to pool that asks for it."""


def hook(network: pretrained.Pretrained, seed: int) -> Hook:
    """Make the hook that fits queries and values before the first step.

    Args:
        network: A network that pools by `efficient_probing`.
        seed: Seed of the sampled locations and of the clustering.
    """

    def start(
        variables: Variables, session: Session
    ) -> tuple[Variables, Mapping[str, object]]:
        kept = session.batches.train
        if kept is None:
            return variables, {}
        known = kept.weight > 0
        found = queries.fit(
            kept.features if known.all() else kept.features[known],
            kept.label[known],
            network.module.num_classes,
            network.module.pool.queries,
            key=jax.random.key(seed),
            progress=lambda doing: session.show(f"start: {doing}"),
        )
        advice = "expected features and weights that are numbers"
        divergence.check_measured(
            session.folder, found.notes, "the start", advice=advice
        )
        # The classifier learns as behind any other pooling, from the same start.
        fitted = {"pool/query": found.query, "pool/values": found.values}
        leaves = tree.flatten(variables)
        leaves |= {f"params/{path}": jnp.asarray(leaf) for path, leaf in fitted.items()}
        return tree.unflatten(leaves), found.notes

    return Hook(before_first_step=start)

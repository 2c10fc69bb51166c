"""Hook for parts at both ends of a training: fitted, then measured."""

from collections.abc import Mapping

import jax

from unlir_jax.core.document_types import Settings
from unlir_jax.objectives.objective import Hook, Session
from unlir_jax.parts import gallery, measures
from unlir_jax.parts import start as starts
from unlir_jax.parts.part_run import PartRun
from unlir_jax.runs import divergence
from unlir_jax.runtime import mesh
from unlir_jax.types import Variables

Entries = tuple[Variables, Mapping[str, object]]


def hook(run: PartRun, start: Settings) -> Hook:
    """Make the hook of a training of a part network.

    Args:
        run: The training.
        start: How parts and classifier start, the group `start` of a config.
    """

    def fit(variables: Variables, session: Session) -> Entries:
        kept = session.batches.train
        if {start.parts, start.classifier} == {"random"} or kept is None:
            return variables, {}
        known = kept.weight > 0
        found = starts.start(
            run.network.module,
            variables,
            kept.features if known.all() else kept.features[known],
            kept.label[known],
            key=jax.random.key(run.seed),
            progress=lambda doing: session.show(f"start: {doing}"),
            **start.to_dict(),
        )
        advice = "expected features and weights that are numbers"
        divergence.check_measured(
            session.folder, found.notes, "the start", advice=advice
        )
        return found.variables, found.notes

    def measure(variables: Variables, session: Session) -> Entries:
        if not mesh.is_first():
            return variables, {}
        session.show("measuring the parts")
        document = gallery.collect(run, variables, session.batches)
        centres = gallery.centres(document)
        measured = measures.measure(run, variables, session.batches, centres)
        for values, where in (
            (document, f"the parts in {gallery.FILE}"),
            (measured, "the parts' measures"),
        ):
            divergence.check_measured(session.folder, values, where)
        gallery.write(session.folder, document)
        return variables, measured

    return Hook(fit, measure)

"""The end of a training: its weights, its curves, and the summary."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.core.document_types import Record
from unlir_jax.models import pretrained
from unlir_jax.report import training
from unlir_jax.runs import divergence, workdir
from unlir_jax.runtime import config, mesh, metric_writer
from unlir_jax.storage import files, paths
from unlir_jax.training.run_record import Numbers, RunRecord
from unlir_jax.training.setup import TrainingSetup
from unlir_jax.types import Variables
from unlir_jax.weights import exported, readers


def finish(
    folder: Path,
    setup: TrainingSetup,
    variables: Variables,
    record: RunRecord,
    measured: Mapping[str, object],
    speed: Numbers,
) -> Record:
    """Write the weights and, last of all, the summary of a finished training.

    Args:
        folder: The workdir.
        setup: Setup of the training.
        variables: Learnt variables, whole.
        record: Record of the last checkpoint.
        measured: Entries of the summary that hooks gave after the last step.
        speed: See `meters.Throughput.values`.

    Returns:
        The summary.

    Raises:
        FloatingPointError: A number of it, or of the weights, is none; nothing is
            written then.
    """
    train, test = setup.data
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    network = setup.network._replace(class_names=train.classes, **setup.frame)
    best = record.best.items()
    numbers = {**record.train, **record.test}
    notice = setup.objective.notice(numbers, record.best) if test else ""
    summary: Record = {
        **record.test,
        **record.train,
        **{f"best/{name.removeprefix('test/')}": value for name, value in best},
        **speed,
        **record.start,
        **measured,
        **record.chosen,
        **({"notice": notice} if notice else {}),
        "seed": setup.settings.seed,
        "steps": setup.steps,
        "train_examples": train.size,
        "test_examples": test.size if test else 0,
        "unreadable": record.unreadable,
        "duplicates": record.duplicates,
        "devices": setup.laid.mesh.size,
        "processes": jax.process_count(),
        "versions": files.versions(),
        "initial_weights": pretrained.provenance(setup.network),
        "preprocessing": pretrained.prepared(setup.network, **setup.frame),
        "config": paths.without_folders(config.to_dict(setup.settings)),
    }
    divergence.check_measured(folder, summary, "the summary")
    sound = {path: np.isfinite(leaf).all() for path, leaf in leaves.items()}
    divergence.check_state(folder, sound, setup.steps)
    if mesh.is_first():
        path = exported.write(folder, leaves, pretrained.purpose(network))
        summary["weights_sha256"] = readers.sha256(path)
        lines = (folder / metric_writer.METRICS).read_text("utf-8").splitlines()
        files.write_bytes(folder / workdir.CURVES, training.draw(training.read(lines)))
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return summary


def listed(metrics: Mapping[str, float]) -> str:
    """Write numbers by name for people."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def result(folder: Path, summary: Record) -> str:
    """Say in a sentence how a finished training came out."""
    # The ends of intervals are in the summary.
    names = [name for name in summary if name.startswith("test/")]
    names = [name for name in names if not name.endswith(("_low", "_high"))]
    names = names or ["train/loss"]
    found = {name: summary[name] for name in names if summary.get(name) is not None}
    unread = sum(map(len, summary["unreadable"].values()))
    skipped = ""
    if unread:
        some = [name for names in summary["unreadable"].values() for name in names]
        more = ", …" if unread > 5 else ""
        skipped = f" {unread} images could not be read: {', '.join(some[:5])}{more}."
    return f"training is finished in {str(folder)!r}, {listed(found)}.{skipped}"

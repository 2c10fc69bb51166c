"""What a training would do, said before it does it."""

from typing import Any

import jax

from unlir_jax.training import optim


def describe(job: Any, depth: int = 0) -> str:
    """Say what a training would do: data, batches, devices and every parameter.

    Args:
        job: See `job.Job`.
        depth: Of the table of parameters, see `optim.describe`.
    """
    rows, size, devices = job.settings.batch_size, job.image_size, job.laid.mesh
    train, test = job.data
    inputs = f"image uint8 [{rows}, {size}, {size}, 3]"
    if job.settings.features.cache:
        inputs = f"features float32 [{rows}, …], computed once of {inputs}"
    tested = f", {test.size} to test on" if test else ", none to test on"
    return "\n".join(
        [
            f"data: {train.size} pictures to train on{tested}, "
            f"{len(train.classes)} classes",
            f"batch: {inputs}, label int32 [{rows}]",
            f"steps: {job.steps} ({job.steps * rows / train.size:.4g} epochs)",
            f"devices: {devices.size} ({devices.devices.flat[0].device_kind}) of "
            f"{jax.process_count()} processes, {job.laid.mode}",
            *job.notices,
            optim.describe(job.state.params, job.rules, depth),
        ]
    )

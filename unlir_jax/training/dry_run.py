"""Dry run: a description of a training, without training."""

import jax

from unlir_jax.training import optim
from unlir_jax.training.setup import TrainingSetup


def describe(setup: TrainingSetup, depth: int = 0) -> str:
    """Say what a training would do: data, batches, devices and every parameter.

    Args:
        setup: Setup of the training.
        depth: Depth of the table of parameters, see `optim.describe`.
    """
    rows, size, devices = setup.settings.batch_size, setup.image_size, setup.laid.mesh
    train, test = setup.data
    inputs = f"image uint8 [{rows}, {size}, {size}, 3]"
    if setup.settings.features.cache:
        inputs = f"features float32 [{rows}, …], computed once of {inputs}"
    tested = f", {test.size} to test on" if test else ", none to test on"
    return "\n".join(
        [
            f"data: {train.size} images to train on{tested}, "
            f"{len(train.classes)} classes",
            f"batch: {inputs}, label int32 [{rows}]",
            f"steps: {setup.steps} ({setup.steps * rows / train.size:.4g} epochs)",
            f"devices: {devices.size} ({devices.devices.flat[0].device_kind}) of "
            f"{jax.process_count()} processes, {setup.laid.mode}",
            *setup.notices,
            optim.describe(setup.state.params, setup.rules, depth),
        ]
    )

"""Write what a training of weights of filters has learnt as an adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unlir_jax.adapters import file
from unlir_jax.features import trunks
from unlir_jax.filters import trainable
from unlir_jax.models import layers, part_network
from unlir_jax.training import optim
from unlir_jax.types import Variables

FILE = "adapter.safetensors"
_HEAD = {f"{file.HEAD}kernel", f"{file.HEAD}bias"}


def reason(settings: Any, module: Any, rules: Mapping[str, optim.Rule]) -> str:
    """Say why a training cannot be kept as an adapter; "" where it can.

    An adapter belongs to a network that is as it was, but for weights and classifier.

    Args:
        settings: Of the training.
        module: The network.
        rules: Of all parameters.
    """
    own = (f"{trainable.FOLDER}/", "classifier/")
    others = [p for p, rule in rules.items() if rule.train and not p.startswith(own)]
    if part_network.specification(module):
        return "the network decides by parts"
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{', '.join(others[:3])}{more} learn as well"
    if not settings.model.freeze_norms:
        return "norms learn statistics (model.freeze_norms=False)"
    return ""


def write(folder: Path, job: Any, variables: Variables) -> Path | None:
    """Write weights and head into a workdir, if weights of filters have learnt.

    The head is in it where it is linear on the mean of the maps; of other networks, the
    classifier is in the file of weights only.

    Args:
        folder: The workdir; an adapter in it is replaced.
        job: See `job.Job`.
        variables: What has been learnt, weights included.

    Returns:
        The file; None where there is none, see `reason`.
    """
    weights = trainable.learnt(variables)
    module, settings, size = job.network.module, job.settings, job.image_size
    if not weights or reason(settings, module, job.rules):
        return None
    metadata = {
        "class_names": list(job.data.train.classes),
        "image_size": size,
        "crop": job.crop,
        "interpolation": job.interpolation,
    }
    head = {}
    exact = layers.with_style(module, module.style._replace(dtype=None))
    linear = trunks.head_paths(exact, size) == _HEAD and trunks.head_pools(exact, size)
    if linear:
        own = variables["params"]["classifier"]
        head = {name: np.asarray(own[name]) for name in ("kernel", "bias")}
        metadata |= {"head": "linear", "pooling": "average"}
    return file.save(
        folder / FILE,
        {name: np.asarray(leaf) for name, leaf in weights.items()},
        backbone=job.network.name,
        fingerprint=file.fingerprint(trainable.frozen(variables)),
        select=trainable.pattern(job.network, settings.model.filters, size),
        mode=settings.model.filters.mode,
        head=head,
        metadata=metadata,
        head_type="int8",
        overwrite=True,
    )

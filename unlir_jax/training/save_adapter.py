"""Write what a training of weights of filters has learnt as an adapter."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unlir_jax.adapters import file
from unlir_jax.core.document_types import Settings
from unlir_jax.data import preprocessing
from unlir_jax.features import trunks
from unlir_jax.filters import trainable
from unlir_jax.models import assembly, layers, pretrained
from unlir_jax.objectives.objective import Hook, Session
from unlir_jax.runtime import mesh
from unlir_jax.training import optim
from unlir_jax.types import Module, Variables

FILE = "adapter.safetensors"
_HEAD = {f"{file.HEAD}kernel", f"{file.HEAD}bias"}


def reason(settings: Settings, module: Module, rules: Mapping[str, optim.Rule]) -> str:
    """Say why a training cannot be kept as an adapter; "" where it can.

    An adapter belongs to a network that is as it was, but for weights and classifier.

    Args:
        settings: Settings of the training.
        module: The network.
        rules: Rules of all parameters.
    """
    own = (f"{trainable.FOLDER}/", "classifier/")
    others = [p for p, rule in rules.items() if rule.train and not p.startswith(own)]
    if assembly.specification(module):
        return "the network decides by parts, or pools by attention"
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{', '.join(others[:3])}{more} learn as well"
    if not settings.model.freeze_norms:
        return "norms learn statistics (model.freeze_norms=False)"
    return ""


def hook(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    frame: preprocessing.Frame,
) -> Hook:
    """Make the hook of a training in which weights of filters learn.

    After the last step it writes the adapter, if there is no `reason` against that, and
    multiplies the weights into the network.

    Args:
        settings: Settings of the training.
        network: As it was before.
        rules: Rules of all parameters.
        frame: Framing of images.
    """

    def finish(
        variables: Variables, session: Session
    ) -> tuple[Variables, Mapping[str, object]]:
        if mesh.is_first() and not reason(settings, network.module, rules):
            path = session.folder / FILE
            write(path, variables, network, frame, settings.model.filters)
        return trainable.plain(variables), trainable.summary(variables)

    return Hook(after_last_step=finish)


def write(
    path: Path,
    variables: Variables,
    network: pretrained.Pretrained,
    frame: preprocessing.Frame,
    chosen: Settings,
) -> None:
    """Write weights and head as an adapter.

    The head is in it where it is linear on the mean of the maps; of other networks, the
    classifier is in the file of weights only.

    Args:
        path: The file; an adapter there is replaced.
        variables: Learnt variables, weights included.
        network: As it was before, with the names of its classes.
        frame: Framing of images.
        chosen: `model.filters` of the settings.
    """
    module, size = network.module, frame["image_size"]
    metadata = {"class_names": list(network.class_names), **frame}
    head = {}
    exact = layers.with_style(module, module.style._replace(dtype=None))
    # Of a transformer it may be linear in the class token, and not in the maps.
    linear = not hasattr(exact, "ways")
    linear = (
        linear
        and trunks.head_paths(exact, size) == _HEAD
        and trunks.head_pools(exact, size)
    )
    if linear:
        own = variables["params"]["classifier"]
        head = {name: np.asarray(own[name]) for name in ("kernel", "bias")}
        metadata |= {"head": "linear", "pooling": "average"}
    weights = trainable.learnt(variables)
    file.save(
        path,
        {name: np.asarray(leaf) for name, leaf in weights.items()},
        backbone=network.name,
        fingerprint=file.fingerprint(trainable.frozen(variables)),
        select=trainable.pattern(network, chosen, size),
        mode=chosen.mode,
        head=head,
        metadata=metadata,
        head_type="int8",
        overwrite=True,
    )

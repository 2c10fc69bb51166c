"""Network whose classes are the known ones of a rejecter, and what refuses images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.adapters import head as heads
from unlir_jax.core.document_types import Record
from unlir_jax.data import preprocessing
from unlir_jax.models import cutting, factories, pretrained, zoo
from unlir_jax.models.pretrained import Judge, Pretrained
from unlir_jax.open_set import (
    classifier,
    descriptions,
    recogniser,
    rejecter_file,
    rejection,
)
from unlir_jax.open_set.rejecter_file import Seen, Stored
from unlir_jax.open_set.scores import SPECS
from unlir_jax.open_set.scores.neighbours import unit
from unlir_jax.types import Array, Features, Images, SplitModel, Variables
from unlir_jax.weights import exported


def load(
    folder: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    *,
    score: str = "",
    weights_key: str = "",
    fold: bool = False,
) -> Pretrained:
    """Load a network whose classes are the known ones of an evaluation of open sets.

    Its `judge` says which images are of none of them.

    Args:
        folder: The workdir.
        weights: Weights of the frozen network, where they are no longer at their place.
        layer: Where the network is cut; its last maps by default.
        score: By which images are refused; by default `best`, if it was asked for, or
            the first score of the evaluation.
        weights_key: Key of the weights in their file.
        fold: See `pretrained.load`.

    Raises:
        FileNotFoundError: There is no rejecter, or no such file of weights.
        ValueError: The file is damaged, has no such score, or is of other weights.
    """
    stored = rejecter_file.load(Path(folder) / rejecter_file.FILE)
    seen = stored.seen
    frozen = pretrained.load(
        seen.network,
        weights or seen.weights or None,
        layer,
        weights_key=weights_key or seen.weights_key,
        crop=seen.crop,
        interpolation=seen.interpolation,
        image_size=pretrained.made_for(seen.network, seen.image_size),
        trunk_only=True,
        fold=fold,
    )
    if frozen.sha256 != seen.sha256:
        raise ValueError(
            f"The rejecter in {os.fspath(folder)!r} is of other weights of "
            f"{frozen.name} than {frozen.told or frozen.source}; expected those of its "
            "evaluation."
        )
    score = score or seen.score
    own = rejection.fitted(stored.rejecter, score)
    network = _classified(frozen, stored.seen, own.classifier)
    return network._replace(judge=_judge(frozen, stored, score, own))


def loader(score: str | None) -> Callable[..., Pretrained]:
    """Give what loads a network, or the known classes of an evaluation of open sets.

    Args:
        score: By which images are refused; None for the usual one.

    Raises:
        ValueError: When called: a score for a network without a rejecter, or settings
            that a rejecter decides.
    """

    def load_any(
        name: str,
        weights: str | None = None,
        layer: str | None = None,
        *,
        weights_key: str = "",
        fold: bool = False,
        **more: Any,
    ) -> Pretrained:
        own = {"weights_key": weights_key, "fold": fold}
        if not zoo.is_known(name) and exported.has_rejecter(name):
            for option, value in more.items():
                if value is not None:
                    raise ValueError(
                        f"`{option}`={value!r} with the workdir {name!r} of an "
                        "evaluation of open sets, which decides it; expected none."
                    )
            return load(name, weights, layer, score=score or "", **own)
        if score is not None:
            raise ValueError(
                f"`reject`={score!r}, but {name!r} has no rejecter; expected the "
                "workdir of `unlir evaluate` with configs/open_set.py."
            )
        return factories.load(name, weights, layer, **own, **more)

    return load_any


def _classified(
    frozen: Pretrained, seen: Seen, own: classifier.Classifier
) -> Pretrained:
    """Put the classifier of known classes in the place of the network's own."""
    frame = seen.image_size, seen.crop, seen.interpolation
    pooled = cutting.describing(
        frozen.module, zoo.find(frozen.name)[1], frozen.layer, seen.pooling
    )
    return frozen._replace(
        model=_with_classes(pooled, own.kind, seen.unit_length),
        variables={"network": frozen.variables, "classes": _arrays(own)},
        class_names=seen.class_names,
        image_size=seen.image_size,
        preprocess=preprocessing.preprocessing(*frame),
    )


def _arrays(own: classifier.Classifier) -> dict[str, jax.Array]:
    """Write a classifier down as arrays, float32."""
    if own.kind != "prototypes":
        arrays = own.linear._asdict()
    else:
        # Whitening is affine; of all channels at once it is a matrix.
        identity = np.eye(len(own.fitted.standard.mean))
        arrays = {
            "mean": own.fitted.standard.mean,
            "matrix": own.fitted.within.whiten(identity)
            / own.fitted.standard.spread[:, None],
            "directions": own.directions.T,
        }
    return {name: jnp.asarray(each, jnp.float32) for name, each in arrays.items()}


def _with_classes(
    pooled: SplitModel, kind: classifier.Kind, unit_length: bool
) -> SplitModel:
    """Classify what a cut network pools, see `classifier.Classifier.logits`."""

    def features(variables: Variables, images: Images) -> Features:
        return pooled.features(variables["network"], images)

    def head(variables: Variables, cut: Features) -> jax.Array:
        rows = jnp.asarray(pooled.head(variables["network"], cut), jnp.float32)
        own: Any = variables["classes"]
        if unit_length:
            rows = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1)[:, None], 1e-30)
        if kind != "prototypes":
            return heads.logits("linear", own, rows)
        centred = rows - own["mean"][None]
        white = jnp.matmul(centred, own["matrix"], precision="highest")
        return heads.logits("cosine", {"kernel": own["directions"]}, white)

    return pooled._replace(features=features, head=jax.jit(head))


def _judge(
    frozen: Pretrained, stored: Stored, score: str, own: recogniser.Recogniser
) -> Judge:
    """Make what describes images as the evaluation did, and judges them."""
    seen, known = stored.seen, stored.rejecter
    judge = rejection.judging(known, score, own)
    describe = _describing(frozen, stored, _reads_parts(known, score))

    def verdicts(images: Images) -> list[Record]:
        found = judge(describe(images))
        return [
            {
                "known": bool(accepted),
                "score": score,
                "value": float(value),
                "threshold": known.thresholds[score],
                "kept": known.kept,
                "nearest": {"index": int(label), "name": seen.class_names[label]},
            }
            for accepted, label, value in zip(*found, strict=True)
        ]

    return verdicts


def _reads_parts(known: rejection.Rejecter, score: str) -> bool:
    best = known.combination
    names = best.names if score not in SPECS and best is not None else (score,)
    return any(SPECS[name].takes == recogniser.PARTS for name in names)


def _describing(
    frozen: Pretrained, stored: Stored, by_parts: bool
) -> Callable[[Images], recogniser.Described]:
    """Give the function from images to what scores read."""
    seen, detectors = stored.seen, stored.detectors
    entry = zoo.find(frozen.name)[1]
    pooled = cutting.describing(frozen.module, entry, entry.layer, seen.pooling)

    @jax.jit
    def seen_by_network(variables: Variables, images: Array) -> Any:
        cut = pooled.features(variables, images)
        return pooled.head(variables, cut), cut.maps if by_parts else None

    def describe(images: Images) -> recogniser.Described:
        found = seen_by_network(frozen.variables, images)
        rows, maps = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), found)
        parts = None
        if maps is not None and detectors is not None:
            parts = descriptions.bags(maps, detectors)
        return recogniser.Described(unit(rows) if seen.unit_length else rows, parts)

    return describe

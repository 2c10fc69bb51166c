"""Batches of a training, be they images or features of a frozen backbone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax.data import pipeline, preprocessing
from unlir_jax.data import splits as datasets
from unlir_jax.features import cache
from unlir_jax.runtime import preemption

Batch = dict[str, np.ndarray]


class Batches(NamedTuple):
    """Hold the two ways to get batches; each process gets its rows of them.

    Attributes:
        training: `start -> batches` without end, from the `start`-th on.
        evaluation: `() -> batches`, every example once.
        train: The features of all training examples, where they are kept.
        test: The test's.
    """

    training: Callable[[int], Iterator[Batch]]
    evaluation: Callable[[], Iterator[Batch]]
    train: cache.Features | None = None
    test: cache.Features | None = None


def of_pictures(
    splits: datasets.Splits,
    settings: Any,
    *,
    image_size: int,
    crop: float,
    interpolation: str = preprocessing.BILINEAR,
    annotations: Sequence[str] = (),
) -> Batches:
    """Read images, augmented for training.

    Args:
        splits: The data.
        settings: Settings of the training.
        image_size: Side of the images in pixels.
        crop: Share of the shorter side that evaluation keeps.
        interpolation: By which it resizes.
        annotations: Which annotations batches of training hold.

    Raises:
        ValueError: When read: the data has no such annotation.
    """
    common: dict[str, Any] = {"image_size": image_size}
    common |= _reading(settings) | _place(settings)

    def training(start: int) -> Iterator[Batch]:
        seed, augment = settings.seed, settings.data.augment
        return pipeline.training(
            splits.train,
            start=start,
            seed=seed,
            augment=augment,
            annotations=annotations,
            **common,
        )

    def evaluation() -> Iterator[Batch]:
        if splits.test is None:
            return iter(())
        return pipeline.evaluation(
            splits.test, crop=crop, interpolation=interpolation, **common
        )

    return Batches(training, evaluation)


def of_features(
    splits: datasets.Splits,
    settings: Any,
    compute: Callable[..., cache.Features],
    show: Callable[[str], None],
    asked: Callable[[], str],
) -> Batches:
    """Compute the features of both splits, or read those computed before.

    Args:
        splits: The data.
        settings: Settings of the training.
        compute: `cache.cached` with the network and the frame.
        show: Told what is being done.
        asked: Whether to stop, see `preemption.watch`.

    Raises:
        interruption.Stopped: It has been asked to; what has been computed is kept.
    """
    common = _reading(settings) | {"batch_size": settings.batch_size}
    common |= {"folder": settings.features.folder}

    def read(split: str, source: Any) -> cache.Features:
        def progress(share: float) -> None:
            doing = f"features of {split}: {share:.0%}"
            show(doing)
            # Other processes would wait for this one for ever.
            if asked() and jax.process_count() == 1:
                raise preemption.Stopped(
                    f"Stopped by {asked()} at {doing}; they are kept, and the same "
                    "command goes on from there."
                )

        return compute(source, **common, progress=progress)

    train = read("train", splits.train)
    test = read("test", splits.test) if splits.test else None

    def training(start: int) -> Iterator[Batch]:
        return cache.training(
            train, start=start, seed=settings.seed, **_place(settings)
        )

    def evaluation() -> Iterator[Batch]:
        return cache.evaluation(test, **_place(settings)) if test else iter(())

    return Batches(training, evaluation, train, test)


def _reading(settings: Any) -> dict[str, Any]:
    return {
        "workers": settings.data.workers,
        "threads": settings.data.threads or None,
        "strict": settings.data.strict,
    }


def _place(settings: Any) -> dict[str, Any]:
    return {
        "batch_size": settings.batch_size,
        "process": jax.process_index(),
        "processes": jax.process_count(),
    }

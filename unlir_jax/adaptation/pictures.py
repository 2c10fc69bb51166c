"""Pictures at the cut of a trunk, looked at once for all draws and methods."""

from typing import Any

import jax
import numpy as np

from unlir_jax.adaptation import trunk
from unlir_jax.data import augmentation, pipeline, source

CROP = "random_resized_crop(area=(0.4, 1.0))|flip"
BATCH = 64


class Pictures:
    """Keep what the frozen half of a trunk gives: of the test, and of what was drawn.

    A class, for it is a memory: nothing is computed twice, whatever the draw.
    """

    def __init__(self, task: Any) -> None:
        settings = task.settings
        self.task = task
        at = "" if task.method.trunk == "full" else task.after
        self.cut = trunk.cut(task.network.module, at, task.image_size)
        self.before = jax.jit(self.cut.before)
        self.after = jax.jit(self.cut.after)
        self.views = 2 if settings.flips else 1
        self.kept: dict[int, np.ndarray] = {}
        self.crops: dict[int, np.ndarray] = {}
        test = task.data.test
        pixels, labels, kept = self._read(test, np.arange(test.size))
        if not kept.any():
            raise ValueError("No picture of the test can be read; expected some.")
        self.test_labels = labels[kept]
        self.test = self._inner(pixels[kept])
        self.unreadable = int(np.count_nonzero(~kept))

    def prepare(self, chosen: np.ndarray) -> None:
        """Look at the training pictures that have not been seen yet."""
        new = [int(index) for index in chosen if int(index) not in self.kept]
        if new:
            pixels, _, kept = self._read(self.task.data.train, np.asarray(new))
            if not kept.all():
                lost = self.task.data.train.name(new[int(np.argmin(kept))])
                raise ValueError(
                    f"{lost!r} was drawn and cannot be read; expected pictures."
                )
            for index, views in zip(
                new, self._inner(pixels).swapaxes(0, 1), strict=True
            ):
                self.kept[index] = views
        if any("crops" in kind for kind in self.task.method.adapters):
            self._crop([int(i) for i in chosen if int(i) not in self.crops])

    def train(self, chosen: np.ndarray) -> np.ndarray:
        """Give training pictures at the cut, `[views, pictures, …]`."""
        return np.stack([self.kept[int(index)] for index in chosen], axis=1)

    def cropped(self, chosen: np.ndarray) -> np.ndarray:
        """Give random crops of training pictures, `[crops, pictures, …]`."""
        return np.stack([self.crops[int(index)] for index in chosen], axis=1)

    def _inner(self, pixels: np.ndarray) -> np.ndarray:
        """Compute `[views, pictures, …]`."""
        variables = self.task.network.variables
        views = [pixels, pixels[:, :, ::-1]][: self.views]
        return np.stack([trunk.gather(self.before, variables, view) for view in views])

    def _crop(self, chosen: list[int]) -> None:
        settings, data = self.task.settings, self.task.data.train
        change = augmentation.build(CROP, self.task.image_size)
        for first in range(0, len(chosen), BATCH):
            some = chosen[first : first + BATCH]
            pixels = []
            for index in some:
                example = data.read(index)
                for crop in range(settings.crops):
                    random = np.random.default_rng([settings.seed, 3, index, crop])
                    pixels.append(np.asarray(change(dict(example), random)["image"]))
            rows = np.stack(pixels)
            found = trunk.gather(self.before, self.task.network.variables, rows)
            found = found.reshape(len(some), settings.crops, *found.shape[1:])
            self.crops.update(zip(some, found, strict=True))

    def _read(
        self, data: source.Source, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read pictures as the network sees them: pixels, labels, and which could."""
        settings = self.task.settings.data
        batches = list(
            pipeline.evaluation(
                source.subset(data, places),
                batch_size=min(BATCH, len(places)),
                image_size=self.task.image_size,
                crop=self.task.crop,
                workers=settings.workers,
                threads=settings.threads or None,
                strict=settings.strict,
            )
        )
        joined = {
            name: np.concatenate([batch[name] for batch in batches])[: len(places)]
            for name in ("image", "label", "weight")
        }
        return joined["image"], joined["label"], joined["weight"] > 0

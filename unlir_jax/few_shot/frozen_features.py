"""Images at the cut of a backbone, looked at once for all draws and methods."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import jax
import numpy as np

from unlir_jax.core import finite
from unlir_jax.data import augmentation, pipeline, source
from unlir_jax.features import block_cut
from unlir_jax.few_shot.setup import FewShotSetup
from unlir_jax.models import pooling
from unlir_jax.storage import files
from unlir_jax.types import Array, Variables

CROP = "random_resized_crop(area=(0.4, 1.0))|flip"
BATCH = 64


class Shown(NamedTuple):
    """Hold images that are to be classified.

    Attributes:
        views: Gives each view of them at the cut, `[images, …]`.
        pooled: From the name of a pooling to descriptors of the frozen backbone,
            `[views, images, channels]`.
    """

    views: Callable[[], Iterator[np.ndarray]]
    pooled: Callable[[str], np.ndarray]


class FrozenFeatures:
    """Keep what a backbone's frozen half gives: of the test, and of what was drawn.

    A class, for it is a memory: nothing is computed twice, whatever the draw, the
    number of shots, and the method, as long as the cut is the same.
    """

    def __init__(self, setup: FewShotSetup) -> None:
        self.network, self.data = setup.network, setup.data
        self.settings, self.at = setup.settings, setup.at
        self.image_size, self.crop = setup.image_size, setup.crop
        self.interpolation = setup.interpolation
        self.cut = block_cut.cut(self.network.module, setup.at, self.image_size)
        self.before = jax.jit(self.cut.before)
        self.flips = 2 if self.settings.flips else 1
        self.kept: dict[int, np.ndarray] = {}
        self.crops: dict[int, np.ndarray] = {}
        self.test_pooled: dict[str, np.ndarray] = {}
        # `setup.prepare` has refused data without a test split.
        test = cast(source.Source, self.data.test)
        pixels, labels, kept = self._read(test, np.arange(test.size))
        if not kept.any():
            why = source.reason(test, 0)
            raise ValueError(f"No image of the test can be read: {why}")
        self.test_labels = labels[kept]
        self.test_names = [test.name(int(place)) for place in np.flatnonzero(kept)]
        self.test = self._views(pixels[kept], self.test_names)
        self.unreadable = int(np.count_nonzero(~kept))

    def prepare(self, chosen: np.ndarray, *, crops: bool = False) -> None:
        """Look at the training images that have not been seen yet."""
        new = [int(index) for index in chosen if int(index) not in self.kept]
        if new:
            pixels, _, kept = self._read(self.data.train, np.asarray(new))
            if not kept.all():
                lost = new[int(np.argmin(kept))]
                raise ValueError(
                    f"{self.data.train.name(lost)!r} was drawn and cannot be read: "
                    f"{source.reason(self.data.train, lost)}"
                )
            views = self._views(pixels, self._named(new)).swapaxes(0, 1)
            self.kept.update(zip(new, views, strict=True))
        if crops:
            self._crop([int(i) for i in chosen if int(i) not in self.crops])

    def train(self, chosen: np.ndarray) -> np.ndarray:
        """Give training images at the cut, `[views, images, …]`."""
        return np.stack([self.kept[int(index)] for index in chosen], axis=1)

    def cropped(self, chosen: np.ndarray) -> np.ndarray:
        """Give random crops of training images, `[crops, images, …]`."""
        return np.stack([self.crops[int(index)] for index in chosen], axis=1)

    def pool(
        self, views: np.ndarray, name: str, chosen: np.ndarray | None = None
    ) -> np.ndarray:
        """Compute descriptors of the frozen backbone, `[views, images, channels]`.

        Args:
            views: Features of images at the cut.
            name: Name of the pooling.
            chosen: Places of these training images; None for tests.
        """

        @jax.jit
        def half(known: Variables, rows: Array) -> jax.Array:
            return pooling.describe(self.cut.after(known, rows), name)

        variables = self.network.variables
        found = np.stack([block_cut.gather(half, variables, view) for view in views])
        names = self.test_names if chosen is None else self._named(chosen)
        return self._finite(found, names)

    def tested(self, places: np.ndarray) -> Shown:
        """Show images of the test."""

        def pooled(name: str) -> np.ndarray:
            if name not in self.test_pooled:
                self.test_pooled[name] = self.pool(self.test, name)
            return self.test_pooled[name][:, places]

        return Shown(lambda: (view[places] for view in self.test), pooled)

    def trained(self, chosen: np.ndarray) -> Shown:
        """Show training images."""
        views = self.train(chosen)
        return Shown(lambda: iter(views), lambda name: self.pool(views, name, chosen))

    def _named(self, chosen: Iterable[int | np.integer]) -> list[str]:
        return [self.data.train.name(int(index)) for index in chosen]

    def _finite(self, found: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Refuse what the network makes of images, `[views, images, …]`.

        Raises:
            FloatingPointError: It is not finite; names the images.
        """
        rows = np.moveaxis(found, 1, 0).reshape(len(names), -1)
        broken = [
            name
            for name, row in zip(names, rows, strict=True)
            if not np.isfinite(row).all()
        ]
        if broken:
            raise FloatingPointError(
                f"The features of {self.network.name} are not finite"
                f"{finite.named([files.readable(name) for name in broken])}; expected "
                "numbers: look at the weights, or leave these images out."
            )
        return found

    def _views(self, pixels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Compute `[views, images, …]`."""
        views = [pixels, pixels[:, :, ::-1]][: self.flips]
        found = np.stack([self._look(view) for view in views])
        return self._finite(found, names) if self.at else found

    def _look(self, pixels: np.ndarray) -> np.ndarray:
        if not self.at:
            # Nothing is cut: pixels stay 8 bits each.
            return pixels
        return block_cut.gather(self.before, self.network.variables, pixels)

    def _crop(self, chosen: list[int]) -> None:
        change = augmentation.build(CROP, self.image_size)
        read = source.narrowed(self.data.train).read
        count = self.settings.crops
        for first in range(0, len(chosen), BATCH):
            some = chosen[first : first + BATCH]
            pixels = []
            for index in some:
                example = read(index)
                for crop in range(count):
                    random = np.random.default_rng([self.settings.seed, 3, index, crop])
                    pixels.append(np.asarray(change(dict(example), random)["image"]))
            found = self._look(np.stack(pixels))
            found = found.reshape(len(some), count, *found.shape[1:])
            self.crops.update(zip(some, found, strict=True))

    def _read(
        self, data: source.Source, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read images as the network sees them: pixels, labels, and which could."""
        settings = self.settings.data
        batches = list(
            pipeline.evaluation(
                source.subset(data, places),
                batch_size=min(BATCH, len(places)),
                image_size=self.image_size,
                crop=self.crop,
                interpolation=self.interpolation,
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

"""Decide by landmarks: cells are dealt out to parts and a background, then averaged."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models.part_network import decision
from unlir_jax.models.part_network.cells import (
    NONE,
    Cells,
    Embedding,
    Grid,
    Reading,
    Traits,
    coarse,
    own_class,
)
from unlir_jax.models.part_network.prototypes import squared_distances
from unlir_jax.types import Array


@decision.register("landmarks")
class Landmarks(decision.Decision):
    """Deal each cell out to K parts and a background; let all parts share a classifier.

    PDiscoNet (van der Klis et al., ICCV 2023): shares are a softmax of negative squared
    distances from K + 1 vectors, a part's descriptor is the mean over all cells of
    share times channels, v_k = mean_r z_rk x_r, and each part multiplies it by a
    vector of its own before the linear classifier that all parts share. The background
    says nothing. Train it with the terms `concentration`, `orthogonality`, `presence`
    and `equivariance`.

    Note:
        Distances are between the white unit vectors of `Cells`, over a `temperature`,
        which suits a frozen backbone and `start.parts="kmeans"`; the original's are
        between the backbone's channels. Logits are summed over parts, where the
        original takes the mean, and have a bias.

    Attributes:
        classes: Number of classes.
        parts: The K.
        channels: Number of channels of the last maps.
        others: Channels of the finer maps, which help to separate parts; 0 without.
        dimensions: Sizes of the white space, for the last and the finer maps.
        finer_weight: Weight of the finer maps; the last maps have 1.
        temperature: Temperature of the softmax over parts.
        dropout: Share of parts that training leaves out, whole.
    """

    classes: int
    parts: int
    channels: int
    others: int = 0
    dimensions: tuple[int, int] = (64, 64)
    finer_weight: float = 1.5
    temperature: float = 0.1
    dropout: float = 0.3

    def setup(self) -> None:
        self.cells = Cells(
            self.channels,
            self.others,
            self.dimensions,
            self.finer_weight,
            name="regions",
        )
        self.likeness = Embedding(self.cells.width, self.parts, name="parts")
        # At the mean of all cells, which is as far from one part as from another.
        zeros = nn.initializers.zeros
        self.background = self.param("background", zeros, (self.cells.width,))
        shape = (self.parts, self.channels)
        self.modulation = self.param("modulation", nn.initializers.ones, shape)
        small = nn.initializers.normal(0.01)
        self.shared = self.param("kernel", small, (self.channels, self.classes))
        self.bias = self.param("bias", zeros, (self.classes,))
        self.dropout_layer = nn.Dropout(self.dropout, (2,), name="dropout")

    def check(self, rows: int, columns: int) -> None:
        """Refuse settings that make no sense for maps of this size.

        Raises:
            ValueError: One does not; the sentence says which would.
        """
        decision.check_parts(self.parts, (4 if self.others else 1) * rows * columns)
        decision.check_positive(temperature=self.temperature)

    def look(self, grid: Grid) -> tuple[jax.Array, jax.Array]:
        """Score each cell by minus its squared distance, and deal it out.

        The background has no scores; its share is what others leave to 1.
        """
        points = jnp.concatenate(
            [self.likeness.kernel, self.background[:, None]], axis=1
        )
        scores = -squared_distances(self.cells(grid), points)
        shares = jax.nn.softmax(scores / self.temperature)
        return scores[..., :-1], shares[..., :-1]

    def pool(self, grid: Grid, shares: Array) -> jax.Array:
        """Average the channels of each part's cells: `[batch, parts, channels]`."""
        cells = coarse(shares, grid.maps)
        count = cells.shape[1] * cells.shape[2]
        return jnp.einsum("bhwp,bhwc->bpc", cells, grid.maps) / count

    def logits(self, grid: Grid, train: bool = False) -> jax.Array:
        """Add up what all parts say, `[batch, classes]`."""
        _, shares = self.look(grid)
        modulated = self._modulated(self.pool(grid, shares), train)
        return modulated.sum(1) @ self.shared + self.bias[None]

    def read(self, grid: Grid, train: bool = False) -> Reading:
        """Say which parts are seen where, and what each adds to each logit."""
        scores, shares = self.look(grid)
        modulated = self._modulated(self.pool(grid, shares), train)
        return Reading(scores, shares, modulated @ self.shared, self.bias)

    def traits(self, grid: Grid, train: bool = False) -> Traits:
        """Give what constraints on parts look at.

        A part's descriptor is the modulated one, before any is left out.
        """
        _, shares = self.look(grid)
        pooled = self.pool(grid, shares)
        square = jnp.square(self.modulation) @ jnp.square(self.shared)
        return Traits(
            self._modulated(pooled, train).sum(1) @ self.shared + self.bias[None],
            shares,
            shares,
            pooled * self.modulation[None],
            self.likeness.kernel.T,
            jnp.sqrt(jnp.maximum(square, NONE)),
        )

    def evidence(self, grid: Grid, labels: Array) -> jax.Array:
        """Split each part's say among its cells: `[batch, rows, columns, parts]`."""
        cells = coarse(self.look(grid)[1], grid.maps)
        wanted = own_class(self.shared, labels)[:, None] * self.modulation[None]
        each = jnp.einsum("bhwc,bpc->bhwp", grid.maps, wanted)
        return cells * each / (cells.shape[1] * cells.shape[2])

    def offset(self) -> jax.Array:
        """Give what `evidence` leaves to the logits, `[classes]`."""
        return self.bias

    def _modulated(self, pooled: jax.Array, train: bool) -> jax.Array:
        return self.dropout_layer(
            pooled * self.modulation[None], deterministic=not train
        )

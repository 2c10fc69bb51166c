"""Decide by prototypes: how near the nearest cell of the image comes to each."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models.part_network import decision, gates
from unlir_jax.models.part_network.cells import (
    Grid,
    Reading,
    Traits,
    WhiteCells,
    joined,
    own_class,
)
from unlir_jax.types import Array

SPACES = ("add_on", "white")


class AddOn(nn.Module):
    """Map cells into the unit cube by two layers, relu between and sigmoid at the end.

    Attributes:
        width: Width of both layers.
    """

    width: int

    @nn.compact
    def __call__(self, values: Array) -> jax.Array:
        he = nn.initializers.he_normal()
        hidden = nn.relu(nn.Dense(self.width, kernel_init=he, name="first")(values))
        glorot = nn.initializers.glorot_normal()
        found = nn.Dense(self.width, kernel_init=glorot, name="second")(hidden)
        return jax.nn.sigmoid(found)


class Points(nn.Module):
    """Hold points of the unit cube in the columns of `kernel`, `[width, count]`."""

    width: int
    count: int

    def setup(self) -> None:
        draw = nn.initializers.uniform(1.0)
        self.kernel = self.param("kernel", draw, (self.width, self.count))


@decision.register("prototypes")
class Prototypes(decision.Decision):
    """Compare each cell with prototypes, some for each class, and add up the nearest.

    ProtoPNet (Chen et al., NeurIPS 2019): d^2 is the squared distance of a cell from
    a prototype in the space of prototypes, similarity is

        log((d^2 + 1) / (d^2 + epsilon)),

    and a prototype counts by its best cell. The classifier starts at 1 for a
    prototype's own class and -1/2 for others. Train it with the terms `cluster` and
    `separation`; `parts.projection` then moves each prototype to a cell.

    Note:
        The classifier has a bias, which the original lacks; it starts at zero.

    Attributes:
        classes: Number of classes.
        channels: Number of channels of the last maps.
        others: Channels of the finer maps, averaged within cells of the last; or 0.
        per_class: Number of prototypes of each class.
        space: Space of prototypes: `add_on`, two layers that learn; or `white`, the
            unit vectors of `WhiteCells`, which suit a frozen backbone, as its cells can
            be fitted.
        width: Width of the space by `add_on`.
        dimensions: Sizes of the white space, for the last and the finer maps.
        epsilon: Bounds the similarity, by -log epsilon.
    """

    classes: int
    channels: int
    others: int = 0
    per_class: int = 10
    space: str = "add_on"
    width: int = 128
    dimensions: tuple[int, int] = (128, 64)
    epsilon: float = 1e-4
    parts_of_classes = True

    def setup(self) -> None:
        shape = (self.channels, self.others, self.dimensions)
        if self.space == "white":
            self.white = WhiteCells(*shape, normalise=True, name="regions")
            width = self.white.width
        else:
            self.add_on, width = AddOn(self.width, name="regions"), self.width
        self.points = Points(width, self.parts, name="parts")
        self.kernel = self.param("kernel", self._start)
        self.bias = self.param("bias", nn.initializers.zeros, (self.classes,))

    @property
    def parts(self) -> int:
        """Count the prototypes."""
        return self.classes * self.per_class

    @property
    def knows(self) -> tuple[str, ...]:
        """List the traits that this decision has, and others may not."""
        return ("blocks", "distances")

    def check(self, rows: int, columns: int) -> None:
        """Refuse settings that make no sense.

        Raises:
            ValueError: One does not; the sentence says which would.
        """
        if self.space not in SPACES:
            known = " or ".join(SPACES)
            raise ValueError(f"`space`={self.space!r}; expected {known}.")
        decision.check_positive(
            per_class=self.per_class, width=self.width, epsilon=self.epsilon
        )
        if self.epsilon >= 1:
            raise ValueError(f"`epsilon`={self.epsilon}; expected less than 1.")

    def cells(self, grid: Grid) -> jax.Array:
        """Map cells to where prototypes are: `[batch, rows, columns, width]`."""
        if self.space == "white":
            return self.white(grid)
        return self.add_on(joined(grid))

    def look(self, grid: Grid) -> tuple[jax.Array, jax.Array]:
        """Score each cell by its similarity to each prototype, and deal it out."""
        scores = self._similarity(self._distances(grid))
        return scores, jax.nn.softmax(scores)

    def logits(self, grid: Grid, train: bool = False) -> jax.Array:
        """Add up what the best cells say, `[batch, classes]`."""
        best = self.look(grid)[0].max((1, 2))
        return jnp.einsum("bp,pc->bc", best, self.kernel) + self.bias[None]

    def read(self, grid: Grid, train: bool = False) -> Reading:
        """Say which prototypes are seen where, and what each adds to each logit."""
        scores, shares = self.look(grid)
        added = jnp.einsum("bp,pc->bpc", scores.max((1, 2)), self.kernel)
        return Reading(scores, shares, added, self.bias)

    def traits(self, grid: Grid, train: bool = False) -> Traits:
        """Give what constraints on parts look at.

        A prototype's descriptor is the cell that is nearest to it.
        """
        cells, distances = self.cells(grid), self._distances(grid)
        scores = self._similarity(distances)
        shares = jax.nn.softmax(scores)
        best = jnp.einsum("bp,pc->bc", scores.max((1, 2)), self.kernel)
        return Traits(
            best + self.bias[None],
            shares,
            shares,
            jnp.einsum("bhwp,bhwd->bpd", _nearest(scores), cells),
            self.points.kernel.T,
            self.kernel,
            blocks=gates.block_assignment(self.parts, self.classes),
            distances=distances,
        )

    def evidence(self, grid: Grid, labels: Array) -> jax.Array:
        """Give each prototype's say to its best cell: `[batch, rows, columns, parts]`.

        Of several that are equally near, the first.
        """
        scores, _ = self.look(grid)
        wanted = own_class(self.kernel, labels)
        return _nearest(scores) * scores * wanted[:, None, None]

    def offset(self) -> jax.Array:
        """Give what `evidence` leaves to the logits, `[classes]`."""
        return self.bias

    def _start(self, key: jax.Array) -> jax.Array:
        own = gates.block_assignment(self.parts, self.classes)
        return 1.5 * own - 0.5

    def _distances(self, grid: Grid) -> jax.Array:
        """Compute squared distances, `[batch, rows, columns, parts]`."""
        return squared_distances(self.cells(grid), self.points.kernel)

    def _similarity(self, distances: jax.Array) -> jax.Array:
        return jnp.log((distances + 1) / (distances + self.epsilon))


def squared_distances(cells: Array, points: Array) -> jax.Array:
    """Compute |x - p|^2, `[…, points]`, of `[…, width]` and `[width, points]`."""
    cells = jnp.asarray(cells)
    inner = jnp.einsum("...d,dp->...p", cells, points, precision="highest")
    square = jnp.sum(cells**2, axis=-1, keepdims=True)
    others = jnp.sum(jnp.asarray(points) ** 2, axis=0)
    others = others.reshape((1,) * (cells.ndim - 1) + (-1,))
    # Rounding may leave less than zero.
    return jnp.maximum(square - 2 * inner + others, 0)


def _nearest(scores: jax.Array) -> jax.Array:
    """Put 1 at each part's best cell, the first of equals."""
    batch, rows, columns, parts = scores.shape
    best = jnp.argmax(scores.reshape((batch, -1, parts)), axis=1)
    hot = jax.nn.one_hot(best, rows * columns, axis=1)
    return hot.reshape(scores.shape)

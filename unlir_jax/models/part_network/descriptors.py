"""Decide by descriptors: what each part looks like, pooled from its cells."""

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
from unlir_jax.types import Array


@decision.register("descriptors")
class Descriptors(decision.Decision):
    """Let each part carry a descriptor, and add up what all descriptors say.

    Cells are compared with the parts by their cosine s, in a space where the cells of
    natural images are white. Each cell is dealt out, z = softmax(s / temperature),
    and a part's descriptor is the power mean of its cells' channels,

        v_k = (sum_r z_rk x_r^p / (damping + sum_r z_rk))^(1/p),

    which damping draws to zero where there is little of the part. A logit is the sum
    over parts of W_k (v_k - mean_k) / scale, and a bias: the mean is taken off so that
    a part says something only where it looks other than usual. Where there are finer
    maps, cells are compared and dealt out on their grid; those within one cell of the
    last maps share it, and the plain mean of the finer maps goes into the descriptor as
    well, as they may be negative.

    Note:
        Our own step beyond DP-Net, whose parts carry one score each (`BagOfParts`).

    Attributes:
        classes: Number of classes.
        parts: Number of parts.
        channels: Number of channels of the last maps.
        others: Number of channels of the finer maps, 0 without.
        dimensions: Sizes of the white space, for the last and the finer maps.
        finer_weight: Weight of the finer maps; the last maps have 1.
        temperature: Temperature of the softmax over parts.
        power: The p above; 1 is the mean, larger is nearer to the maximum. Channels
            below 0 count as 0, but for the mean: tokens of a transformer have signs.
        damping: In cells of the last maps.
        finer_descriptors: Whether descriptors hold the finer maps' channels as well.
        rank: Rank of W_k, whose factor on the channels all parts share; 0: full rank.
        dropout: Share of the entries of descriptors that training leaves out.
    """

    classes: int
    parts: int
    channels: int
    others: int = 0
    dimensions: tuple[int, int] = (64, 64)
    finer_weight: float = 1.5
    temperature: float = 0.05
    power: float = 3.0
    damping: float = 0.5
    finer_descriptors: bool = True
    rank: int = 0
    dropout: float = 0.5
    solvable = True

    def setup(self) -> None:
        self.cells = Cells(
            self.channels,
            self.others,
            self.dimensions,
            self.finer_weight,
            name="regions",
        )
        self.likeness = Embedding(self.cells.width, self.parts, name="parts")
        shape = (self.parts, self.length)
        self.usual = self.param("mean", nn.initializers.zeros, shape)
        self.scale = self.param("scale", nn.initializers.ones, (self.length,))
        width = self.rank or self.length
        small = nn.initializers.normal(0.01)
        if self.rank:
            self.basis = self.param("basis", small, (self.length, self.rank))
        self.kernel = self.param("kernel", small, (self.parts, width, self.classes))
        self.bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        self.dropout_layer = nn.Dropout(self.dropout, name="dropout")

    @property
    def length(self) -> int:
        """Give the length of a descriptor."""
        return self.channels + (self.others if self.finer_descriptors else 0)

    def check(self, rows: int, columns: int) -> None:
        """Refuse settings that make no sense for maps of this size.

        Raises:
            ValueError: One does not; the sentence says which would.
        """
        finer = 4 if self.others else 1
        decision.check_parts(self.parts, finer * rows * columns)
        decision.check_positive(temperature=self.temperature, power=self.power)

    def look(self, grid: Grid) -> tuple[jax.Array, jax.Array]:
        """Score each cell for each part by their cosine, and deal it out."""
        cells = self.cells(grid)
        parts = self.likeness.kernel
        parts = parts / jnp.maximum(jnp.linalg.norm(parts, axis=0, keepdims=True), NONE)
        scores = jnp.einsum("bhwd,dp->bhwp", cells, parts)
        return scores, jax.nn.softmax(scores / self.temperature)

    def describe(self, grid: Grid, shares: Array) -> jax.Array:
        """Pool the channels of each part's cells: `[batch, parts, length]`."""
        cells = coarse(shares, grid.maps)
        total = jnp.einsum("bhwp,bhwc->bpc", cells, self._raised(grid.maps))
        pooled = total / self._mass(cells)
        pooled = pooled if self.power == 1 else root(pooled, self.power)
        if self.length == self.channels:
            return pooled
        finer = jnp.einsum("bhwp,bhwc->bpc", shares, grid.finer)
        finer = finer / (self._mass(cells) * _finer_cells(shares, cells))
        return jnp.concatenate([pooled, finer], axis=-1)

    def logits(self, grid: Grid, train: bool = False) -> jax.Array:
        """Add up what all descriptors say, `[batch, classes]`."""
        _, shares = self.look(grid)
        centred = self._centred(grid, shares)
        centred = self.dropout_layer(centred, deterministic=not train)
        return jnp.einsum("bpw,pwc->bc", centred, self.kernel) + self.bias[None]

    def read(self, grid: Grid, train: bool = False) -> Reading:
        """Say which parts are seen where, and what each adds to each logit."""
        scores, shares = self.look(grid)
        centred = self._centred(grid, shares)
        centred = self.dropout_layer(centred, deterministic=not train)
        added = jnp.einsum("bpw,pwc->bpc", centred, self.kernel)
        return Reading(scores, shares, added, self.bias)

    def traits(self, grid: Grid, train: bool = False) -> Traits:
        """Give what constraints on parts look at."""
        _, shares = self.look(grid)
        centred = self._centred(grid, shares)
        dropped = self.dropout_layer(centred, deterministic=not train)
        logits = jnp.einsum("bpw,pwc->bc", dropped, self.kernel) + self.bias[None]
        square = jnp.sum(jnp.square(self.kernel), axis=1)
        speaks = jnp.sqrt(jnp.maximum(square, NONE))
        return Traits(logits, shares, shares, centred, self.likeness.kernel.T, speaks)

    def evidence(self, grid: Grid, labels: Array) -> jax.Array:
        """Split each part's say among its cells: `[batch, rows, columns, parts]`.

        A power mean is the sum over cells of `z x^p v^(1 - p) / (damping + sum z)`.
        """
        _, shares = self.look(grid)
        maps = grid.maps
        found = self.describe(grid, shares)[..., : self.channels]
        cells = coarse(shares, maps)
        mass = self._mass(cells)
        wanted = self._for_label(labels) / self.scale[None, None]
        rate = jnp.where(found > NONE, jnp.maximum(found, NONE) ** (1 - self.power), 0)
        rate = jnp.ones_like(found) if self.power == 1 else rate
        raised = self._raised(maps)
        first, rest = wanted[..., : self.channels], wanted[..., self.channels :]
        added = cells * jnp.einsum("bhwc,bpc->bhwp", raised, first * rate / mass)
        if self.length > self.channels:
            each = jnp.einsum("bhwc,bpc->bhwp", grid.finer, rest / mass)
            added = added + coarse(shares * each, maps)
        return added

    def offset(self) -> jax.Array:
        """Give what `evidence` leaves to the logits, `[classes]`."""
        usual = self.usual / self.scale[None]
        if self.rank:
            usual = usual @ self.basis
        return self.bias - jnp.einsum("pw,pwc->c", usual, self.kernel)

    def _raised(self, maps: jax.Array) -> jax.Array:
        """Raise the channels of cells to the power."""
        return maps if self.power == 1 else jnp.maximum(maps, 0) ** self.power

    def _mass(self, cells: jax.Array) -> jax.Array:
        """Count the cells that belong to each part: `[batch, parts, 1]`."""
        return jnp.sum(cells, axis=(1, 2))[..., None] + self.damping

    def _centred(self, grid: Grid, shares: Array) -> jax.Array:
        centred = (self.describe(grid, shares) - self.usual[None]) / self.scale[
            None, None
        ]
        return centred @ self.basis if self.rank else centred

    def _for_label(self, labels: Array) -> jax.Array:
        """Pick one class for each image: `[batch, parts, length]`."""
        chosen = own_class(self.kernel, labels)
        return chosen @ self.basis.T if self.rank else chosen


def _finer_cells(shares: Array, cells: Array) -> float:
    """Count the finer cells within a cell."""
    return shares.shape[1] * shares.shape[2] / (cells.shape[1] * cells.shape[2])


def root(values: Array, power: float) -> jax.Array:
    """Take the p-th root of what is not negative; zero, also its slope, at zero."""
    safe = jnp.maximum(values, NONE)
    # By logarithms: XLA's power takes more than twice as long on a CPU.
    return jnp.where(values > NONE, jnp.exp(jnp.log(safe) / power), 0.0)

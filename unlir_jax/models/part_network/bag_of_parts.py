"""Decide by a bag of parts: how much of each part is somewhere in the image."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models.part_network import decision, gates, regions
from unlir_jax.models.part_network.cells import (
    Embedding,
    Grid,
    Reading,
    Traits,
    WhiteCells,
    own_class,
)
from unlir_jax.types import Array

REGIONS = ("cells", "windows", "boxes", "proposals")
POOLINGS = ("max", "top_k", "mean", "logsumexp", "max+mean")
ASSIGNMENTS = ("none", "blocks", "learned")
# Points along each side of a box at which maps are looked at.
SAMPLES = 4


@decision.register("bag")
class BagOfParts(decision.Decision):
    """Let each part carry one score, and classify by all of them.

    DP-Net (Sicre et al., ICIP 2023, arXiv 2404.15037), in a reconstruction: regions X
    of an image, scores S = X U, of each part the pooled score, a linear classifier.
    `assignment` says for which classes a part may speak: all; its own ("blocks": as
    many parts to each class, in order), as far as the term `specificity` makes it; or
    those whose learned gate is open, where W is multiplied by `gates.binarise(gates)`.

    Regions are averages of cells, so they are whitened as cells are. Parts don't
    compete for regions, so there may be more of them.

    Attributes:
        classes: Number of classes.
        parts: Number of parts.
        channels: Number of channels of the last maps.
        others: Channels of the finer maps, whose averages within cells of the last maps
            are looked at as well; 0 without.
        dimensions: Sizes of the white space, of the last and finer maps; 0: not white.
        normalise: Whether regions have length one.
        region: `cells`; `windows`, of the `sizes`; `boxes`, drawn once and the same for
            all images; or `proposals`, learned; see `models/parts/regions.py`.
        sizes: Sides of windows in cells.
        boxes: Number of boxes or proposals.
        pooling: `max`; `top_k`, the mean of the `top` highest; `mean`; `logsumexp`,
            log mean exp(sharpness S) / sharpness; or `max+mean`, two numbers a part.
        top: The k of `top_k`.
        sharpness: Sharpness of `logsumexp`.
        temperature: Temperature of the softmax over parts that assigns a region.
        competition: Whether that softmax, over the parts and a background that scores
            zero, is what is pooled: then a region that is one part is no other. Ours.
        assignment: `none`, `blocks` or `learned`.
        gate_temperature: Temperature of the gates' derivative.
        dropout: Share of parts' numbers that training leaves out.
    """

    classes: int
    parts: int
    channels: int
    others: int = 0
    dimensions: tuple[int, int] = (256, 64)
    normalise: bool = False
    region: str = "cells"
    sizes: tuple[int, ...] = (1, 2, 3)
    boxes: int = 32
    pooling: str = "max"
    top: int = 3
    sharpness: float = 1.0
    temperature: float = 1.0
    competition: bool = False
    assignment: str = "none"
    gate_temperature: float = 1.0
    dropout: float = 0.3

    def setup(self) -> None:
        self.cells = WhiteCells(
            self.channels, self.others, self.dimensions, self.normalise, name="regions"
        )
        self.likeness = Embedding(self.cells.width, self.parts, name="parts")
        if self.region == "proposals":
            self.proposals = regions.Proposals(self.boxes, name="proposals")
        shape = (self.parts, self.entries, self.classes)
        self.kernel = self.param("kernel", nn.initializers.normal(0.01), shape)
        self.bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        if self.assignment == "learned":
            ones = nn.initializers.ones
            self.gates = self.param("gates", ones, (self.parts, self.classes))
        self.dropout_layer = nn.Dropout(self.dropout, name="dropout")

    @property
    def knows(self) -> tuple[str, ...]:
        """List the traits that this decision has, and others may not."""
        known = {"learned": ("gates",), "blocks": ("blocks",)}
        return known.get(self.assignment, ())

    @property
    def entries(self) -> int:
        """Count the numbers that a part carries."""
        return len(self.pooling.split("+"))

    def check(self, rows: int, columns: int) -> None:
        """Refuse settings that make no sense for maps of this size.

        Raises:
            ValueError: One does not; the sentence says which would.
        """
        for name, value, known in (
            ("region", self.region, REGIONS),
            ("pooling", self.pooling, POOLINGS),
            ("assignment", self.assignment, ASSIGNMENTS),
        ):
            if value not in known:
                raise ValueError(f"`{name}`={value!r}; expected {' or '.join(known)}.")
        decision.check_positive(
            parts=self.parts,
            boxes=self.boxes,
            top=self.top,
            sharpness=self.sharpness,
            temperature=self.temperature,
            gate_temperature=self.gate_temperature,
        )
        if self.assignment == "blocks":
            gates.block_assignment(self.parts, self.classes)
        count = {"cells": rows * columns}.get(self.region, self.boxes)
        if self.region == "windows":
            whole = jax.ShapeDtypeStruct((1, rows, columns, 1), jnp.float32)
            found = jax.eval_shape(lambda m: regions.windows(m, self.sizes), whole)
            count = found.descriptors.shape[1]
        if self.pooling == "top_k" and self.top > count:
            raise ValueError(
                f"`top`={self.top}, but an image has {count} regions; expected 1 to "
                f"{count}, a larger image or smaller regions."
            )

    def look(self, grid: Grid) -> tuple[jax.Array, jax.Array]:
        """Score each cell for each part, and deal it out.

        A cell scores as the best region that covers it, or, if there is none, as the
        worst of the image.
        """
        _, scores, weights = self._score(grid)
        return self._look(grid, scores, weights)

    def logits(self, grid: Grid, train: bool = False) -> jax.Array:
        """Classify by the bag of parts, `[batch, classes]`."""
        _, scores, _ = self._score(grid)
        return self._decide(self._bag(scores, train)).sum(1) + self.bias[None]

    def read(self, grid: Grid, train: bool = False) -> Reading:
        """Say which parts are seen where, and what each adds to each logit."""
        _, scores, weights = self._score(grid)
        added = self._decide(self._bag(scores, train))
        return Reading(*self._look(grid, scores, weights), added, self.bias)

    def traits(self, grid: Grid, train: bool = False) -> Traits:
        """Give what constraints on parts look at.

        A part's descriptor is the mean of the regions that its score is the mean of.
        """
        found, scores, weights = self._score(grid)
        chosen = self._chosen(scores).mean(-1)
        learned, blocks = self.assignment == "learned", None
        if self.assignment == "blocks":
            blocks = gates.block_assignment(self.parts, self.classes)
        return Traits(
            self._decide(self._bag(scores, train)).sum(1) + self.bias[None],
            self._shares(scores),
            self._look(grid, scores, weights)[1],
            jnp.einsum("brp,brd->bpd", chosen, found),
            self.likeness.kernel.T,
            self._kernel().sum(1),
            self.gates / self.gate_temperature if learned else None,
            blocks,
        )

    def evidence(self, grid: Grid, labels: Array) -> jax.Array:
        """Split each part's say among its cells: `[batch, rows, columns, parts]`.

        A pooled score is a mean of regions' scores, so each region has its share of
        it; by logsumexp, the share of the region's weight. A region's is dealt out to
        its cells as they make up its average.
        """
        _, scores, weights = self._score(grid)
        chosen, values = self._chosen(scores), scores[..., None]
        if self.pooling == "logsumexp":
            values = self._bag(scores, False)[:, None]
        wanted = own_class(self._kernel(), labels)
        each = jnp.sum(chosen * values * wanted[:, None], axis=-1)
        if weights is not None:
            weights = jnp.broadcast_to(weights, (len(each), *weights.shape[1:]))
            each = jnp.einsum("brm,brp->bmp", weights, each)
        return each.reshape((*grid.maps.shape[:3], self.parts))

    def offset(self) -> jax.Array:
        """Give what `evidence` leaves to the logits, `[classes]`."""
        return self.bias

    def _score(self, grid: Grid) -> tuple[jax.Array, jax.Array, Any]:
        """Give descriptors and scores of regions, and how cells make up regions.

        Returns:
            `[batch, regions, width]`, `[batch, regions, parts]`, and `[batch or 1,
            regions, cells]`, None where regions are the cells.
        """
        cells = self.cells(grid)
        cells = cells.reshape((len(cells), -1, cells.shape[-1]))
        weights = self._weights(grid)
        if weights is not None:
            weights = jnp.broadcast_to(weights, (len(cells), *weights.shape[1:]))
            cells = jnp.einsum("brm,bmd->brd", weights, cells)
        scores = jnp.einsum("brd,dp->brp", cells, self.likeness.kernel)
        if self.competition:
            background = jnp.zeros((*scores.shape[:2], 1))
            rivals = jnp.concatenate([scores, background], axis=-1)
            scores = jax.nn.softmax(rivals / self.temperature)[..., :-1]
        return cells, scores, weights

    def _shares(self, scores: jax.Array) -> jax.Array:
        if self.competition:
            return scores
        return jax.nn.softmax(scores / self.temperature)

    def _weights(self, grid: Grid) -> jax.Array | None:
        """Say of what cells regions are the average, from the regions of unit maps."""
        batch, rows, columns, _ = grid.maps.shape
        whole = jnp.eye(rows * columns).reshape((1, rows, columns, -1))
        if self.region == "cells":
            return None
        if self.region == "windows":
            return regions.windows(whole, self.sizes).descriptors
        if self.region == "boxes":
            boxes = regions.random_boxes(jax.random.key(0), self.boxes)
        else:
            boxes = self.proposals(grid.maps)
            whole = jnp.broadcast_to(whole, (batch, *whole.shape[1:]))
        return regions.roi_align(whole, boxes, samples=SAMPLES)

    def _look(
        self, grid: Grid, scores: jax.Array, weights: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        if weights is not None:
            least = jnp.min(scores, axis=1, keepdims=True)
            start = jnp.broadcast_to(
                least, (len(scores), weights.shape[-1], self.parts)
            )

            # Region by region: all at once would hold regions x cells x parts.
            def cover(best: jax.Array, region: Any) -> tuple[jax.Array, None]:
                score, weight = region
                covered = jnp.where(weight[..., None] > 0, score[:, None], least)
                return jnp.maximum(best, covered), None

            turned = (jnp.moveaxis(scores, 1, 0), jnp.moveaxis(weights, 1, 0))
            scores, _ = jax.lax.scan(cover, start, turned)
        scores = scores.reshape((*grid.maps.shape[:3], self.parts))
        return scores, self._shares(scores)

    def _bag(self, scores: jax.Array, train: bool) -> jax.Array:
        """Pool scores over regions: `[batch, parts, entries]`."""
        if self.pooling == "top_k":
            pooled = jax.lax.top_k(scores.swapaxes(1, 2), self.top)[0].mean(-1)
        elif self.pooling == "logsumexp":
            total = jax.nn.logsumexp(self.sharpness * scores, axis=1)
            pooled = (total - jnp.log(scores.shape[1])) / self.sharpness
        elif self.pooling == "mean":
            pooled = scores.mean(1)
        else:
            pooled = scores.max(1)
        entries = [pooled] if self.entries == 1 else [pooled, scores.mean(1)]
        return self.dropout_layer(jnp.stack(entries, -1), deterministic=not train)

    def _chosen(self, scores: jax.Array) -> jax.Array:
        """Say which regions a pooled score comes from.

        Returns:
            `[batch, regions, parts, entries]` with sum 1 over regions.
        """
        count = scores.shape[1]
        if self.pooling == "mean":
            chosen = [jnp.full(scores.shape, 1 / count)]
        elif self.pooling == "logsumexp":
            chosen = [jax.nn.softmax(self.sharpness * scores, axis=1)]
        else:
            top = self.top if self.pooling == "top_k" else 1
            places = jax.lax.top_k(scores.swapaxes(1, 2), top)[1]
            hot = jax.nn.one_hot(places, count, axis=1).mean(-1)
            chosen = [hot]
        if self.entries == 2:
            chosen.append(jnp.full(scores.shape, 1 / count))
        return jnp.stack(chosen, -1)

    def _decide(self, bag: jax.Array) -> jax.Array:
        """Give what each part adds to each logit: `[batch, parts, classes]`."""
        return jnp.einsum("bpe,pec->bpc", bag, self._kernel())

    def _kernel(self) -> jax.Array:
        """Give the weights as far as gates let them through."""
        if self.assignment != "learned":
            return jnp.asarray(self.kernel)
        open_gates = gates.binarise(self.gates, self.gate_temperature)
        return self.kernel * open_gates[:, None]

"""Losses of one example each; who averages them knows which rows count.

From `diversity` on, the constraints of part networks. Constraints of DP-Net (Sicre et
al., arXiv 2404.15037) are reconstructed from its text. Constraints of PDiscoNet are by
van der Klis et al., ICCV 2023, and want a background part left out before.

`shares` says how much each region is each part, `[batch, regions, parts]` or
`[batch, rows, columns, parts]` in [0, 1]. What depends on the batch as a whole takes
`weight`, one for each row (1 if not given; a row of 0 is not looked at), and
`axis_name`, the axis of `pmap` that rows are dealt out to; where a batch is
accumulated in pieces, each is a batch of its own. Shapes that do not fit, fewer than
two parts where parts are compared, and a `temperature` that is not positive raise a
ValueError.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from unlir_jax.models.part_network import gates
from unlir_jax.models.part_network.gates import binarise as binarise
from unlir_jax.models.part_network.gates import binary_penalty as binary_penalty
from unlir_jax.models.part_network.gates import block_assignment as block_assignment
from unlir_jax.runtime import mesh
from unlir_jax.types import Array, Labels, Logits, PerImage

Cells = Float[Array, "batch rows columns parts"]
Shares = Float[Array, "batch *regions parts"]


def targets(labels: Labels, classes: int, smoothing: float = 0.0) -> jax.Array:
    """Write labels as distributions over classes.

    With `smoothing` e, a share e of the mass is spread over all classes, the right one
    included (Szegedy et al., Rethinking the Inception Architecture, 2016, section 7).

    Returns:
        `[batch, classes]`, rows that sum to one; zeros for a label that is no class.
    """
    hot = jax.nn.one_hot(labels, classes)
    return hot * (1 - smoothing) + smoothing / classes * hot.sum(-1, keepdims=True)


def cross_entropy(logits: Logits, distribution: Logits) -> PerImage:
    """Compute - sum_c q_c log p_c for each row, in float32 or more."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    return optax.softmax_cross_entropy(jnp.asarray(logits, wide), distribution)


def correct(logits: Logits, labels: Labels, top: int = 1) -> PerImage:
    """Give 1 where the label is among the `top` largest logits, else 0.

    A tie counts against the network, so that equal logits are never right; nor is one
    that is not a number, or a label that is no class.
    """
    labels = jnp.asarray(labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    as_large = jnp.sum(~(logits < own), axis=1)
    # A negative label would be taken for a place counted from the end.
    return ((as_large <= top) & (labels >= 0)).astype(jnp.float32)


def weighted_total(values: Array, weight: PerImage) -> jax.Array:
    """Sum the rows that count; a row of weight 0 adds nothing, not even a NaN."""
    return jnp.sum(jnp.where(weight > 0, values, 0.0) * weight)


class Transform(NamedTuple):
    """Say what was done to an image, in cells of its maps: flipped, then moved.

    `flip` is whether left and right were exchanged; the content moved by `down` and
    `right`, whole numbers. Each is one for all images, or `[batch]`.
    """

    flip: Array | bool = False
    down: Array | int = 0
    right: Array | int = 0


def diversity(parts: Float[Array, "parts channels"]) -> jax.Array:
    """Compute ||Û Û^T - I||_F^2 / (P (P - 1)), Û the P parts in rows of norm 1.

    DP-Net, a reconstruction.

    Returns:
        A number in [0, 1]: 0 where all parts are orthogonal, 1 where all lie on one
        line. A part of zeros is orthogonal to all, adds 1 / (P (P - 1)) and has no
        gradient.
    """
    return orthogonality(_read("parts", parts, 2)[None])[0]


def orthogonality(descriptors: Float[Array, "batch parts channels"]) -> PerImage:
    """Compute `diversity` of the descriptors of each image, `[batch]` in [0, 1].

    PDiscoNet, whose code divides by P^2, and counts the background as a part.
    """
    unit = _unit(_read("descriptors", descriptors, 3))
    count = _several("descriptors", unit, 1)
    cosines = jnp.einsum("bpc,bqc->bpq", unit, unit, precision="highest")
    apart = cosines - jnp.eye(count, dtype=cosines.dtype)[None]
    return jnp.sum(apart**2, axis=(1, 2)) / (count * (count - 1))


def decisiveness(shares: Shares) -> PerImage:
    """Compute mean_r H(Z_r) / log P: how undecided regions are between P parts.

    DP-Net, a reconstruction. The shares Z of a region have the sum 1.

    Returns:
        `[batch]` in [0, 1]: 0 where each region is one part, 1 where it is all alike.
        A share of exactly 0 has no gradient.
    """
    shares = _read("shares", shares, 3, 4)
    entropy = _entropy(shares).reshape((shares.shape[0], -1))
    return jnp.mean(entropy, axis=1) / math.log(_several("shares", shares, -1))


def balance(
    shares: Shares, weight: PerImage | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """Compute 1 - H(mean_br Z_br) / log P: how unevenly a batch uses its P parts.

    It keeps `decisiveness` from the collapse to a single part; as that is, a
    reconstruction.

    Returns:
        A number in [0, 1]: 0 where all parts are used alike, 1 where one takes all, or
        where no row counts.
    """
    shares, weight = _counted(_read("shares", shares, 3, 4), weight)
    parts = _several("shares", shares, -1)
    each = jnp.mean(shares.reshape((shares.shape[0], -1, parts)), axis=1)
    sums = (jnp.sum(each * weight[:, None], axis=0), jnp.sum(weight))
    used, count = mesh.total(sums, axis_name)
    return 1 - _entropy(used / jnp.maximum(count, 1e-12)) / math.log(parts)


def class_specificity(
    kernel: Float[Array, "parts classes"],
    blocks: Float[Array, "parts classes"] | None = None,
    *,
    temperature: float = 1.0,
) -> jax.Array:
    """Compute how much parts speak for classes that are not theirs.

    With `blocks` M, ||W * (1 - M)||_1 / (C P); without, the entropy of each part's
    classes, mean_p H(softmax_c(W_pc / temperature)) / log C. DP-Net, a reconstruction.

    W is `kernel`; M says in [0, 1] which classes a part may speak for: fixed, as by
    `block_assignment`, or learned, as by `binarise`, where something else must keep it
    from 1 everywhere.

    Returns:
        A number from 0; without `blocks` at most 1, where all weights of a part agree.
    """
    kernel = _read("kernel", kernel, 2)
    if blocks is not None:
        blocks = _read("blocks", blocks, 2)
        _check_same("blocks", blocks, "kernel", kernel)
        # Not |W (1 - M)|: its derivative would keep a learned M of 1 where it is.
        return jnp.mean(jnp.abs(kernel) * (1 - blocks))
    logs = jax.nn.log_softmax(kernel / gates.positive(temperature), axis=1)
    classes = _several("kernel", kernel, 1, "classes")
    return -jnp.mean(jnp.sum(jnp.exp(logs) * logs, axis=1)) / math.log(classes)


def presence(
    shares: Shares, weight: PerImage | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """Compute 1 - mean_p max_br Z_brp: each part is somewhere in the batch.

    PDiscoNet, whose code averages 3 x 3 cells first and leaves the border out.

    Returns:
        A number in [0, 1]: 0 where each part has some region to itself, 1 where no row
        counts.
    """
    shares, _ = _counted(_read("shares", shares, 3, 4), weight)
    highest = jnp.max(shares, axis=tuple(range(shares.ndim - 1)))
    # There is no derivative of pmax.
    return 1 - jnp.mean(jnp.max(mesh.every_row(highest[None], axis_name), axis=0))


def concentration(
    shares: Cells, by: Literal["presence", "mass"] = "presence"
) -> PerImage:
    """Compute mean_p a_p sum_r Z_rp |x_r - c_p|^2 / sum_r Z_rp: how far parts spread.

    c_p is the part's centre, sum_r Z_rp x_r / sum_r Z_rp, and x_r that of a cell, in
    shares of the image. a_p is max_r Z_rp; by "mass" it is mean_r Z_rp, as in the
    code of PDiscoNet, which makes parts small as well.

    Returns:
        `[batch]` in [0, 1/2): 0 where each part is in one cell, or nowhere.

    Raises:
        ValueError: `by` is unknown.
    """
    if by not in ("presence", "mass"):
        raise ValueError(f"`by`={by!r} is unknown; expected 'presence' or 'mass'.")
    shares = _read("shares", shares, 4)
    amount = shares.max((1, 2)) if by == "presence" else shares.mean((1, 2))
    masses = _scaled(shares, (1, 2))
    total = masses.sum((1, 2), keepdims=True)
    masses = masses / jnp.where(total == 0, 1, total)
    # The squared distance is the sum of those down and across.
    spread = _variance(masses.sum(2)) + _variance(masses.sum(1))
    return jnp.mean(amount * spread, axis=1)


def equivariance(maps: Cells, transformed: Cells, transform: Transform) -> PerImage:
    """Compute mean_p (1 - cosine(T(Z_p(x)), Z_p(T(x)))): parts move with the image.

    The cosine is over the cells that T, `transform`, keeps in sight; `maps` are of x,
    `transformed` of T(x), where a shift by one cell is one by the stride. PDiscoNet,
    whose code transforms the second back, by any rotation and scale too.

    Returns:
        `[batch]` in [0, 2], in [0, 1] if no map is negative. A map of zeros is
        orthogonal to all but another.

    Raises:
        ValueError: A shift, if it is one number, that leaves nothing in sight.
    """
    maps = _read("maps", maps, 4)
    transformed = _read("transformed", transformed, 4)
    _check_same("transformed", transformed, "maps", maps)
    batch, rows, columns, _ = maps.shape
    down = _moves("down", transform.down, False, batch, rows)
    across = _moves("right", transform.right, transform.flip, batch, columns)
    moved = jnp.einsum("bir,bjc,brcp->bpij", down, across, maps, precision="highest")
    seen = jnp.einsum("bir,bjc->bij", down, across)[:, None] > 0
    images = jnp.where(seen, jnp.moveaxis(transformed, -1, 1), 0)
    first, second = (_unit(m.reshape((*m.shape[:2], -1))) for m in (moved, images))
    absent = jnp.all((first == 0) & (second == 0), axis=-1)
    cosine = jnp.where(absent, 1, jnp.sum(first * second, axis=-1))
    return jnp.mean(1 - cosine, axis=1)


def consistency(
    descriptors: Float[Array, "batch parts channels"],
    labels: Labels,
    present: Float[Array, "batch parts"] | None = None,
    weight: PerImage | None = None,
    *,
    axis_name: str | None = None,
) -> PerImage:
    """Compute mean_p a_bp (1 - cosine(v_bp, m_p)): parts look alike within a class.

    m_p = sum_j w_j a_jp v_jp / |v_jp| over the images j of the batch with the same
    label, its own included. Ours.

    Args:
        descriptors: The v.
        labels: A negative one is no class.
        present: The a, in [0, 1], 1 if not given. Stop its gradient where parts shall
            not vanish in order to agree.
        weight: The w.
        axis_name: See above.

    Returns:
        `[batch]` in [0, 2]: a part adds 0 where no other image of the class has it,
        and a_bp where its descriptor is zeros.
    """
    vectors, weight = _counted(_read("descriptors", descriptors, 3), weight)
    unit, labels = _unit(vectors), jnp.asarray(labels)
    present = jnp.ones(unit.shape[:2]) if present is None else gates.wide(present)
    _check_same("present", present, "descriptors", unit[..., 0])
    present, _ = _counted(present, weight)
    own = (unit, labels, present * weight[:, None])
    units, classes, amounts = (mesh.every_row(rows, axis_name) for rows in own)
    alike = (labels[:, None] == classes[None]) & (labels >= 0)[:, None]
    alike = alike.astype(unit.dtype)
    pictures = alike @ (amounts > 0).astype(unit.dtype)
    sums = jnp.einsum("bj,jp,jpc->bpc", alike, amounts, units, precision="highest")
    distance = 1 - jnp.sum(unit * _unit(sums), axis=-1)
    return jnp.mean(present * jnp.where(pictures > 1.5, distance, 0), axis=1)


def _read(name: str, values: Array, *ranks: int) -> jax.Array:
    values = gates.wide(values)
    if values.ndim not in ranks or 0 in values.shape:
        axes = " or ".join(map(str, ranks))
        raise ValueError(
            f"`{name}` has shape {values.shape}; expected {axes} axes, none empty."
        )
    return values


def _check_same(name: str, values: jax.Array, other: str, like: jax.Array) -> None:
    if values.shape != like.shape:
        raise ValueError(
            f"`{name}` has shape {values.shape}; expected {like.shape}, as `{other}`."
        )


def _several(name: str, values: jax.Array, axis: int, what: str = "parts") -> int:
    if values.shape[axis] < 2:
        raise ValueError(f"`{name}` has one of the {what}; expected two or more.")
    return values.shape[axis]


def _counted(rows: jax.Array, weight: PerImage | None) -> tuple[jax.Array, jax.Array]:
    """Put zeros for rows of weight 0: a NaN there would reach gradients."""
    weight = gates.wide(jnp.ones(rows.shape[0]) if weight is None else weight)
    counts = (weight > 0).reshape((-1,) + (1,) * (rows.ndim - 1))
    return jnp.where(counts, rows, 0), weight


def _entropy(shares: jax.Array) -> jax.Array:
    """Compute it over the last axis; 0 log 0 is 0, and has no slope."""
    nothing = shares <= 0
    logs = jnp.log(jnp.where(nothing, 1, shares))
    return -jnp.sum(jnp.where(nothing, 0, shares * logs), axis=-1)


def _scaled(values: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    """Divide by the largest size, a constant for gradients; zeros stay zeros."""
    largest = jnp.max(jnp.abs(values), axis=axes, keepdims=True)
    nothing = largest < jnp.finfo(values.dtype).tiny
    largest = jax.lax.stop_gradient(jnp.where(nothing, 1, largest))
    return jnp.where(nothing, 0, values / largest)


def _unit(vectors: jax.Array) -> jax.Array:
    """Divide rows by their norm, however small or large; zeros stay zeros."""
    vectors = _scaled(vectors, -1)
    square = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(square == 0, 1, square))


def _variance(masses: jax.Array) -> jax.Array:
    """Compute `[batch, parts]` from masses with sum 1 on a line of cells."""
    count = masses.shape[1]
    places = ((jnp.arange(count) + 0.5) / count).reshape((1, count, 1))
    centre = jnp.sum(masses * places, axis=1, keepdims=True)
    return jnp.sum(masses * (places - centre) ** 2, axis=1)


def _moves(
    name: str, shift: Array | int, flip: Array | bool, batch: int, count: int
) -> jax.Array:
    """Say where cells come from: `[batch, to, from]` of 0 and 1."""
    if isinstance(shift, int) and abs(shift) >= count:
        raise ValueError(f"`{name}`={shift}; expected a shift by less than {count}.")
    shift, flip = (jnp.reshape(jnp.asarray(v), (-1, 1, 1)) for v in (shift, flip))
    to, before = jnp.arange(count)[None, :, None], jnp.arange(count)[None, None]
    before = jnp.where(flip, count - 1 - before, before)
    moves = (to - shift == before).astype(jnp.float32)
    return jnp.broadcast_to(moves, (batch, count, count))

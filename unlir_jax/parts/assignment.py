"""Parts as a quadratic assignment: each part takes one region of every image."""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from unlir_jax.core import choices
from unlir_jax.types import Array, RandomKey

Solver = Literal["hungarian", "ipfp", "soft_assign"]
Scores = Float[Array, "*images parts regions"]
Matching = Float[Array, "images parts regions"]
Regions = Float[Array, "images regions channels"]
Parts = Float[Array, "parts channels"]
Mean = Float[Array, " channels"]

# Gold and Rangarajan, A Graduated Assignment Algorithm for Graph Matching, PAMI 1996.
FIRST_BETA, BETA_RATE, LAST_BETA = 0.5, 1.075, 10.0


class Solution(NamedTuple):
    """Hold what `solve` found.

    `parts` is `[count, channels]`; `matching` is `[images, count, regions]` of zeros
    and ones; `objective` is `[steps + 1]`, J before each step and after the last.
    """

    parts: Array
    matching: jax.Array
    objective: jax.Array


def check_room(parts: int, regions: int) -> None:
    """Refuse what no matching can satisfy.

    Raises:
        ValueError: More parts than regions.
    """
    if not 1 <= parts <= regions:
        raise ValueError(
            f"{parts} parts for {regions} regions an image: more parts than regions; "
            "expected 1 to as many parts as regions, since each part takes a region of "
            "its own."
        )


def sinkhorn(
    scores: Scores, *, beta: float | jax.Array = 10.0, iterations: int = 30
) -> jax.Array:
    """Match softly: `argmax_M beta <M, scores> + entropy(M)` over partial matchings.

    Each part's row sums to one; each region's column to at most one, a slack row
    taking the rest with its own entropy (Sinkhorn 1967; slack as in Gold and
    Rangarajan 1996). Computed with logarithms; what finitely many iterations leave
    over is rounded away (Altschuler, Weed and Rigollet, NeurIPS 2017, Algorithm 2), so
    that both constraints hold for any number of them.

    Args:
        scores: `[..., parts, regions]`, `parts <= regions`.
        beta: Inverse temperature; large is decisive.
        iterations: How often rows and columns are normalised in turn.

    Returns:
        `[..., parts, regions]` in [0, 1].

    Raises:
        ValueError: More parts than regions.
    """
    scores = jnp.asarray(scores)
    parts, regions = scores.shape[-2:]
    check_room(parts, regions)
    logits = beta * (scores - jnp.max(scores, axis=(-2, -1), keepdims=True))
    balanced = _balance(_with_slack(logits), parts, iterations)
    return _round(jnp.exp(balanced[..., :parts, :]))


def _with_slack(logits: jax.Array) -> jax.Array:
    """Add a row of zeros for regions without a part, if there must be such regions."""
    parts, regions = logits.shape[-2:]
    room = [(0, 0)] * (logits.ndim - 2) + [(0, int(regions > parts)), (0, 0)]
    return jnp.pad(logits, room)


def _balance(logits: jax.Array, parts: int, iterations: int) -> jax.Array:
    """Normalise rows and columns in turn, a slack row being the last if there is one.

    All mass is `regions`, of which the parts hold `parts`, so the slack row holds
    `regions - parts`: scaling it to that leaves the fixed point where it is, and gets
    there sooner.
    """
    rows, regions = logits.shape[-2:]
    target = jnp.zeros((rows, 1))
    if rows > parts:
        target = target.at[-1].set(math.log(regions - parts))
    target = target.reshape((1,) * (logits.ndim - 2) + (rows, 1))

    def step(logits, _):
        rows_done = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True) + target
        total = jax.nn.logsumexp(rows_done, axis=-2, keepdims=True)
        return rows_done - total, None

    return jax.lax.scan(step, logits, None, length=iterations)[0]


def _round(matching: jax.Array) -> jax.Array:
    """Scale down what is too much, then hand out what is missing in proportion."""
    rows = jnp.sum(matching, axis=-1, keepdims=True)
    matching = matching / jnp.maximum(rows, 1)
    columns = jnp.sum(matching, axis=-2, keepdims=True)
    matching = matching / jnp.maximum(columns, 1)
    missing = jnp.maximum(1 - jnp.sum(matching, axis=-1, keepdims=True), 0)
    room = jnp.maximum(1 - jnp.sum(matching, axis=-2, keepdims=True), 0)
    total = jnp.sum(room, axis=-1, keepdims=True)
    return matching + missing * room / jnp.where(total > 0, total, 1)


def hungarian(scores: Scores) -> jax.Array:
    """Match exactly: the one-to-one matching of largest total score of each image.

    Ties go to either region. Costs `parts^2 regions` steps an image (optax's
    Hungarian algorithm, after Scenic).

    Args:
        scores: `[..., parts, regions]`, finite, `parts <= regions`.

    Returns:
        Zeros and ones, `[..., parts, regions]`: rows sum to one, columns to at most
        one.

    Raises:
        ValueError: More parts than regions.
    """
    scores = jnp.asarray(scores, jnp.float32)
    parts, regions = scores.shape[-2:]
    check_room(parts, regions)

    def one(scores):
        rows, columns = optax.assignment.hungarian_algorithm(-scores)
        return jnp.zeros((parts, regions)).at[rows, columns].set(1.0)

    blocks = scores.reshape((-1, parts, regions))
    # Side by side, all images wait for the slowest: on CPU that is seven times slower.
    each = jax.default_backend() == "cpu"
    matched = jax.lax.map(one, blocks) if each else jax.vmap(one)(blocks)
    return matched.reshape(scores.shape)


def soft_assign(
    scores: Scores,
    *,
    beta: float = FIRST_BETA,
    rate: float = BETA_RATE,
    final: float = LAST_BETA,
    iterations: int = 30,
) -> jax.Array:
    """Match by deterministic annealing, then discretise.

    `sinkhorn` at `beta`, `rate beta`, … up to `final`, each from the balance of the one
    before (Gold and Rangarajan 1996), on scores brought to [0, 1] in each image so
    that these temperatures mean the same for any descriptor. The matching nearest to
    the last soft one is given.

    Args:
        scores: `[..., parts, regions]`, `parts <= regions`.
        beta: First inverse temperature.
        rate: Its growth, above one.
        final: Last inverse temperature.
        iterations: Normalisations at each.

    Returns:
        Zeros and ones, `[..., parts, regions]`, as `hungarian` gives.

    Raises:
        ValueError: More parts than regions, or a schedule that never ends.
    """
    scores = _unit_range(jnp.asarray(scores, jnp.float32))
    parts, regions = scores.shape[-2:]
    check_room(parts, regions)
    betas = _schedule(beta, rate, final)

    def step(balanced, growth):
        # The sums that were balanced for one temperature are a start for the next.
        return _balance(growth * balanced, parts, iterations), None

    start = _balance(_with_slack(beta * scores), parts, iterations)
    balanced, _ = jax.lax.scan(step, start, betas[1:] / betas[:-1])
    return hungarian(_round(jnp.exp(balanced[..., :parts, :])))


def _schedule(beta: float, rate: float, final: float) -> jax.Array:
    if not (0 < beta <= final and rate > 1):
        raise ValueError(
            f"`beta`={beta}, `rate`={rate}, `final`={final}; expected 0 < beta <= "
            "final and rate > 1."
        )
    count = math.ceil(math.log(final / beta) / math.log(rate))
    return jnp.minimum(beta * rate ** jnp.arange(count + 1), final)


def _unit_range(scores: jax.Array) -> jax.Array:
    """Bring each image's scores to [0, 1]; equal scores give zeros."""
    low = jnp.min(scores, axis=(-2, -1), keepdims=True)
    span = jnp.max(scores, axis=(-2, -1), keepdims=True) - low
    return (scores - low) / jnp.where(span > 0, span, 1)


def part_models(
    matching: Matching, regions: Regions, mean: Mean | None = None
) -> Parts:
    """Average each part's regions: `w_p = 1/n sum_ir m_ipr x_ir - mean`.

    The LDA part of section 1.3's ancestors in whitened space, where the covariance is
    the identity.

    Args:
        matching: `[images, parts, regions]`, rows that sum to one; soft or not.
        regions: Whitened, `[images, regions, channels]`.
        mean: Mean region over many images; zero without it, as whitening makes it.

    Returns:
        `[parts, channels]`.
    """
    total = jnp.einsum("ipr,irc->pc", matching, regions, precision="highest")
    average = total / len(regions)
    return average if mean is None else average - jnp.asarray(mean)[None]


def qap_objective(
    matching: Matching, regions: Regions, mean: Mean | None = None
) -> Float[jax.Array, ""]:
    """Compute `J(M) = sum_p sum_ir m_ipr <w_p(M), x_ir>`.

    How well parts fit the regions that they are made of: the quadratic assignment of
    Sicre et al. (arXiv 1611.04413), `<M, M Q>` with
    `Q = X' inv(S) (X - mean) / n`, in whitened space. Arguments as in `part_models`.

    Note:
        A reconstruction: the published text is not openly readable.
    """
    parts = part_models(matching, regions, mean)
    total = jnp.einsum("ipr,irc->pc", matching, regions, precision="highest")
    return jnp.sum(parts * total)


def solve(
    regions: Regions,
    count: int,
    *,
    solver: Solver = "hungarian",
    initial: Parts | None = None,
    key: RandomKey | None = None,
    mean: Mean | None = None,
    steps: int = 10,
) -> Solution:
    """Find parts that each take one region of every image, and fit what they take.

    `hungarian` alternates between parts `w(M)` and the best matching for their scores
    `G = <w_p, x_r> = (M Q')_pr`. `ipfp` (Leordeanu, Hebert and Sukthankar, Integer
    Projected Fixed Point, NeurIPS 2009) starts from a soft matching and follows the
    true gradient `M (Q + Q')` with an exact line search; only this one is sure to raise
    J where `mean` is not zero. `soft_assign`
    recomputes G at each temperature of Gold and Rangarajan, `steps` temperatures from
    0.5 to 10, then discretises; the hot ones make parts alike, so that it forgets most
    of where it started.

    Args:
        regions: Whitened, `[images, regions, channels]`.
        count: How many parts, at most `regions`.
        solver: `hungarian`, `ipfp` or `soft_assign`.
        initial: Parts to start from, `[count, channels]`, such as k-means centres.
        key: Without `initial`: draws one image, and `count` regions of it.
        mean: As in `part_models`.
        steps: Iterations; rate 1.075 takes soft_assign 42 of them, fewer go faster.

    Raises:
        ValueError: More parts than regions, an unknown solver, no steps, or neither or
            both of `initial` and `key`.
    """
    regions = jnp.asarray(regions, jnp.float32)
    images, room, channels = regions.shape
    check_room(count, room)
    choices.check("solver", solver, Solver)
    if steps < 1:
        raise ValueError(f"`steps`={steps}; expected 1 or more.")
    if initial is not None and key is None:
        start = jnp.asarray(initial)
    elif initial is None and key is not None:
        which, order = jax.random.split(key)
        image = regions[jax.random.randint(which, (), 0, images)]
        start = image[jax.random.permutation(order, room)[:count]]
    else:
        raise ValueError(
            "`initial` and `key` are both given or both None; expected parts to start "
            "from, or a key to draw them."
        )
    if start.shape != (count, channels):
        raise ValueError(
            f"`initial` has shape {start.shape}; expected {(count, channels)}: "
            "`count` parts with the regions' channels."
        )
    mean = jnp.zeros(channels) if mean is None else jnp.asarray(mean)
    return _SOLVERS[solver](regions, start, mean, steps)


def _scores(parts: Array, regions: jax.Array) -> jax.Array:
    return jnp.einsum("pc,irc->ipr", parts, regions, precision="highest")


@functools.partial(jax.jit, static_argnames=("steps",))
def _alternate(
    regions: jax.Array, parts: jax.Array, mean: jax.Array, steps: int
) -> Solution:
    def step(matching, _):
        parts = part_models(matching, regions, mean)
        return hungarian(_scores(parts, regions)), qap_objective(
            matching, regions, mean
        )

    matching = hungarian(_scores(parts, regions))
    return _finish(*jax.lax.scan(step, matching, None, length=steps), regions, mean)


@functools.partial(jax.jit, static_argnames=("steps",))
def _ipfp(
    regions: jax.Array, parts: jax.Array, mean: jax.Array, steps: int
) -> Solution:
    def step(matching, _):
        # With a = M's average region, J = n sum_p (|a_p|^2 - <mean, a_p>).
        average = part_models(matching, regions)
        target = hungarian(_scores(2 * average - mean[None], regions))
        # On the way to the target J = J(M) + slope t + bend t^2. The slope is no less
        # than 0, for the target is best along the gradient; the bend is the change's
        # squared length. So the line search ends at t = 1, always on a matching.
        return target, qap_objective(matching, regions, mean)

    matching = sinkhorn(_unit_range(_scores(parts, regions)))
    matching, objective = jax.lax.scan(step, matching, None, length=steps)
    return _finish(matching, objective, regions, mean)


@functools.partial(jax.jit, static_argnames=("steps",))
def _anneal(
    regions: jax.Array, parts: jax.Array, mean: jax.Array, steps: int
) -> Solution:
    def step(matching, beta):
        scores = _unit_range(_scores(part_models(matching, regions, mean), regions))
        objective = qap_objective(matching, regions, mean)
        return sinkhorn(scores, beta=beta), objective

    betas = jnp.geomspace(FIRST_BETA, LAST_BETA, steps)
    matching = sinkhorn(_unit_range(_scores(parts, regions)))
    matching, objective = jax.lax.scan(step, matching, betas)
    return _finish(hungarian(matching), objective, regions, mean)


def _finish(
    matching: jax.Array, objective: jax.Array, regions: jax.Array, mean: jax.Array
) -> Solution:
    last = qap_objective(matching, regions, mean)
    parts = part_models(matching, regions, mean)
    return Solution(parts, matching, jnp.append(objective, last))


_SOLVERS = {"hungarian": _alternate, "ipfp": _ipfp, "soft_assign": _anneal}

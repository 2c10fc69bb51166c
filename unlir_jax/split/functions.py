"""Cut models of two functions, and join their halves again."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from unlir_jax.core import compilation, loops, memoize
from unlir_jax.split import tokens as layouts
from unlir_jax.types import Features, Images, Logits, PyTree, SplitModel, Variables

BLACK = (0.0, 0.0, 0.0)
Output = int | str | Callable[[PyTree], Logits] | None
"""Which of a network's results are the logits: a place, a key, or a function."""


def from_functions(
    features: Callable[[Variables, Images], PyTree],
    head: Callable[[Variables, PyTree], PyTree],
    *,
    mean: tuple[float, ...] = BLACK,
    tokens: layouts.Layout | None = None,
    output: Output = None,
) -> SplitModel:
    """Make a cut model of two pure functions, whatever they are written in.

    Args:
        features: `(variables, images) -> maps`, or `Features(maps, context)`.
        head: `(variables, maps) -> logits`; it receives `Features` if that is what
            `features` returns.
        mean: The colour in [0, 1] that the network sees as zero.
        tokens: Layout of `[batch, tokens, channels]`, which explainers then see as
            maps: `(leading, grid)`, see `Tokens`.
        output: Place or key of the logits, or a function that gives them, where the
            network has several outputs.

    Raises:
        ValueError: A layout that is none. When the functions are first called: tokens
            that do not fit it, or several outputs of which none is chosen.

    Example:
        >>> from unlir_jax import split
        >>> import jax.numpy as jnp
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> maps = model.features({}, jnp.ones((1, 2, 2, 3)))
        >>> model.head({}, maps).tolist()  # The logits are the mean colour.
        [[1.0, 1.0, 1.0]]
    """

    def cut_features(variables: Variables, images: Images) -> Features:
        result = features(variables, images)
        return result if isinstance(result, Features) else Features(result, _PLAIN)

    def cut_head(variables: Variables, cut: Features) -> PyTree:
        plain = isinstance(cut.context, _Plain)
        return head(variables, cut.maps if plain else cut)

    return cut(cut_features, cut_head, mean, tokens, output)


def cut(
    features: Callable[[Variables, Images], Features],
    head: Callable[[Variables, Features], PyTree],
    mean: tuple[float, ...],
    tokens: layouts.Layout | None = None,
    output: Output = None,
    *,
    in_chunks: bool = False,
    plain: Callable[[Variables, Images], PyTree] | None = None,
) -> SplitModel:
    """Compile two halves, and keep them apart in programs that have both.

    Args:
        features: The first half.
        head: The second half.
        mean: The colour in [0, 1] that the network sees as zero.
        tokens: See `from_functions`; tokens that lead cross the cut as context.
        output: See `from_functions`.
        in_chunks: Whether a CPU's host may run it on a few images of a batch at a time,
            as no image's result depends on the others.
        plain: `(variables, images) -> results` of the whole network, where its halves
            run some of it twice.
    """
    layout = None if tokens is None else layouts.check(tokens)

    def first(variables: Variables, images: Images) -> Features:
        found = features(variables, images)
        if layout is not None:
            grid, leading = layouts.to_grid(found.maps, layout)
            found = Features(grid, (leading, found.context))
        # Or a NaN would be lost between a ReLU and what pools it, see `compilation`.
        return found._replace(maps=compilation.separate(found.maps))

    def second(variables: Variables, cut: Features) -> Logits:
        if layout is not None:
            leading, context = cut.context
            cut = Features(layouts.from_grid(cut.maps, leading), context)
        return chosen(head(variables, cut), output)

    def run(variables: Variables, images: Images) -> Logits:
        if plain is not None:
            return chosen(plain(variables, images), output)
        return chosen(head(variables, features(variables, images)), output)

    compiled = jax.jit(first)
    compiled = _in_chunks(compiled) if in_chunks else compiled
    return SplitModel(compiled, jax.jit(second), tuple(mean), run=run)


def _in_chunks(
    first: Callable[[Variables, Images], Features],
) -> Callable[[Variables, Images], Features]:
    """Run no more images at once than stay in a CPU's caches; memory is less, too."""

    def features(variables: Variables, images: Images) -> Features:
        count = len(images)
        few = loops.few_enough(count, images.shape[1:3], "auto", variables, images)
        devices = getattr(images, "devices", set)
        if few >= count or len(devices()) > 1:
            return first(variables, images)
        size = -(-count // -(-count // few))
        # The last chunk is as long as the others, and starts earlier.
        starts = [min(start, count - size) for start in range(0, count, size)]
        found = [first(variables, images[start : start + size]) for start in starts]
        return _joined(found, count)

    return features


@functools.partial(jax.jit, static_argnums=1)
def _joined(chunks: Sequence[Features], count: int) -> Features:
    """Put chunks together, the last of which may begin among those before it."""

    def join(*parts: jax.Array) -> jax.Array:
        *before, last = parts
        left = count - sum(len(part) for part in before)
        return jnp.concatenate([*before, last[len(last) - left :]])

    return jax.tree.map(join, *chunks)


def chosen(results: PyTree, output: Output) -> Logits:
    """Give the logits among a network's results."""
    if output is not None:
        try:
            results = output(results) if callable(output) else results[output]
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"`output`={output!r} cannot be taken from {_said(results)} "
                f"({type(error).__name__}: {error}); expected the place or key of the "
                "logits, or a function that gives them."
            ) from error
    if not hasattr(results, "shape"):
        raise ValueError(
            f"The network gives {_said(results)}; expected one array of logits: "
            "`output` chooses it, by a place, a key or a function."
        )
    return results


def _said(results: PyTree) -> str:
    kind = type(results).__name__
    if isinstance(results, dict):
        return f"a {kind} with {', '.join(map(repr, results)) or 'nothing'}"
    if isinstance(results, tuple | list):
        return f"a {kind} of {len(results)}"
    if hasattr(results, "shape"):
        return f"an array of shape {results.shape}"
    return f"a {kind}"


@jax.tree_util.register_static
class _Plain:
    """Mark features whose head takes the bare maps."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plain)

    def __hash__(self) -> int:
        return hash(_Plain)


_PLAIN = _Plain()


@memoize.remember
def whole(model: SplitModel) -> Callable[[Variables, Images], Logits]:
    """Join the two halves again, compiled: `(variables, images) -> logits`.

    All logits of an image are NaN where one of them is, or is infinitely high: its
    probabilities mean nothing then.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> split.whole(model)({}, jnp.ones((1, 2, 2, 3))).tolist()
        [[1.0, 1.0, 1.0]]
    """

    @jax.jit
    def decide(variables: Variables, features: Features) -> Logits:
        logits = jnp.asarray(model.head(variables, features))
        # As a factor, so that the gradient is NaN as well.
        return logits * jnp.where(meaningless(logits), jnp.nan, 1).astype(logits.dtype)

    # Two programs: explainers use the first as well, which takes long to compile.
    def network(variables: Variables, images: Images) -> Logits:
        return decide(variables, model.features(variables, images))

    return network


def meaningless(logits: Logits) -> jax.Array:
    """Tell of which images a logit is NaN or infinitely high: `[batch, 1, ...]`.

    One of minus infinity is a class that cannot be.
    """
    wrong = jnp.isnan(logits) | (logits == jnp.inf)
    return jnp.any(wrong, axis=tuple(range(1, logits.ndim)), keepdims=True)

"""Does the map depend on what the network has learned?

Randomise its parameters, from the head backwards or one layer alone, or explain a
network that was trained on random labels: a map that stays the same does not explain
the network.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim, *Sanity checks for saliency maps*,
NeurIPS 2018, Sections 4 and 5.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Integer

from unlir_jax import maps, tree
from unlir_jax.metrics.sanity.similarity import similarities
from unlir_jax.types import (
    Array,
    Explainer,
    Images,
    Labels,
    RandomKey,
    Variables,
)

Randomization = Literal["cascading", "independent"]
Redraw = Callable[[str, jax.Array, RandomKey], jax.Array]

ONES = ("scale", "var")
SMALLEST = 48


def layers(variables: Variables, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Assign every leaf to a layer: the deepest path of `order` that it lies under.

    Args:
        variables: The network's.
        order: Paths of modules or parts of them from the image to the head, such as
            `split.module_paths` lists or `("stem", "layer1", ..., "classifier")`;
            without the name of the collection.

    Returns:
        Paths of leaves by layer, in the order given; layers without leaves are left
        out.

    Raises:
        ValueError: A leaf lies under no path.
    """
    found: dict[str, list[str]] = {path: [] for path in order}
    lost = []
    for leaf in tree.flatten(variables):
        # "params/conv/kernel" lies under "conv", and so does "conv/kernel".
        names = (leaf, leaf.partition("/")[2])
        homes = [
            path
            for path in order
            if any(name == path or name.startswith(f"{path}/") for name in names)
        ]
        if homes:
            found[max(homes, key=len)].append(leaf)
        else:
            lost.append(leaf)
    if lost:
        raise ValueError(
            f"`order` has no layer for {', '.join(lost[:5])}"
            f"{' and others' if len(lost) > 5 else ''}; expected paths that cover all "
            f"parameters, got {', '.join(order) or 'none'}."
        )
    return {path: tuple(leaves) for path, leaves in found.items() if leaves}


def cascading(
    variables: Variables, fresh: Variables, order: Sequence[str]
) -> Iterator[tuple[str, Variables]]:
    """Randomise layer after layer, from the head backwards: all behind stay random.

    Args:
        variables: The network's.
        fresh: Variables of the same structure that have learned nothing: of `redraw`,
            or of the network's own initialiser.
        order: See `layers`.

    Yields:
        The layer last randomised and the variables; the last have nothing left of the
        network.

    Raises:
        ValueError: As `layers`, or `fresh` differs in structure.
    """
    return _randomized(variables, fresh, order, together=True)


def independent(
    variables: Variables, fresh: Variables, order: Sequence[str]
) -> Iterator[tuple[str, Variables]]:
    """Randomise one layer at a time, from the head backwards, and keep all others.

    As `cascading` in all else.
    """
    return _randomized(variables, fresh, order, together=False)


def _randomized(
    variables: Variables, fresh: Variables, order: Sequence[str], *, together: bool
) -> Iterator[tuple[str, Variables]]:
    owned, drawn = layers(variables, order), tree.flatten(fresh)
    known = tree.flatten(variables)
    if {k: jnp.shape(v) for k, v in drawn.items()} != {
        k: jnp.shape(v) for k, v in known.items()
    }:
        raise ValueError(
            "`fresh` has other paths or shapes than `variables`; expected another "
            "initialisation of the same network."
        )
    changed: set[str] = set()
    for path in reversed(owned):
        changed = changed | set(owned[path]) if together else set(owned[path])

        def choose(
            leaf: str, value: Any, changed: frozenset[str] = frozenset(changed)
        ) -> Any:
            return drawn[leaf] if leaf in changed else value

        yield path, tree.map_with_path(choose, variables)


def redraw(variables: Variables, key: RandomKey) -> Variables:
    """Draw variables that have learned nothing, each leaf from its own key.

    Kernels are normal with variance `2 / fan_in` (He et al. 2015); vectors and scalars
    called `scale` or `var` are 1 and all others 0, as networks start.

    Args:
        variables: Whose structure and shapes are taken.
        key: The same key gives the same variables, whatever the order of leaves.
    """

    def draw(path: str, leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
            ones = path.rpartition("/")[2] in ONES
            return jnp.ones_like(leaf) if ones else jnp.zeros_like(leaf)
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        deviation = math.sqrt(2 / math.prod(leaf.shape[:-1]))
        return deviation * jax.random.normal(own, leaf.shape, leaf.dtype)

    return tree.map_with_path(draw, variables)


def permute_labels(labels: Integer[Array, " n"], key: RandomKey) -> jax.Array:
    """Shuffle labels among pictures, for training a network that learns no class.

    How often each class occurs stays the same. Train on the result until the network
    fits it, explain both networks, and compare by `similarity.similarities`: the test
    of random labels (Section 5).
    """
    return jax.random.permutation(key, jnp.asarray(labels))


def parameter_randomization(
    explain: Explainer,
    variables: Variables,
    fresh: Variables,
    order: Sequence[str],
    images: Images,
    labels: Labels,
    *,
    kind: Randomization = "cascading",
    absolute: bool = False,
    key: RandomKey | None = None,
) -> dict[str, dict[str, jax.Array]]:
    """Compare the maps of a network with those of its randomised versions.

    Args:
        explain: What makes the maps.
        variables: The network's.
        fresh: See `cascading`.
        order: See `layers`.
        images: `[batch, height, width, channels]`.
        labels: What is explained, the same for all versions.
        kind: `cascading` or `independent`.
        absolute: Whether signs of maps are dropped before they are compared.
        key: Given to the explainer, each time the same: a random one then differs by
            the network alone.

    Returns:
        By layer, from the head backwards, what `similarities` gives. A map that
        depends on the network goes towards 0.

    Raises:
        ValueError: As `cascading`, or an unknown kind.
    """
    if kind not in get_args(Randomization):
        raise ValueError(
            f"`kind`={kind!r} is unknown; expected one of {get_args(Randomization)}."
        )
    height, width = images.shape[1:3]
    # Small maps are enlarged to what the histograms need.
    size = max(height, SMALLEST), max(width, SMALLEST)
    versions = cascading if kind == "cascading" else independent
    original = maps.resize(explain(variables, images, labels, key=key), size)
    found = {}
    for path, version in versions(variables, fresh, order):
        other = maps.resize(explain(version, images, labels, key=key), size)
        found[path] = similarities(original, other, absolute=absolute)
    return found

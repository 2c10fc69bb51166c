"""Pytrees by path: `"block3/expand/conv/kernel"` names a leaf."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import PyTree


def path_of(key_path: Iterable[object]) -> str:
    """Write a JAX key path as names joined by slashes."""
    return jax.tree_util.keystr(tuple(key_path), simple=True, separator="/")


def listed(tree: PyTree) -> dict[str, PyTree]:
    """List the leaves of a tree by path, where a name may be a path itself.

    So are the parameters in the state of an optimiser, see `optim.split_by_rule`.

    Raises:
        ValueError: Two leaves have one path.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    found = {path_of(key_path): leaf for key_path, leaf in leaves}
    if len(found) < len(leaves):
        paths = [path_of(key_path) for key_path, _ in leaves]
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"The tree has two leaves of one path, `{twice}`; expected names without "
            "a slash: rename the module."
        )
    return found


def flatten(tree: PyTree) -> dict[str, PyTree]:
    """List the leaves of a tree by path, in the tree's own order.

    Raises:
        ValueError: Two leaves have one path; or a name holds a slash, which Linen
            accepts, so that a path does not say what lies in what.
    """
    found = listed(tree)
    for key_path, _ in jax.tree_util.tree_leaves_with_path(tree):
        if path_of(key_path).count("/") >= max(1, len(key_path)):
            names = [path_of([key]) for key in key_path]
            wrong = next(name for name in names if "/" in name)
            raise ValueError(
                f"The tree has the name {wrong!r} on the path `{path_of(key_path)}`; "
                "expected names without a slash, which stands between the names of a "
                "path: rename the module."
            )
    return found


def unflatten(leaves: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Build nested dictionaries from leaves named by path; the inverse of `flatten`.

    Raises:
        ValueError: One name is both a leaf and a folder of leaves.
    """
    tree: dict[str, PyTree] = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"`{path}` lies under `{folder}`, which is a leaf.")
        if name in node:
            raise ValueError(f"`{path}` is both a leaf and a folder of leaves.")
        node[name] = leaf
    return tree


def map_with_path(function: Callable[[str, PyTree], PyTree], tree: PyTree) -> PyTree:
    """Apply `function(path, leaf)` to every leaf.

    Raises:
        ValueError: As `flatten`.
    """
    changed = [function(path, leaf) for path, leaf in flatten(tree).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), changed)


def select(tree: PyTree, pattern: str) -> dict[str, PyTree]:
    """List the leaves whose whole path matches a regular expression.

    Raises:
        ValueError: Nothing matches; the message lists the paths there are.
    """
    leaves = flatten(tree)
    chosen = {
        path: leaf for path, leaf in leaves.items() if re.fullmatch(pattern, path)
    }
    if not chosen:
        raise ValueError(
            f"`pattern`={pattern!r} matches no leaf; the tree has: "
            f"{', '.join(leaves) or 'no leaves at all'}."
        )
    return chosen


def count(tree: PyTree) -> int:
    """Count the numbers in a tree, for example a network's parameters."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))


def sha256(tree: PyTree) -> str:
    """Hash names, types, shapes and bytes of all leaves: one identity for weights."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(tree).items()):
        # Keys of random numbers are among the variables of an NNX module.
        kind = getattr(leaf, "dtype", np.dtype(object))
        key = jnp.issubdtype(kind, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf)
        digest.update(f"{path}:{array.dtype.name}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

"""Comparisons that many tests make, and calls that compile once."""

import jax
import numpy as np
import pytest

from unlir_jax import tree


def applied(module):
    """Compile `module.apply` as one program, where each operation alone is one."""
    return jax.jit(module.apply, static_argnames="method")


def same(actual, expected):
    """Compare two trees bit by bit: structure, types and values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    found = tree.listed(actual)
    for path, leaf in tree.listed(expected).items():
        one, other = np.asarray(found[path]), np.asarray(leaf)
        assert one.dtype == other.dtype and one.shape == other.shape, path
        assert one.tobytes() == other.tobytes(), path


def close(actual, expected, rtol=1e-5, atol=1e-6):
    """Compare two trees of arrays, or of lists of numbers, within a tolerance."""
    actual, expected = (
        jax.tree.map(np.asarray, whole, is_leaf=lambda leaf: isinstance(leaf, list))
        for whole in (actual, expected)
    )
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    found = tree.listed(actual)
    for path, leaf in tree.listed(expected).items():
        np.testing.assert_allclose(found[path], leaf, rtol, atol, err_msg=path)


def refused(match, function, *arguments, kind=ValueError, **settings):
    """Expect one sentence that says why a call is refused."""
    with pytest.raises(kind, match=match) as caught:
        function(*arguments, **settings)
    assert "\n" not in str(caught.value)

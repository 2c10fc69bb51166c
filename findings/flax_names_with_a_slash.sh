#!/bin/sh
# Flax accepts a submodule named `a/b`, and `flatten_dict(sep="/")` loses a leaf by it.
#
# The path of `{"a/b": {"kernel"}}` is that of `{"a": {"b": {"kernel"}}}`: two leaves of
# one path become one, without a word, and `unflatten_dict` does not give back what was.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1 flax==0.12.12
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import flax
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="b")(x)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Inner(name="a")(nn.Dense(3, name="a/b")(x))


params = Network().init(jax.random.key(0), jnp.ones((1, 3)))["params"]
flat = traverse_util.flatten_dict(params, sep="/")
back = traverse_util.unflatten_dict(flat, sep="/")
before, after = (len(jax.tree.leaves(tree)) for tree in (params, back))
print("flax", flax.__version__, "jax", jax.__version__)
print("modules:", sorted(params), "| paths:", sorted(flat))
print("leaves:", before, "| after flatten_dict and unflatten_dict:", after)
same = (before, after) == (4, 2)
print("two leaves are lost" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

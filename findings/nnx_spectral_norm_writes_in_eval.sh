#!/bin/sh
# `nnx.SpectralNorm` writes the wrapped layer's kernel when it evaluates, too.
#
# It divides the parameter by its largest singular value in place, whatever
# `update_stats` says. After `eval()`, a look at an input changes the weights: a
# checkpoint saved after it is not the one that was loaded. Linen's SpectralNorm
# computes the quotient and leaves the parameter alone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1 flax==0.12.12
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

layer = nnx.SpectralNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
layer.eval()
values = jnp.ones((1, 4))
before = np.array(layer.layer_instance.kernel[...])
layer(values, update_stats=False)
after = np.array(layer.layer_instance.kernel[...])
print("flax", flax.__version__, "jax", jax.__version__)
print("kernel before:", before[0].round(4), "| after:", after[0].round(4))
written = not np.allclose(before, after)
print("eval() writes weights" if written else "the behaviour has changed")
raise SystemExit(0 if written else 1)
PYTHON

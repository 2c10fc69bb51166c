#!/bin/sh
# A reduction that is compiled for CPU loses NaN: the mean of relu(NaN) is 0, the largest
# of NaNs is -inf.
#
# `maximum` and `max` of NaN are NaN in NumPy, in StableHLO's specification (IEEE 754's
# maximum), and in JAX for each operation alone. jaxlib 0.12.0.1 merges a reduction over
# places with all that leads to it into one "ynn_fusion", whose maximum of NaN and a
# number is the number. So a network with a ReLU before its pooling turns pictures of NaN
# into logits that look like any others. `jnp.max` loses NaN even without `jax.jit`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

nan = jnp.full((2, 8, 8, 64), jnp.nan)


def pooled(x):
    return jnp.mean(jax.nn.relu(x), axis=(1, 2))


def held(x):
    return jnp.mean(jax.lax.optimization_barrier(jax.nn.relu(x)), axis=(1, 2))


def largest(x):
    return jnp.max(x, axis=(1, 2))


def value(found):
    return float(np.asarray(found)[0, 0])


eager, compiled = value(pooled(nan)), value(jax.jit(pooled)(nan))
barrier, most = value(jax.jit(held)(nan)), value(jax.jit(largest)(nan))
alone = value(largest(nan))
print("jax", jax.__version__)
print("mean of relu(NaN), one operation at a time:", eager, "| compiled:", compiled)
print("compiled with a barrier between them:", barrier)
print("largest of NaNs, compiled:", most, "| alone:", alone)
print("largest of NaNs in NumPy:", float(np.max(np.asarray(nan))))
same = np.isnan([eager, barrier]).all() and compiled == 0
same = same and most == alone == -np.inf
print("NaN is lost" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

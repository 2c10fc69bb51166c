#!/bin/sh
# XLA on CPU miscompiles a residual block in bfloat16: the sum that comes out is wrong.
#
# Two products of the same bfloat16 input, the first through a ReLU and a second product,
# are added, rectified and summed over places: what every ResNet does before its pooling.
# jaxlib 0.12.0.1 makes one "ynn_fusion" of all of it, and the sum is NaN or about 1e35.
# Each half alone is right, so is the whole in float32, and so is the whole with
# `jax.lax.optimization_barrier` before the sum. No flag of XLA that is said to make
# mathematics exact (`xla_cpu_enable_fast_math=false`) changes it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

random = np.random.default_rng(0)
x, first, second, other = (
    jnp.asarray(random.normal(size=shape), jnp.bfloat16)
    for shape in ((128, 32), (32, 64), (64, 64), (32, 64))
)


def block(x, barrier=False):
    kernels = (kernel.astype(x.dtype) for kernel in (first, second, other))
    one, two, beside = kernels
    found = jnp.maximum(jnp.maximum(x @ one, 0) @ two + x @ beside, 0)
    if barrier:
        found = jax.lax.optimization_barrier(found)
    return jnp.sum(found.astype(jnp.float32), axis=0)


right = np.asarray(jax.jit(block)(x.astype(jnp.float32)))


def error(found):
    return np.abs(np.asarray(found) - right).max() / right.max()


eager, held = error(block(x)), error(jax.jit(lambda x: block(x, True))(x))
compiled = error(jax.jit(block)(x))
print("jax", jax.__version__, "numpy", np.__version__)
print("largest error, as a share of the largest sum, against float32 compiled:")
print(f"bfloat16, one operation at a time {eager:.4f} | with a barrier {held:.4f}")
print(f"bfloat16, compiled as one program {compiled:.4g}")
same = eager < 0.05 and held < 0.05 and not compiled < 0.05
print("the compiled program is wrong" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

#!/bin/sh
# A compiled float division by one number is not the nearest float: 126 of 256 levels of
# an 8-bit image, divided by 255, differ from NumPy's.
#
# XLA multiplies by the reciprocal where one divisor serves a whole array, also where it
# is an argument that the compiler does not know. Two roundings make the last bit wrong.
# An array of equal divisors gives what NumPy gives.
# Source: tensorflow/tensorflow issue 24061 describes the rewriting, for its speed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.3.5
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jaxlib
import numpy as np

print("jax", jax.__version__, "jaxlib", jaxlib.__version__)
levels = np.arange(256, dtype=np.float32)
divisor = np.float32(255)
exact = levels / divisor
ways = {
    "constant": (lambda x: x / 255, (levels,)),
    "argument": (lambda x, y: x / y, (levels, divisor)),
    "array": (lambda x, y: x / y, (levels, np.full(256, divisor))),
}
differing = {}
for name, (divide, given) in ways.items():
    found = np.asarray(jax.jit(divide)(*given))
    differing[name] = int((found != exact).sum())
    print(f"{name}: {differing[name]} of 256 levels differ from NumPy's")
as_described = differing["constant"] and differing["argument"] and not differing["array"]
raise SystemExit(0 if as_described else 1)
PYTHON

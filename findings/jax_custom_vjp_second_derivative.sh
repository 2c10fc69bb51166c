#!/bin/sh
# A second derivative does not see the rule of `jax.custom_vjp`.
#
# The rule replaces the first derivative. Differentiating again goes through the
# ordinary code of the forward half and of the backward half. A straight-through
# estimator, squared, has the gradient 2 round(x) by the rule, and by the rule again the
# second derivative 2. JAX gives 0, the derivative of `round`. `jax.hessian`, forward
# over reverse, gives 0 as well, where forward mode of the function itself raises.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp


@jax.custom_vjp
def through(x):
    return jnp.round(x)


through.defvjp(lambda x: (jnp.round(x), None), lambda _, gradient: (gradient,))


def square(x):
    return through(x) ** 2


def chained(x):
    # The same with the rule written as ordinary code, to all orders.
    return (x + jax.lax.stop_gradient(jnp.round(x) - x)) ** 2


first = float(jax.grad(square)(2.2))
second = float(jax.grad(jax.grad(square))(2.2))
hessian = float(jax.hessian(square)(2.2))
ordinary = float(jax.grad(jax.grad(chained))(2.2))
try:
    jax.jvp(through, (2.2,), (1.0,))
    forward = "gives a number"
except TypeError as error:
    forward = f"TypeError: {str(error).split('.')[0][:60]}"
print("jax", jax.__version__)
print("grad", first, "| grad(grad)", second, "| hessian", hessian)
print("by stop_gradient, grad(grad) is", ordinary)
print("forward mode of the function:", forward)
same = (first, second, hessian, ordinary) == (4, 0, 0, 2) and "TypeError" in forward
print("the rule is of the first derivative" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON

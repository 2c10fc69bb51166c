"""FullGrad: the gradients of the image and of every bias, wherever biases hide.

A network is walked through in its traced equations. Each of them is `J inputs + r` at
the place where it is, and unrolling that gives, for every network,
`score = x * d score / d x + sum over equations of r * d score / d output`. In a network
of ReLUs the `r` are biases: of convolutions, of norms (running mean and shift), of the
standardisation of the image, and the 6 of a saturated ReLU6.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from unlir_jax import maps, split
from unlir_jax.core import equations, memoize
from unlir_jax.saliency import rectifiers
from unlir_jax.saliency.cam.cam import checked
from unlir_jax.saliency.spec import explainer, takes_target
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Images, Labels, PyTree, SplitModel, Variables

# Homogeneous of degree one in the inputs that depend on the image: no residual.
HOMOGENEOUS = (
    *("conv_general_dilated", "reshape", "transpose", "broadcast_in_dim", "squeeze"),
    *("slice", "dynamic_slice", "concatenate", "stack", "pad", "rev", "gather"),
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_window_sum", "expand_dims"),
    *("reduce_window_max", "reduce_window_min", "reduce_precision", "cumsum", "abs"),
    *("select_n", "split", "stop_gradient", "optimization_barrier"),
)
# These act on each element alone, and pass an offset on to what they give.
ELEMENTWISE = ("neg", "convert_element_type", "copy", "copy_p")


class FullGradient(NamedTuple):
    """Hold the complete decomposition of each image's score.

    `image` is `x * d score / d x`, `[batch, height, width, colours]`; `layers` has
    `sum_c |r g|` for each place with a bias, `[batch, rows, columns]`; `statistics`
    the sum, the least and the largest magnitude of `r g`, the number of its channels
    being in `channels`; `rest` is what comes from biases without a place, as in the
    classifier. `image`, the layers' sums and `rest` add up to `score`.
    """

    image: jax.Array
    layers: tuple[jax.Array, ...]
    statistics: tuple[jax.Array, ...]
    channels: tuple[int, ...]
    rest: jax.Array
    score: jax.Array
    classes: jax.Array


class _Traced(NamedTuple):
    """Hold a value of the walk, and an offset in it that was not yet accounted for."""

    value: PyTree
    offset: PyTree = None
    active: bool = False


Tap = Callable[[_Traced], jax.Array]


@explainer(
    title="FullGrad",
    family="cam",
    formula="input times gradient, and the contributions of all biases",
    passes="1 forward + backward",
    source="Srinivas and Fleuret, NeurIPS 2019",
    degree=0,
    representative=True,
)
def full_grad(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rescale: bool = True
) -> Explainer:
    """Add the image's and all biases' gradients: `psi(x g) + sum_layers psi(b g_b)`.

    `psi` takes magnitudes, brings each layer of an image into [0, 1], enlarges it to
    the image and adds its channels up. Where the network is cut makes no difference.

    Args:
        model: A convolutional network, channels last.
        score: Score to explain, see `scores.resolve`.
        rescale: Whether each layer is brought into [0, 1], as in the paper; without
            it layers count by their share of the score.

    References:
        Srinivas & Fleuret, *Full-Gradient Representation for Neural Network
        Visualization*, NeurIPS 2019, Eq. 2 and 5.

    Note:
        The score is decomposed completely, see `full_gradient`: the offsets of the
        image's standardisation and of saturated ReLU6s count as biases. Biases
        without a place (the classifier's) are not in the map, as in the paper.
    """
    explained = scores.resolve(score)
    decompose = _decomposition(model, explained)

    @jax.jit
    def run(variables, images, labels):
        found = decompose(variables, images, labels)
        size = images.shape[1:3]
        magnitude = jnp.abs(found.image)
        bounds = jnp.stack(
            [jnp.zeros(len(images), images.dtype), *_ends(magnitude)], axis=1
        )
        layers = [(magnitude.sum(-1), bounds, images.shape[-1])]
        layers += zip(found.layers, found.statistics, found.channels, strict=True)
        total = jnp.zeros(images.shape[:3], images.dtype)
        for layer, statistics, channels in layers:
            if rescale:
                low, high = statistics[:, 1, None, None], statistics[:, 2, None, None]
                spread = jnp.where(high > low, high - low, 1)
                layer = (layer - channels * low) / spread
            total = total + maps.resize(layer, size)
        return total, found.classes

    return checked(model, run, explained)


@takes_target
@memoize.remember
def full_gradient(
    model: SplitModel, *, score: scores.ScoreLike = "logit"
) -> Callable[[Variables, Images, Labels], FullGradient]:
    """Make the complete decomposition, `(variables, images, labels) -> FullGradient`.

    The parts add up to the score for every score that is linear in the logits.
    """
    explained = scores.resolve(score)
    decompose = _decomposition(model, explained)
    compiled = jax.jit(lambda *arguments: decompose(*arguments)._replace(channels=()))

    @split.guarded(model, explained)
    def explain(variables: Variables, images: Images, labels: Labels) -> FullGradient:
        return compiled(variables, images, labels)

    return explain


def _decomposition(
    model: SplitModel, score: scores.Score
) -> Callable[[Variables, Images, Labels], FullGradient]:
    def network(variables: Variables, images: Images) -> jax.Array:
        return jnp.asarray(model.head(variables, model.features(variables, images)))

    def decompose(variables: Variables, images: Images, labels: Labels) -> FullGradient:
        closed = jax.make_jaxpr(network)(variables, images)

        def walk(images: Images, tap: Tap) -> jax.Array:
            inputs = [_Traced(leaf) for leaf in jax.tree.leaves(variables)]
            inputs.append(_Traced(images, active=True))
            found = _walk(closed.jaxpr, closed.consts, inputs, tap)[0]
            return found.value if found.offset is None else tap(found)

        places = _places(walk, images)

        def total(images: Images, slots: PyTree) -> tuple[jax.Array, PyTree]:
            waiting = iter(slots)
            logits = walk(images, lambda t: _tap(t.value, t.offset, next(waiting)))
            found = score(logits, labels)
            return jnp.sum(found), (found, jnp.zeros((0, logits.shape[-1])))

        slots = [_slot(shape, images) for shape in places]
        derivative = jax.grad(total, argnums=(0, 1), has_aux=True)
        (gradient, parts), (found, classes) = derivative(images, slots)
        return _sorted(images * gradient, parts, places, found, classes)

    return decompose


def _places(walk: Callable[..., jax.Array], images: Images) -> list[tuple[int, ...]]:
    """List the shapes of the values whose offsets a walk accounts for, in its order."""
    places: list[tuple[int, ...]] = []

    def note(traced: _Traced) -> jax.Array:
        places.append(traced.value.shape)
        return traced.value

    jax.eval_shape(lambda images: walk(images, note), images)
    return places


def _sorted(
    image: jax.Array,
    parts: list[tuple[jax.Array, jax.Array]],
    places: list[tuple[int, ...]],
    scores: jax.Array,
    classes: jax.Array,
) -> FullGradient:
    """Keep apart the layers, and what has no place in the image."""
    batch = len(image)
    spatial = [_is_spatial(shape, batch) for shape in places]
    layers = [part for part, seen in zip(parts, spatial, strict=True) if seen]
    rest = [sums[:, 0] for (_, sums), s in zip(parts, spatial, strict=True) if not s]
    return FullGradient(
        image=image,
        layers=tuple(layer for layer, _ in layers),
        statistics=tuple(statistics for _, statistics in layers),
        channels=tuple(p[-1] for p, seen in zip(places, spatial, strict=True) if seen),
        rest=sum(rest, jnp.zeros(batch, image.dtype)),
        score=scores,
        classes=classes,
    )


def _walk(
    jaxpr: PyTree,
    consts: PyTree,
    inputs: list[_Traced],
    tap: Tap,
) -> list[_Traced]:
    known = dict(zip(jaxpr.constvars, map(_Traced, consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: PyTree) -> _Traced:
        literal = isinstance(variable, core.Literal)
        return _Traced(variable.val) if literal else known[variable]

    def settled(variable: PyTree) -> _Traced:
        """Account for an offset once, whoever uses the value."""
        traced = read(variable)
        if traced.offset is not None:
            traced = _Traced(tap(traced), None, True)
            known[variable] = traced
        return traced

    for equation in jaxpr.eqns:
        incoming = [read(variable) for variable in equation.invars]
        if not any(traced.active for traced in incoming):
            values = equations.bind(equation, [t.value for t in incoming])
            outputs = [_Traced(value) for value in values]
        elif _carries_offset(equation, incoming):
            outputs = [_carry(equation, incoming)]
        else:
            incoming = [settled(variable) for variable in equation.invars]
            outputs = _compute(equation, incoming, tap)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _carries_offset(equation: PyTree, incoming: list[_Traced]) -> bool:
    """Tell whether an equation scales or shifts each element by a constant."""
    name, active = equation.primitive.name, [t.active for t in incoming]
    if name in ELEMENTWISE:
        return True
    if name == "div":
        return active == [True, False]
    return name in ("add", "sub", "mul") and sum(active) == 1


def _carry(equation: PyTree, incoming: list[_Traced]) -> _Traced:
    value = equations.bind(equation, [t.value for t in incoming])[0]
    name = equation.primitive.name

    def scaled(position: int) -> PyTree:
        """Apply the equation's linear part to the offset at one input."""
        if incoming[position].offset is None:
            return None
        factors = [t.value for t in incoming]
        factors[position] = incoming[position].offset
        return equations.bind(equation, factors)[0]

    position = [t.active for t in incoming].index(True)
    if name not in ("add", "sub"):
        return _Traced(value, scaled(position), True)
    constant = jnp.broadcast_to(incoming[1 - position].value, value.shape)
    offset = incoming[position].offset
    if name == "sub":
        if position == 0:
            constant = -constant
        elif offset is not None:
            offset = -offset
    return _Traced(value, constant if offset is None else constant + offset, True)


def _compute(equation: PyTree, incoming: list[_Traced], tap: Tap) -> list[_Traced]:
    """Compute an equation whose inputs have no offsets, and find its residual."""
    name, active = equation.primitive.name, [t.active for t in incoming]
    if name in rectifiers.WRAPPERS:
        body, consts = rectifiers.open_body(equation)
        return _walk(body, consts, incoming, tap)
    values = [t.value for t in incoming]
    if _is_homogeneous(equation, active):
        return [_Traced(v, None, True) for v in equations.bind(equation, values)]

    def apply(*moving: PyTree) -> list[PyTree]:
        rest = iter(moving)
        merged = [next(rest) if a else v for v, a in zip(values, active, strict=True)]
        return equations.bind(equation, merged)

    moving = tuple(v for v, a in zip(values, active, strict=True) if a)
    found, tangents = jax.jvp(apply, moving, moving)
    return [
        _Traced(v, v - t, True) if jnp.issubdtype(v.dtype, jnp.floating) else _Traced(v)
        for v, t in zip(found, tangents, strict=True)
    ]


def _is_homogeneous(equation: PyTree, active: list[bool]) -> bool:
    """Tell from an equation's form that `f(inputs) = J inputs`, without rounding."""
    name = equation.primitive.name
    if name in (*HOMOGENEOUS, *ELEMENTWISE, "add_any"):
        return True
    if name in ("add", "sub"):
        return all(active)
    if name in ("mul", "dot_general"):
        return sum(active) == 1
    if name == "div":
        return active == [True, False]
    if name in ("max", "min"):
        return all(active) or any(
            isinstance(v, core.Literal) and v.val == 0 for v in equation.invars
        )
    inner = rectifiers.bodies(equation)
    if name not in (*rectifiers.WRAPPERS, *rectifiers.DERIVED) or not inner:
        return False
    body = inner[0]
    flags = dict(zip(body.invars, active, strict=True))
    for step in body.eqns:
        own = [
            not isinstance(v, core.Literal) and flags.get(v, False) for v in step.invars
        ]
        if any(own) and not _is_homogeneous(step, own):
            return False
        flags.update(dict.fromkeys(step.outvars, any(own)))
    return True


def _is_spatial(shape: tuple[int, ...], batch: int) -> bool:
    return len(shape) == 4 and shape[0] == batch and shape[1] * shape[2] > 1


def _slot(shape: tuple[int, ...], images: Images) -> tuple[jax.Array, jax.Array]:
    """Make the zeros in whose place a layer's contribution comes back."""
    batch = len(images)
    size = shape[1:3] if _is_spatial(shape, batch) else (0, 0)
    return (
        jnp.zeros((batch, *size), images.dtype),
        jnp.zeros((batch, 3), images.dtype),
    )


@jax.custom_vjp
def _tap(value: jax.Array, offset: jax.Array, slot: PyTree) -> jax.Array:
    """Pass a value on; what comes back to `slot` is its offset's contribution."""
    del offset, slot
    return value


def _tap_forward(
    value: jax.Array, offset: jax.Array, slot: PyTree
) -> tuple[jax.Array, PyTree]:
    return value, (offset, slot)


def _tap_backward(kept: PyTree, gradient: jax.Array) -> tuple[PyTree, ...]:
    offset, (layer, statistics) = kept
    part = gradient * offset
    batch = len(statistics)
    flat = part.reshape((batch, -1))
    magnitude = jnp.abs(flat)
    found = jnp.stack([flat.sum(1), *_ends(magnitude)], axis=1)
    seen = jnp.abs(part).sum(-1) if layer.size else layer
    slot = (seen.astype(layer.dtype), found.astype(statistics.dtype))
    return gradient, jnp.zeros_like(offset), slot


_tap.defvjp(_tap_forward, _tap_backward)


def _ends(magnitude: jax.Array) -> tuple[jax.Array, jax.Array]:
    flat = magnitude.reshape((len(magnitude), -1))
    return flat.min(1), flat.max(1)

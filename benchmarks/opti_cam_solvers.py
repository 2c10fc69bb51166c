"""Count the passes that solvers of Opti-CAM need for what Adam gains in 100.

    python benchmarks/opti_cam_solvers.py PICTURES --weights mobilenet_v2-b0353104.pth

A pass is one value and gradient of the objective, the predicted class's logit under
the mask; every evaluation counts, also those of steps that are taken back. The gain is
that of the paper's Adam over its start, equal weights. After `n` passes a solver is
judged by the map that it would return then: the last one, or where steps are taken back
the best.
Prints a table, and stores it with all curves as `<date>-opti-cam-solvers-cpu`.
"""

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# The benchmark measures the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import turns

from unlir_jax import maps, split
from unlir_jax.models import pretrained
from unlir_jax.saliency.optimisation.opti_cam import compile_programs
from unlir_jax.storage import files as record

POINTS = (5, 10, 20, 50, 100)
SHARE = 0.99
MEMORY = 10
"""Pairs that L-BFGS remembers."""


class Case(NamedTuple):
    """Hold one batch: its maps `[batch, cells, filters]`, and what is maximised."""

    model: Any
    problem: Any
    stack: np.ndarray
    objective: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def open_case(network: pretrained.Pretrained, files: list[Path]) -> Case:
    """Read pictures, and compile the value and gradient by coarse maps."""
    model, variables = network.model, network.variables
    whole = split.whole(model)
    images = jnp.asarray(np.stack([network.preprocess(file) for file in files]))
    labels = jnp.argmax(whole(variables, images), axis=-1)
    programs = compile_programs(model, 0.1, "mask", "range", "adam")
    problem = programs.prepare(variables, images, labels)
    batch, rows, columns, filters = problem.maps.shape

    @jax.jit
    def both(found: jax.Array, variables: Any) -> tuple[jax.Array, jax.Array]:
        def total(found: jax.Array) -> tuple[jax.Array, jax.Array]:
            mask = maps.normalize(maps.resize(found, images.shape[1:3]), "range")
            logits = whole(variables, maps.apply_mask(images, mask))
            value = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
            return jnp.sum(value), value

        gradient, value = jax.grad(total, has_aux=True)(found)
        return value, gradient

    def objective(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shaped = jnp.asarray(found.reshape(batch, rows, columns), jnp.float32)
        value, gradient = both(shaped, variables)
        flat = np.asarray(gradient, np.float64).reshape(batch, -1)
        return np.asarray(value, np.float64), flat

    stack = np.asarray(problem.maps, np.float64).reshape(batch, -1, filters)
    return Case(model, problem, stack, objective)


def of_library(
    case: Case, passes: int, solver: Any, rate: float, warm: bool = False
) -> np.ndarray:
    """Run a solver of the library, and read the value off each of its steps."""
    programs = compile_programs(case.model, rate, "mask", "range", solver)
    search = programs.begin(case.problem)
    if warm:  # The softmax of these is Grad-CAM's weights, rectified.
        search = search._replace(weights=jnp.log(_grad_cam_weights(case)))
    values = []
    for _ in range(passes + 1):
        search = programs.step(case.problem, search, 0.0)
        values.append(-np.asarray(search.loss, np.float64))
    return np.stack(values)


def _grad_cam_weights(case: Case) -> jax.Array:
    model, problem = case.model, case.problem
    features = model.features(problem.variables, problem.images)

    def total(found: jax.Array) -> jax.Array:
        logits = model.head(problem.variables, features._replace(maps=found))
        return jnp.sum(jnp.take_along_axis(logits, problem.labels[:, None], axis=1))

    weights = jnp.maximum(jnp.mean(jax.grad(total)(problem.maps), axis=(1, 2)), 0)
    return weights + 1e-3 * jnp.max(weights, axis=1, keepdims=True)


def _softmax(logarithms: np.ndarray) -> np.ndarray:
    raised = np.exp(logarithms - logarithms.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _by_weights(
    case: Case, logarithms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give values, weights, and what each weight's logarithm adds per weight."""
    weights = _softmax(logarithms)
    value, gradient = case.objective(np.einsum("bck,bk->bc", case.stack, weights))
    along = np.einsum("bck,bc->bk", case.stack, gradient)
    return value, weights, along - (weights * along).sum(1, keepdims=True)


def exponentiated(case: Case, passes: int) -> np.ndarray:
    """Climb the softmax's own gradient with momentum; step sizes fit themselves.

    A step that lowers the value is taken back, halved, and loses its momentum.
    """
    batch, _, filters = case.stack.shape
    logarithms, size = np.zeros((batch, filters)), np.ones((batch, 1))
    momentum, best, values = np.zeros_like(logarithms), None, []
    for _ in range(passes):
        value, weights, slope = _by_weights(case, logarithms)
        slope = slope / np.sqrt((weights * slope**2).sum(1, keepdims=True) + 1e-30)
        if best is None:
            best, kept, uphill = value, logarithms, slope
        worse = (value < best)[:, None]
        size = np.where(worse, size * 0.5, size * 1.2)
        momentum = 0.5 * np.where(worse, 0, momentum)
        best = np.maximum(best, value)
        kept = np.where(worse, kept, logarithms)
        uphill = np.where(worse, uphill, slope)
        momentum = momentum + uphill
        logarithms = kept + 0.5 * size * momentum
        values.append(best)
    return np.stack([values[0], *values])


def frank_wolfe(case: Case, passes: int) -> np.ndarray:
    """Mix in the map that the gradient likes best, by 2 / (t + 4)."""
    peak = np.maximum(case.stack.max(1), 1e-9)
    stack = case.stack / peak[:, None]  # A mask does not see how large a map is.
    weights, values = peak / peak.sum(1, keepdims=True), []
    for turn in range(passes + 1):
        value, gradient = case.objective(np.einsum("bck,bk->bc", stack, weights))
        values.append(value)
        along = np.einsum("bck,bc->bk", stack, gradient)
        along = np.where(peak > 1e-9, along, -np.inf)
        chosen = along == along.max(1, keepdims=True)
        share = 2 / (turn + 4)
        weights = (1 - share) * weights + share * chosen
    return np.stack(values)


def quasi_newton(case: Case, passes: int) -> np.ndarray:
    """Run L-BFGS on the logarithms, with backtracking, each image on its own."""
    batch, _, filters = case.stack.shape
    place = np.zeros((batch, filters))
    value, weights, slope = _by_weights(case, place)
    gradient, pairs = weights * slope, [[] for _ in range(batch)]
    ahead = np.stack([_ahead(g, p) for g, p in zip(gradient, pairs, strict=True)])
    size, values = np.ones(batch), [value.copy(), value.copy()]
    for _ in range(passes - 1):
        tried = place + size[:, None] * ahead
        new, weights, slope = _by_weights(case, tried)
        found = weights * slope
        for i in range(batch):
            if new[i] < value[i] + 1e-4 * size[i] * (gradient[i] @ ahead[i]):
                size[i] *= 0.4
                if size[i] > 1e-3:
                    continue
                pairs[i].clear()
            else:
                step, change = tried[i] - place[i], gradient[i] - found[i]
                if step @ change > 1e-10:
                    pairs[i] = [*pairs[i], (step, change)][-MEMORY:]
                place[i], value[i], gradient[i] = tried[i], new[i], found[i]
            size[i], ahead[i] = 1.0, _ahead(gradient[i], pairs[i])
        values.append(value.copy())
    return np.stack(values)


def _ahead(gradient: np.ndarray, pairs: list[Any]) -> np.ndarray:
    """Turn a gradient by the two-loop recursion (Nocedal, 1980)."""
    found, passed = gradient.copy(), []
    for step, change in reversed(pairs):
        passed.append((step @ found) / (step @ change))
        found -= passed[-1] * change
    if pairs:
        step, change = pairs[-1]
        found *= (step @ change) / (change @ change)
    else:
        found /= np.abs(found).max() + 1e-30
    for (step, change), share in zip(pairs, reversed(passed), strict=True):
        found += step * (share - (change @ found) / (step @ change))
    return found if found @ gradient > 0 else gradient / np.abs(gradient).max()


SOLVERS: dict[str, Callable[[Case, int], np.ndarray]] = {
    "Adam, rate 0.1 (the paper's)": lambda c, n: of_library(c, n, "adam", 0.1),
    "Adam, rate 0.5": lambda c, n: of_library(c, n, "adam", 0.5),
    "Adam, rate 0.5, from Grad-CAM": lambda c, n: of_library(c, n, "adam", 0.5, True),
    "exponentiated gradient": exponentiated,
    "Frank-Wolfe": frank_wolfe,
    "L-BFGS": quasi_newton,
    "projected, rate 0.1": lambda c, n: of_library(c, n, "projected", 0.1),
    "projected, rate 0.2": lambda c, n: of_library(c, n, "projected", 0.2),
}
PAPER, *_ = SOLVERS


def summarise(values: np.ndarray, paper: np.ndarray) -> dict[str, Any]:
    """Count passes and compare gains; both are `[passes + 1, pictures]`."""
    start, gain = paper[0], paper[-1] - paper[0]
    relative = (values - start) / gain
    reached = (relative >= SHARE).any(0)
    # Who never does counts as one pass more than there were.
    passes = np.where(reached, np.argmax(relative >= SHARE, axis=0), len(values))
    points = [point for point in POINTS if point < len(values)]
    return {
        "passes": {
            "median": float(np.median(passes)),
            "mean": float(passes.mean()),
            "90 %": float(np.quantile(passes, 0.9)),
            "reached": float(reached.mean()),
        },
        "gain": {str(point): float(relative[point].mean()) for point in points},
        "least": {str(point): float(relative[point].min()) for point in points},
    }


def to_markdown(document: dict[str, Any]) -> str:
    settings, rows = document["settings"], document["summary"]
    points = list(rows[PAPER]["gain"])
    columns = ["solver", "median", "mean", "90th percentile", "reached"]
    columns += [f"gain at {point}" for point in points]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    for name, row in rows.items():
        passes = row["passes"]
        cells = [name, *(f"{passes[k]:.1f}" for k in ("median", "mean", "90 %"))]
        cells += [f"{passes['reached']:.0%}"]
        cells += [f"{row['gain'][p]:.2f} ({row['least'][p]:.2f})" for p in points]
        lines.append(cells)
    return "\n".join(
        [
            f"# Solvers of Opti-CAM, {document['created'][:10]}",
            "",
            f"{settings['model']}, {settings['pictures']} pictures, "
            f"{settings['passes']} passes. Passes until {SHARE:.0%} of what the "
            "paper's Adam gains in all of them, where it is never reached counted as "
            "one more than there were; gains as shares of Adam's, the least picture's "
            "in brackets.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
        ]
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run every solver on every picture."""
    found = sorted(Path(options.pictures).glob("*.jpg"))
    files = found[options.first :: options.stride][: options.count]
    network = pretrained.load(options.model, options.weights, fold=True)
    values: dict[str, list[np.ndarray]] = {name: [] for name in SOLVERS}
    for begin in range(0, len(files), options.batch):
        case = open_case(network, files[begin : begin + options.batch])
        for name, solve in SOLVERS.items():
            turns.say(f"{begin} of {len(files)} pictures: {name}")
            values[name].append(solve(case, options.passes))
    curves = {name: np.concatenate(each, axis=1) for name, each in values.items()}
    names = ("model", "first", "stride", "batch", "passes")
    settings = {name: getattr(options, name) for name in names}
    return {
        "schema": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings | {"pictures": len(files)},
        "machine": {"processor": turns.processor(), "load": protocol.load_average()},
        "versions": record.versions(),
        "files": [file.name for file in files],
        "summary": {n: summarise(v, curves[PAPER]) for n, v in curves.items()},
        "curves": {name: each.round(3).tolist() for name, each in curves.items()},
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", help="a folder of .jpg")
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights")
    parser.add_argument("--first", type=int, default=8, help="of the sorted pictures")
    parser.add_argument("--stride", type=int, default=15, help="from one to the next")
    parser.add_argument("--count", type=int, default=12, help="pictures at most")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    document = measure(options)
    stem = f"{document['created'][:10]}-opti-cam-solvers-cpu"
    text = to_markdown(document)
    record.write_text(Path(options.output) / f"{stem}.json", record.to_json(document))
    record.write_text(Path(options.output) / f"{stem}.md", text)
    print(text)


if __name__ == "__main__":
    main()

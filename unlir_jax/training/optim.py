"""Optimisers of optax by name, and which rule each parameter follows, by regex."""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import optax

from unlir_jax import tree
from unlir_jax.core import choices
from unlir_jax.core.document_types import Document, Settings
from unlir_jax.types import Array, PyTree

BIASES = ".*/(bias|scale)"
"""A pattern that may be of no parameter, for some networks have no biases."""
SCHEDULES = ("constant", "cosine", "linear", "multi_step")


class Rule(NamedTuple):
    """Say how the parameters of one pattern learn.

    Attributes:
        train: False keeps them as they are.
        learning_rate: Factor on the learning rate.
        weight_decay: Whether weight decay applies to them.
    """

    train: bool = True
    learning_rate: float = 1.0
    weight_decay: bool = True


Entry = tuple[str, Document | None]
Table = Sequence[Entry]
"""Patterns of whole paths with the fields of their `Rule`, or None to freeze."""


def rules(params: PyTree, table: Table) -> dict[str, Rule]:
    """Find the rule of each parameter: the first pattern that matches its whole path.

    Args:
        params: The parameters.
        table: For example `((".*norm.*", {"weight_decay": False}), (".*", {}))`.

    Raises:
        ValueError: A parameter that no pattern covers, a pattern that is used for
            none (but `BIASES`), one that is no regular expression, or an unknown
            field.
    """
    checked = [(_pattern(entry), _rule(entry)) for entry in table]
    found: dict[str, Rule] = {}
    used: set[int] = set()
    for path in tree.flatten(params):
        for index, (pattern, rule) in enumerate(checked):
            if pattern.fullmatch(path):
                found[path] = rule
                used.add(index)
                break
    uncovered = [path for path in tree.flatten(params) if path not in found]
    if uncovered:
        raise ValueError(
            f"No pattern of the optimiser's table covers {_some(uncovered)}; expected "
            "every parameter to be covered: end the table with ('.*', {}) to train "
            "all others, or ('.*', None) to freeze them."
        )
    idle = [
        pattern.pattern
        for index, (pattern, _) in enumerate(checked)
        if index not in used and pattern.pattern != BIASES
    ]
    if idle:
        raise ValueError(
            f"The optimiser's table has {', '.join(map(repr, idle))}, which is the "
            f"rule of no parameter; the parameters: {_some(list(found))}."
        )
    return found


def _pattern(entry: Entry) -> re.Pattern[str]:
    if len(entry) != 2 or not isinstance(entry[0], str):
        raise ValueError(
            f"The optimiser's table has {entry!r}; expected pairs of a pattern and a "
            "rule, such as ('.*', {})."
        )
    try:
        return re.compile(entry[0])
    except re.error as error:
        raise ValueError(
            f"The optimiser's table has {entry[0]!r}, which is no regular expression "
            f"({error})."
        ) from error


def _rule(entry: Entry) -> Rule:
    pattern, fields = entry
    if fields is None:
        return Rule(train=False)
    unknown = sorted(set(fields) - set(Rule._fields))
    if unknown:
        raise ValueError(
            f"The rule of {pattern!r} has {', '.join(map(repr, unknown))}; expected "
            f"{', '.join(Rule._fields)}."
        )
    rule = Rule(**fields)
    rate = rule.learning_rate
    number = isinstance(rate, int | float) and math.isfinite(rate) and rate >= 0
    if not number or not {type(rule.train), type(rule.weight_decay)} <= {bool}:
        raise ValueError(
            f"The rule of {pattern!r} is {dict(fields)!r}; expected true or false for "
            "train and weight_decay, and a number from 0 for learning_rate."
        )
    return rule


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def split_by_rule(
    params: PyTree, found: Mapping[str, Rule]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Part parameters into those that learn and those that do not, by path."""
    leaves = tree.flatten(params)
    learning = {path: leaf for path, leaf in leaves.items() if found[path].train}
    frozen = {path: leaf for path, leaf in leaves.items() if not found[path].train}
    return learning, frozen


def join(learning: Mapping[str, Array], frozen: Mapping[str, Array]) -> PyTree:
    """Undo `split_by_rule`."""
    return tree.unflatten({**learning, **frozen})


def steps(steps: int, epochs: float, examples: int, batch_size: int) -> int:
    """Count the steps of a run whose length is given in steps or else in epochs.

    Raises:
        ValueError: Both or none are given.
    """
    if (steps > 0) == (epochs > 0) or min(steps, epochs) < 0:
        raise ValueError(
            f"`steps`={steps} and `epochs`={epochs:g}; expected one of them to be "
            "above 0, and the other 0."
        )
    return steps or math.ceil(epochs * examples / batch_size)


def schedule(
    learning_rate: float,
    steps: int,
    *,
    name: str = "cosine",
    warmup: float = 0.0,
    final: float = 0.0,
    milestones: Sequence[float] = (),
    factor: float = 0.1,
) -> optax.Schedule:
    """Make the learning rate of each step.

    All durations are shares of the run, so that a longer run keeps its shape.

    Args:
        learning_rate: The largest.
        steps: Length of the run.
        name: One of `SCHEDULES`.
        warmup: Share in which the rate rises in a line from 0.
        final: Rate at the end of `cosine` and `linear`, as a share of the largest.
        milestones: Shares at which `multi_step` multiplies the rate by `factor`.
        factor: See `milestones`.

    Raises:
        ValueError: An unknown name, or a share outside [0, 1].
    """
    choices.pick(name, SCHEDULES, f"`schedule`={name!r}")
    shares = {"warmup": warmup, "final": final}
    shares |= {f"milestones[{i}]": value for i, value in enumerate(milestones)}
    for field, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"`{field}`={share}; expected a share in [0, 1].")
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise ValueError(f"`learning_rate`={learning_rate}; expected a number from 0.")
    rising = round(warmup * steps)
    rest = max(steps - rising, 1)
    match name:
        case "constant":
            main = optax.constant_schedule(learning_rate)
        case "cosine":
            main = optax.cosine_decay_schedule(learning_rate, rest, alpha=final)
        case "linear":
            main = optax.linear_schedule(learning_rate, learning_rate * final, rest)
        case _:
            # Milestones are counted from the start of the run, warm-up included.
            drops: dict[int, float] = {}
            for share in milestones:
                place = max(round(share * steps) - rising, 0)
                drops[place] = drops.get(place, 1.0) * factor
            main = optax.piecewise_constant_schedule(learning_rate, drops)
    if not rising:
        return main
    warming = optax.linear_schedule(0.0, learning_rate, rising)
    return optax.join_schedules([warming, main], [rising])


def make(
    found: Mapping[str, Rule],
    learning_rate: optax.Schedule,
    *,
    name: str = "sgd",
    weight_decay: float | jax.Array = 0.0,
    clip_norm: float = 0.0,
    options: Mapping[str, object] | None = None,
) -> optax.GradientTransformation:
    """Make an optimiser for the parameters that learn, as `split_by_rule` parts them.

    Weight decay is the optimiser's own where it has one (decoupled: AdamW, Lion); for
    all others it is added to the gradient before it (SGD's L2 penalty, as in PyTorch).

    Args:
        found: The rule of each parameter.
        learning_rate: Learning rate of each step.
        name: Name of a function of optax that takes a learning rate.
        weight_decay: Strength, for the parameters whose rule says so. An array, as
            several decays under `vmap` are, is not checked.
        clip_norm: Largest norm of the whole gradient; 0 for any.
        options: Further arguments of that function, such as `momentum`.

    Raises:
        ValueError: An unknown optimiser or option, or a negative strength.
    """
    for field, value in (("weight_decay", weight_decay), ("clip_norm", clip_norm)):
        if not isinstance(value, jax.Array) and not (
            math.isfinite(value) and value >= 0
        ):
            raise ValueError(f"`{field}`={value}; expected a number from 0.")
    build, accepted = _optimizer(name)
    settings = dict(options or {})
    for option in ("weight_decay", "mask", "weight_decay_mask"):
        if option in settings:
            raise ValueError(
                f"`options`={option!r} is what `weight_decay` and the rules of the "
                "table say; expected it there."
            )
    for option in settings:
        wrong = f"`options`={option!r} is no option of optax.{name}"
        choices.pick(option, accepted, wrong)
    decays = {path: rule.weight_decay for path, rule in found.items() if rule.train}
    chain = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    masks = [option for option in ("mask", "weight_decay_mask") if option in accepted]
    if "weight_decay" in accepted and masks:
        settings |= {"weight_decay": weight_decay, masks[0]: decays}
    elif isinstance(weight_decay, jax.Array) or weight_decay:
        chain.append(optax.add_decayed_weights(weight_decay, decays))
    chain.append(build(learning_rate=learning_rate, **settings))
    factors = {path: rule.learning_rate for path, rule in found.items() if rule.train}
    if any(factor != 1 for factor in factors.values()):
        chain.append(_scale_each(factors))
    return optax.chain(*chain)


def replaced(settings: Settings, overrides: Sequence[str]) -> tuple[Settings, str]:
    """Leave out the config's options that an optimiser given as an override lacks.

    Args:
        settings: Settings of a training.
        overrides: Changes of the config file, as `config.load` takes them.

    Returns:
        The settings, and a sentence for people, or "".

    Raises:
        ValueError: There is no such optimiser.
    """
    given = [each.removeprefix("--config.").partition("=")[0] for each in overrides]
    if "optimizer.name" not in given or "optimizer.options" in given:
        return settings, ""
    name, options = settings.optimizer.name, settings.optimizer.options
    accepted = _optimizer(name)[1]
    asked = {key.removeprefix("optimizer.options.") for key in given}
    lost = [each for each in options if each not in accepted and each not in asked]
    if not lost:
        return settings, ""
    settings = settings.copy_and_resolve_references()
    with settings.unlocked():
        for each in lost:
            del settings.optimizer.options[each]
    return settings.lock(), (
        f"optax.{name} has no {', '.join(lost)}: the config's value is left out."
    )


def _optimizer(
    name: str,
) -> tuple[Callable[..., optax.GradientTransformation], list[str]]:
    """Find an optimiser of optax, and the names of its options."""
    known = {}
    for candidate in dir(optax):
        function = getattr(optax, candidate)
        if candidate.startswith(("_", "scale_by")) or not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        first = next(iter(parameters.values()), None)
        if first is None or first.name != "learning_rate":
            continue
        # A few take a number only, and fail on a schedule when they are used.
        if "Callable" in str(first.annotation):
            known[candidate] = [p for p in parameters if p != "learning_rate"]
    # Its update needs the value of the loss again, which one step does not have.
    known = {n: p for n, p in known.items() if "linesearch" not in p}
    choices.pick(name, known, f"`name`={name!r} is no optimiser")
    return getattr(optax, name), known[name]


def _scale_each(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, PyTree]:
        del params
        return {path: leaf * factors[path] for path, leaf in updates.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def describe(params: PyTree, found: Mapping[str, Rule], depth: int = 0) -> str:
    """Draw the table of parameters: shape, number, and the rule of each.

    Args:
        params: The parameters, or their shapes.
        found: Their rules.
        depth: Sum up all that share so many first names of their path; 0 lists each.
    """
    groups: dict[tuple[str, str], list[Array]] = {}
    for path, leaf in sorted(tree.flatten(params).items(), key=_natural):
        name = "/".join(path.split("/")[:depth]) if depth else path
        groups.setdefault((name, _words(found[path])), []).append(leaf)
    rows = [
        (
            name,
            str(len(leaves)) if depth else " x ".join(map(str, leaves[0].shape)) or "1",
            f"{tree.count(leaves):,}",
            words,
        )
        for (name, words), leaves in groups.items()
    ]
    head = ("parameter", "arrays" if depth else "shape", "numbers", "rule")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        for row in (head, *rows)
    ]
    learning, frozen = split_by_rule(params, found)
    lines.append(
        f"{tree.count(learning):,} numbers learn, {tree.count(frozen):,} are frozen."
    )
    return "\n".join(lines)


def _natural(entry: tuple[str, Array]) -> list[int | str]:
    """Sort block2 before block10."""
    parts = re.split(r"(\d+)", entry[0])
    return [int(part) if part.isdigit() else part for part in parts]


def _words(rule: Rule) -> str:
    if not rule.train:
        return "frozen"
    rate = (
        "" if rule.learning_rate == 1 else f", learning rate x {rule.learning_rate:g}"
    )
    return f"learns{rate}{'' if rule.weight_decay else ', no decay'}"


def norm(gradients: PyTree) -> jax.Array:
    """Compute the Euclidean norm of a whole tree."""
    return optax.tree.norm(gradients)

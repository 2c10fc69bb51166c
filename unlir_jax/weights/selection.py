"""Find a network among everything that a file of weights holds.

Trainers put prefixes before the names (`module.`, `_orig_mod.`, `model.`), nest dicts,
keep an average of the weights next to the raw ones, and store losses, counters and
other networks with them. Here nothing is known of trainers but what the names say: a
network lies wherever all names expected of it follow one and the same text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax.weights import layouts as tables
from unlir_jax.weights.averages import (
    AVERAGED,
    ENDS,
    averaged_holder,
    cuts,
    is_averaged,
    parts,
    says_averaged,
    words,
)
from unlir_jax.weights.contents import NEST, Contents

ROOT = "."
"""The key of weights that have nothing before their names."""

HEAD = "params/classifier/", "params/distilled_classifier/"
"""Beginnings of the paths of classifiers."""

MOST_PLACES = 20
"""How many places are looked at for a key, if they are no whole network, or for equal
values."""

MOST_NETWORKS = 100
"""How many whole networks a file may hold before it is asked which is meant."""

_BYSTANDERS = frozenset(
    "loss losses criterion criterions metric metrics accuracy optimizer optimizers "
    "optim scheduler schedulers".split()
)
_HEADS = frozenset(
    "fc head heads classifier classifiers projector projection projections predictor "
    "predictors prototypes mlp linear".split()
)


class Selection(NamedTuple):
    """Say where in a file a network lies.

    Attributes:
        key: What stands before its names, `ROOT` where nothing does.
        names: Its arrays' full names, and their names in the layout; also those that
            the network does not have, for the caller to complain of.
        complete: Whether all but the classifier is there.
        head: Whether there is a classifier.
        averaged: Whether its weights are an average over training.
        others: Keys of the other complete networks of the file.
        beside: Full names of what else is there and is left out.
    """

    key: str
    names: dict[str, str]
    complete: bool
    head: bool
    averaged: bool
    others: tuple[str, ...]
    beside: tuple[str, ...]

    @property
    def remark(self) -> str:
        """Say which weights were taken where that is a choice, and what was left."""
        said = []
        if self.averaged or self.others:
            kind = "averaged" if self.averaged else "as trained"
            said.append(f"{self.key}, {kind}")
        if self.beside:
            shown = ", ".join(self.beside[:4])
            more = len(self.beside) - 4
            said.append(f"without {shown}" + (f" and {more} more" if more > 0 else ""))
        return f" ({'; '.join(said)})" if said else ""


def take(contents: Contents, chosen: Selection, source: str) -> dict[str, np.ndarray]:
    """Read a selection: arrays by their names in the layout.

    Raises:
        ValueError: The network's numbers are whole or complex ones.
    """
    arrays = {
        name: array
        for full, array in contents.read(chosen.names).items()
        for name in (chosen.names[full],)
    }
    odd = [name for name, array in arrays.items() if array.dtype.kind in "iubc"]
    if odd and chosen.complete:
        dtypes = ", ".join(sorted({arrays[name].dtype.name for name in odd}))
        raise ValueError(
            f"`weights`={source!r} holds {dtypes} in {len(odd)} arrays ({odd[0]}, …), "
            "as quantised networks do; expected floating point numbers."
        )
    return arrays


class _Place(NamedTuple):
    """One text in front of names, and how many of a layout's names follow it."""

    prefix: str
    layout: str
    matched: int
    complete: bool
    head: bool

    @property
    def key(self) -> str:
        return self.prefix.rstrip(ENDS) or ROOT


def select(
    contents: Contents,
    expected: Iterable[str],
    layouts: Mapping[str, tables.Prefixes],
    *,
    key: str = "",
    source: str,
    setting: str = "weights_key",
) -> Selection:
    """Choose the network's weights: those that are asked for, else the averaged ones.

    Args:
        contents: Contents of the file.
        expected: Paths of the leaves of our variables.
        layouts: Tables of other libraries' names; ours are always tried.
        key: What stands before the names of the wanted weights, such as `state_dict`,
            `ema` or `student`; `ROOT` for those with nothing before them; "": choose.
        source: Source of the file, for error messages.
        setting: Name of the setting of `key`, for messages.

    Raises:
        ValueError: There are several complete networks of other values and no telling
            which is meant, averaged weights without names, or nothing of that key.
    """
    own = _by_layout(expected, layouts)
    found = _find_places(contents.shapes, own)
    complete = _once([place for place in found if place.complete], own)
    best = [place for place in complete if place.head] or complete
    if key:
        chosen = _asked(complete, found, contents, key, source, setting)
    else:
        chosen = best or found[:1] or [_Place("", tables.OWN, 0, False, False)]
    if len(chosen) > MOST_NETWORKS:
        raise ValueError(_question(source, chosen, False, setting))
    averaged = [place for place in chosen if is_averaged(place.prefix, contents)]
    if best and not key and not averaged:
        _refuse_unnamed(contents, best, own, source, setting)
    among = averaged or chosen
    if len(among) > 1 and not (
        len(among) <= MOST_PLACES and _all_equal(contents, among, own)
    ):
        raise ValueError(_question(source, among, bool(averaged), setting))
    return _describe(contents, among[0], own, complete)


def _by_layout(
    expected: Iterable[str], layouts: Mapping[str, tables.Prefixes]
) -> dict[str, dict[str, bool]]:
    """Give each layout's names, and whether they are the classifier's."""
    paths = list(expected)
    found = {tables.OWN: {path: path.startswith(HEAD) for path in paths}}
    for name, prefixes in layouts.items():
        found[name] = {
            tables.their_name(path, prefixes): path.startswith(HEAD) for path in paths
        }
    return found


def _find_places(
    shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, Mapping[str, bool]]
) -> list[_Place]:
    """List where names of the network are found, the most names first."""
    body: Counter[tuple[str, str]] = Counter()
    heads: Counter[tuple[str, str]] = Counter()
    longest = max((len(name) for names in own.values() for name in names), default=0)
    for name in shapes:
        # From where a name of the network can begin: names of strangers may be long.
        first = max(0, len(name) - longest)
        for cut in cuts(name, first):
            for layout, names in own.items():
                is_head = names.get(name[cut:])
                if is_head is not None:
                    (heads if is_head else body)[name[:cut], layout] += 1
    places: dict[str, _Place] = {}
    for (prefix, layout), count in body.items():
        names = own[layout].values()
        wanted, last = len(names) - sum(names), sum(names)
        head = heads[prefix, layout]
        place = _Place(prefix, layout, count + head, count == wanted, head == last)
        if prefix not in places or place.matched > places[prefix].matched:
            places[prefix] = place
    return sorted(places.values(), key=lambda place: -place.matched)


def _once(places: list[_Place], own: Mapping[str, Mapping[str, bool]]) -> list[_Place]:
    """Leave out places that are the same arrays by another layout, but for a head."""
    found: dict[frozenset[str], _Place] = {}
    for place in places:
        names = own[place.layout].items()
        body = frozenset(place.prefix + name for name, is_head in names if not is_head)
        found.setdefault(body, place)
    return list(found.values())


def _asked(
    complete: list[_Place],
    found: list[_Place],
    contents: Contents,
    key: str,
    source: str,
    setting: str,
) -> list[_Place]:
    """Keep the places that a key names: exactly, else by a part of theirs."""
    wanted = key.rstrip(ENDS) or ROOT
    asked = parts(wanted)
    for places in (complete, found[:MOST_PLACES]):
        exact = [place for place in places if place.key == wanted]
        some = exact or [place for place in places if _has(parts(place.prefix), asked)]
        if some:
            # Of what is no whole network, the one that is nearest to it.
            return some if places is complete else some[:1]
    keys = [place.key for place in complete] or _tops(contents)
    raise ValueError(
        f"`{setting}`={key!r} is not in {source!r}; expected one of "
        f"{', '.join(map(repr, keys))}."
    )


def _has(whole: list[str], some: list[str]) -> bool:
    """Tell whether some parts follow one another in a whole."""
    starts = range(len(whole) - len(some) + 1) if some else ()
    return any(whole[start : start + len(some)] == some for start in starts)


def _tops(contents: Contents) -> list[str]:
    tops = dict.fromkeys(parts(name)[0] for name in contents.shapes if parts(name))
    return list(tops)[:20]


def _refuse_unnamed(
    contents: Contents,
    complete: list[_Place],
    own: Mapping[str, Mapping[str, bool]],
    source: str,
    setting: str,
) -> None:
    """Refuse to guess where there are averages that cannot be told apart by name."""
    prefixes = tuple(place.prefix for place in complete if place.prefix)
    counts: Counter[str] = Counter()
    for name, shape in contents.shapes.items():
        if shape and not name.startswith(prefixes):
            holder = averaged_holder(name)
            counts[holder] += bool(holder)
    for holder, count in contents.unnamed.items():
        if says_averaged(holder):
            counts[holder] += count
    # A loss may keep an average of its own; a network's has many arrays.
    least = len(own[complete[0].layout]) / 4
    many = [holder for holder, count in counts.items() if count >= least]
    if many:
        keys = ", ".join(repr(place.key) for place in complete)
        raise ValueError(
            f"`weights`={source!r} has averaged weights under {many[0]!r} that are no "
            f"whole network by their names, and others; expected {setting}={keys} for "
            "those."
        )


def _all_equal(
    contents: Contents, among: list[_Place], own: Mapping[str, Mapping[str, bool]]
) -> bool:
    """Tell whether several places hold the same values, so that any will do."""
    if len({place.layout for place in among}) > 1:
        return False
    first, *rest = among
    shapes = contents.shapes
    names = [name for name in own[first.layout] if first.prefix + name in shapes]
    reference = contents.read([first.prefix + name for name in names])
    for place in rest:
        others = [place.prefix + name for name in names]
        if not all(name in shapes for name in others):
            return False
        read = contents.read(others)
        if not all(
            np.array_equal(reference[first.prefix + name], read[place.prefix + name])
            for name in names
        ):
            return False
    return True


def _question(source: str, among: list[_Place], averaged: bool, setting: str) -> str:
    keys = ", ".join(repr(place.key) for place in among[:MOST_PLACES])
    kind = "averages of the weights" if averaged else "networks"
    return (
        f"`weights`={source!r} holds {len(among)} {kind} that have all the names and "
        f"other values; expected {setting} to be one of {keys}."
    )


def _describe(
    contents: Contents,
    chosen: _Place,
    own: Mapping[str, Mapping[str, bool]],
    complete: list[_Place],
) -> Selection:
    expected = own[chosen.layout]
    others = [place for place in complete if place.prefix != chosen.prefix]
    inner = tuple(place.prefix for place in others if place.prefix)
    names, beside = {}, []
    for name, shape in contents.shapes.items():
        rest = name[len(chosen.prefix) :]
        inside = name.startswith(chosen.prefix)
        if inside and rest in expected:
            names[name] = rest
        elif inside and rest.endswith("num_batches_tracked"):
            continue
        elif inside and not _is_bystander(rest, shape, chosen, inner, name):
            names[name] = rest
        elif not (inner and name.startswith(inner)) and _is_telling(name, shape):
            beside.append(name)
    if not chosen.complete:
        beside = []
    return Selection(
        chosen.key,
        names,
        chosen.complete,
        chosen.head,
        is_averaged(chosen.prefix, contents),
        tuple(place.key for place in others),
        tuple(beside),
    )


def _is_bystander(
    rest: str, shape: tuple[int, ...], chosen: _Place, inner: tuple[str, ...], name: str
) -> bool:
    """Tell whether what lies under the prefix, but is not expected, is no layer."""
    first = words(parts(rest)[0]) if parts(rest) else set()
    return chosen.complete and (
        bool(inner and name.startswith(inner))
        or (chosen.layout != tables.OWN and NEST in rest)
        or (not shape and len(parts(rest)) == 1)
        or bool(first & (_BYSTANDERS | AVERAGED))
        or (not chosen.head and bool(first & _HEADS))
    )


def _is_telling(name: str, shape: tuple[int, ...]) -> bool:
    """Tell whether a left out array is worth a word: no counter, no optimiser's."""
    said = words(name)
    return bool(shape) and not (
        said & {"optimizer", "optimizers", "optim", "scheduler", "schedulers", "rng"}
        or "exp_avg" in name
        or name.endswith("num_batches_tracked")
    )

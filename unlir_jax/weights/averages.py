"""Tell by their names which weights of a file are averages over training."""

import re
from collections.abc import Iterator

from unlir_jax.weights.contents import NEST, Contents

AVERAGED = frozenset("ema swa averaged polyak shadow".split())
"""Words in a key that say that its weights are an average over training."""

_AVERAGES = ("average", "average_model", "model_average", "avg_model", "model_avg")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
ENDS = "./"
"""What ends a prefix of names."""


def cuts(name: str, first: int = 0) -> Iterator[int]:
    """Give the places, from `first` on, between a prefix of a name and the rest."""
    if not first:
        yield 0
    for place in range(max(0, first - 1), len(name)):
        if name[place] in ENDS:
            yield place + 1


def parts(prefix: str) -> list[str]:
    """Split a prefix at points and slashes."""
    return [part for part in re.split(r"[./]", prefix) if part]


def words(key: str) -> set[str]:
    """Split a key into its words, `state_dict_ema` and `EMACallback` alike."""
    return {word.lower() for word in _WORDS.findall(key)}


def is_averaged(prefix: str, contents: Contents) -> bool:
    """Tell whether the weights behind a prefix are an average over training.

    Two trainers exchange the places when they save, so that `state_dict` is the
    average: Lightning 2.6.6's `WeightAveraging` puts the raw weights under
    `current_model_state`, and MMEngine 0.10.7's `EMAHook` puts them under
    `ema_state_dict`, with a count of steps. `AveragedModel` of
    `torch.optim.swa_utils` (PyTorch 2.13) is recognised by its count.
    """
    top = prefix.partition(NEST)[0]
    exchanged = f"ema_state_dict{NEST}steps" in contents.shapes
    if top == "ema_state_dict" and exchanged:
        return False
    if top == "state_dict" and (exchanged or _keeps_raw_ones(contents)):
        return True
    if prefix.endswith("module.") and f"{prefix[:-7]}n_averaged" in contents.shapes:
        return True
    return says_averaged(prefix)


def _keeps_raw_ones(contents: Contents) -> bool:
    within = f"current_model_state{NEST}"
    return any(name.startswith(within) for name in contents.shapes)


def says_averaged(prefix: str) -> bool:
    """Tell whether a prefix says so by a word of its own."""
    return bool(words(prefix) & AVERAGED) or any(
        part.lower() in _AVERAGES for part in parts(prefix)
    )


def averaged_holder(name: str) -> str:
    """Give the first part of a name that says that it is an average, or nothing."""
    if not says_averaged(name):
        return ""
    first = 0
    # Part by part: no word goes over the end of one, and none has but two letters.
    for cut in (*cuts(name), len(name)):
        if cut - first > 2 and says_averaged(name[first:cut]):
            # A last part that says so, as `ema_conv1_weight`, is one of many alike.
            return name[:cut].rstrip(ENDS) if cut < len(name) else "ema_…"
        first = cut
    return ""

"""Comparison of several methods at several numbers of shots."""

from collections.abc import Sequence

from unlir_jax.core.document_types import Record
from unlir_jax.few_shot import methods
from unlir_jax.statistics import significance

# Of a single run's summary, what is said again.
SAID = (
    *("test/accuracy", "test/accuracy_low", "test/accuracy_high"),
    *("test/accuracy_draws", "test/loss", "trained_parameters", "seconds_per_draw"),
)
COMMON = ("ways", "unlabelled", "model", "after", "test_examples", "versions")
AGAINST = "test/accuracy_against_probe"


def compare(found: Sequence[Record]) -> Record:
    """Put summaries of single runs together, each method next to the best probe.

    The probe is the one with the largest mean accuracy at that number of shots, chosen
    on the test itself, which is in its favour. Draws are the same for all methods, and
    differences are of pairs.

    Args:
        found: See `trial.run`, of all combinations, with the same draws.

    Returns:
        `{method}/{k}/…` for each run; `{k}/best_probe`, where there is one; and for all
        other methods `{method}/{k}/test/accuracy_against_probe`, `…_low` and `…_high`.
    """
    names = list(dict.fromkeys(each["method"] for each in found))
    shots = sorted({each["k"] for each in found})
    table = {(each["method"], each["k"]): each for each in found}
    summary: Record = {
        f"{name}/{k}/{what}": table[name, k][what]
        for name in names
        for k in shots
        for what in SAID
    }
    rivals = probes(names)
    for k in shots if rivals else ():
        best = max(rivals, key=lambda name, k=k: table[name, k]["test/accuracy"])
        summary[f"{k}/best_probe"] = best
        for name in names:
            if name != best:
                difference = significance.bootstrap_difference(
                    table[name, k]["test/accuracy_draws"],
                    table[best, k]["test/accuracy_draws"],
                )
                key = f"{name}/{k}/{AGAINST}"
                summary[key] = float(difference.mean)
                summary[f"{key}_low"] = float(difference.low)
                summary[f"{key}_high"] = float(difference.high)
    summary |= {name: found[0][name] for name in COMMON}
    draws = len(found[0]["test/accuracy_draws"])
    return summary | {"methods": names, "k": shots, "draws": draws}


def probes(names: Sequence[str]) -> list[str]:
    """List those that learn nothing but a classifier of frozen features."""
    return [name for name in names if not methods.METHODS[name].adapters]

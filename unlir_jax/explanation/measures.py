"""Metrics of `unlir explain`, and the terms under which they are computed."""

from unlir_jax import maps, metrics
from unlir_jax.core.document_types import Record
from unlir_jax.explanation import scoring
from unlir_jax.metrics.spec import Needs
from unlir_jax.split import scores
from unlir_jax.types import Metric, SplitModel

AVERAGES = ("average_drop", "average_increase", "average_gain")
BASELINES: dict[str, maps.Baseline] = {"insertion": "blur", "deletion": "black"}
CURVE_STEPS = 28
SIGNS: maps.Signs = "relu"


def scorers(model: SplitModel, score: scores.Score) -> list[scoring.Scorer]:
    """List the metrics of a report, of methods with a sign and without."""
    return [
        _scorer(
            metrics.average_scores(model, score=score, signs=SIGNS),
            *AVERAGES,
            needs="logits",
            unsigned=metrics.average_scores(model, score=score, signs="range"),
        ),
        # Both together have one program and one pass less than each by itself.
        _scorer(
            metrics.insertion_minus_deletion(
                model,
                insertion_baseline=BASELINES["insertion"],
                deletion_baseline=BASELINES["deletion"],
                steps=CURVE_STEPS,
                score=score,
            ),
            *(name for each in BASELINES for name in (each, f"{each}_curve")),
        ),
        _scorer(
            scoring.masked_probability(model, score, signs=SIGNS),
            "masked_probability",
            unsigned=scoring.masked_probability(model, score, signs="range"),
        ),
    ]


def terms(score: scores.Score) -> Record:
    """Say what the scores of a report mean."""
    curves = {
        name: {"baseline": baseline, "steps": CURVE_STEPS}
        for name, baseline in BASELINES.items()
    }
    return {
        "score": score.meaning,
        "mask": "pixels in [0,1] before the network's normalisation",
        "normalization": "range",
        "ties": "row-major",
        "contract": {
            name: metrics.contract(name, curves.get(name, {}) | {"score": score})
            for name in (*AVERAGES, *curves)
        },
    }


def _scorer(
    metric: Metric,
    *names: str,
    needs: Needs = "map",
    unsigned: Metric | None = None,
) -> scoring.Scorer:
    return scoring.Scorer({name: name for name in names}, metric, {}, needs, unsigned)

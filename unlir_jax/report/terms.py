"""The terms of an evaluation: each metric's contract, and what its baseline decides."""

from unlir_jax.core.document_types import Document
from unlir_jax.report import words

TERMS = {
    "mask_space": "Masks act on",
    "score": "Score",
    "baseline": "Baseline",
    "ties": "Ties",
    "normalization": "Normalisation of the map",
    "signs": "Negative values",
    "flat_map": "A flat map",
    "void": "Void pixels",
    "unbounded": "A score without bounds",
}


def ranking_sentences(found: Document) -> list[str]:
    """Tell, for each metric with several baselines, how far they agree."""
    sentences = []
    for name, facts in found["rankings"].items():
        pairs = len(facts["methods"]) * (len(facts["methods"]) - 1) // 2
        turned = round(facts["reversals"] * pairs)
        first = facts["always_first"]
        settings = [found["contract"][m]["settings"] for m in facts["metrics"]]
        of = words.enumerate_names([each["baseline"] for each in settings])
        sentences.append(
            f"{words.metric_title(name)}: between the baselines {of}, {turned} of "
            f"{pairs} pairs of methods change their order; the least rank correlation "
            f"is {facts['lowest']:.2f}. "
            + (
                f"{words.method_title(first)} is first with all."
                if first
                else "No method is first with all."
            )
        )
    return sentences

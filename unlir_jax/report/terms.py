"""The terms of an evaluation: each metric's contract, and what its baseline decides."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from unlir_jax.report import words

TERMS = {
    "mask_space": "Masks act on",
    "score": "Score",
    "baseline": "Baseline",
    "ties": "Ties",
    "normalization": "Normalisation of the map",
    "flat_map": "A flat map",
    "void": "Void pixels",
}


def contracts(found: Mapping[str, Any]) -> str:
    """Write what every metric means as a table, and all settings as they are."""
    heads = "".join(f'<th scope="col">{head}</th>' for head in TERMS.values())
    body = "".join(
        f'<tr><th scope="row">{escape(words.metric_title(name))}</th>'
        + "".join(f"<td>{escape(str(terms[term]))}</td>" for term in TERMS)
        + f"<td>{escape(_settings(terms['settings']))}</td></tr>"
        for name, terms in found["contract"].items()
    )
    resize = {terms["resize"] for terms in found["contract"].values()}
    text = json.dumps(
        {"about": found["about"], "thresholds": found["thresholds"]},
        indent=2,
        ensure_ascii=False,
        default=str,
    )
    return (
        '<section id="contract"><h2>The contract of each metric</h2>'
        '<p class="subject">Two figures of one name compare only where all of this is '
        f"equal. Maps are enlarged {escape(words.enumerate_names(sorted(resize)))}."
        '</p><div class="scroll"><table class="terms"><thead><tr>'
        f'<th scope="col">Metric</th>{heads}<th scope="col">Settings</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"<details><summary>All settings</summary><pre>{escape(text)}</pre></details>"
        "</section>"
    )


def rankings(found: Mapping[str, Any]) -> str:
    """Say whether the order of methods depends on a metric's baseline."""
    items = "".join(
        f"<li>{escape(sentence)}</li>" for sentence in ranking_sentences(found)
    )
    if not items:
        return ""
    return (
        '<section id="rankings"><h2>Does the baseline decide?</h2>'
        f"<ul>{items}</ul></section>"
    )


def ranking_sentences(found: Mapping[str, Any]) -> list[str]:
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


def _settings(settings: Mapping[str, Any]) -> str:
    shown = (
        f"{name} {'–' if value is None or value == [] else value}"
        for name, value in settings.items()
    )
    return ", ".join(shown) or "none"

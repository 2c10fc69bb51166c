"""Tables of the documentation, from specs of explainers, metrics, attacks and scores.

    python docs/tables.py          # fills the blocks of every page
    python docs/tables.py --check  # names the pages that are not up to date

A block begins with `<!-- generated: methods -->`, where `metrics`, `attacks` and
`scores` are the others, and ends with `<!-- end -->`. In README.md it has a line each
family, elsewhere a line each method, metric, attack or score.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from unlir_jax import attacks, metrics, saliency
from unlir_jax.open_set import scores

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(<!-- generated: (methods|metrics|attacks|scores) -->\n).*?(<!-- end -->)",
    re.DOTALL,
)
FAMILIES = {
    "cam": ("class activation maps", "1 to thousands"),
    "gradients": ("gradients", "3 to 150"),
    "perturbation": ("perturbation", "200 to 4,000"),
    "attention": ("attention, of transformers or in pooling", "1 to 3"),
    "relevance": ("relevance, layer by layer", "2 to 4"),
    "controls": ("controls, without the network", "0"),
}
"""Headings of the families of explainers, and the passes of their methods."""
QUESTIONS = {
    "masking": "Does the region suffice?",
    "removal": "Is the order of pixels right?",
    "localization": "Does the map lie on the object?",
    "randomisation": "Does the map depend on the weights?",
    "stability and size": "Is the map stable, and small?",
}
"""Questions that the families of metrics answer."""


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heading, ["---"] * len(heading), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _few(names: Sequence[str], count: int) -> str:
    """Join the first names, and say how many there are."""
    if len(names) <= count + 1:
        return ", ".join(names)
    return f"{', '.join(names[:count])}, … ({len(names)})"


def methods() -> str:
    """List the explainers, a line each family."""
    families: dict[str, list[str]] = {}
    for spec in saliency.SPECS.values():
        families.setdefault(spec.family, []).append(spec.title)
    rows = []
    for family, titles in families.items():
        heading, passes = FAMILIES.get(family, (family, "–"))
        rows.append((heading, _few(titles, 6), passes))
    return _table(("family", "methods", "network passes"), rows)


def all_methods() -> str:
    """List the explainers, a line each."""
    rows = [
        (f"`{name}`", spec.formula, _sign(name), spec.passes, spec.source)
        for name, spec in saliency.SPECS.items()
    ]
    return _table(("name", "map", "sign", "network passes", "source"), rows)


def _sign(name: str) -> str:
    """Say whether a method's maps have a sign, or with which setting."""
    signed = saliency.SPECS[name].signed
    if saliency.is_signed(name):
        return "yes"
    if not signed or isinstance(signed, bool):
        return "no"
    return " ".join(f"`{each}={values[0]!r}`" for each, values in signed.items())


def all_metrics() -> str:
    """List the metrics, a line each."""
    rows = []
    for name, spec in metrics.SPECS.items():
        further = [
            f"`{each}` {_arrow(output.better)}"
            for each, output in spec.outputs.items()
            if each != spec.variants
        ]
        variants = f", `@{spec.variants}`" if spec.variants else ""
        rows.append(
            (
                f"`{name}`{variants}",
                spec.meaning + (f" Also gives {', '.join(further)}." * bool(further)),
                spec.better,
                spec.needs.replace("_", " "),
                spec.fooled_by,
                spec.passes,
                spec.source,
            )
        )
    heading = ("name", "question", "better", "needs", "fooled by", "passes", "source")
    return _table(heading, rows)


def all_attacks() -> str:
    """List the attacks, a line each."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{norm}`" for norm in spec.norms),
            {"budget": "`epsilon`", "minimal": "none"}[spec.kind],
            spec.passes,
            spec.source,
        )
        for name, spec in attacks.SPECS.items()
    ]
    return _table(("name", "norms", "budget", "network passes", "source"), rows)


def all_scores() -> str:
    """List the scores of open sets, a line each."""
    rows = [
        (f"`{name}`", spec.formula, spec.takes, spec.source)
        for name, spec in scores.SPECS.items()
    ]
    return _table(("name", "score, high for known", "reads", "source"), rows)


def metrics_by_question() -> str:
    """List the metrics, a line each family."""
    families: dict[str, list[metrics.MetricSpec]] = {}
    for spec in metrics.SPECS.values():
        families.setdefault(spec.family, []).append(spec)
    rows = [
        (
            QUESTIONS.get(family, family),
            _few([f"{spec.title} {_arrow(spec.better)}" for spec in specs], 4),
            _few(list(dict.fromkeys(spec.fooled_by for spec in specs)), 2),
        )
        for family, specs in families.items()
    ]
    return _table(("question", "metrics", "fooled by"), rows)


def _arrow(better: str) -> str:
    return "↑" if better == "higher" else "↓"


def fill(text: str, short: bool = False) -> str:
    """Fill the blocks of a page, with a line each family if they are to be short."""
    if short:
        tables = {"methods": methods, "metrics": metrics_by_question}
    else:
        tables = {"methods": all_methods, "metrics": all_metrics}
    tables |= {"attacks": all_attacks, "scores": all_scores}
    return BLOCK.sub(lambda found: f"{found[1]}{tables[found[2]]()}{found[3]}", text)


def pages() -> list[Path]:
    """List the pages that may have blocks."""
    return [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def main(check: bool) -> int:
    """Fill all pages, or name those that differ."""
    stale = 0
    for page in pages():
        before = page.read_text("utf-8")
        after = fill(before, page.name == "README.md")
        if after != before:
            stale += 1
            print(page.relative_to(ROOT))
            if not check:
                page.write_text(after, "utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

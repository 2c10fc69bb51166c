"""Panel of a part network's decision on the page: parts, ledger and contrast."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from PIL import Image

from unlir_jax.core.document_types import Document
from unlir_jax.report import html


def panel(
    name: str,
    entry: Document,
    views: Mapping[int, Image.Image],
    regions: Mapping[int, Sequence[Image.Image]],
    sentence: str = "",
) -> html.Markup:
    """Write which parts decided about an image, where they are and how much they add.

    Args:
        name: Name of the image.
        entry: See `part_account.account`.
        views: By part, where it is in the image.
        regions: By part, training regions that look like it.
        sentence: Why there are none, or "".
    """
    return html.render(
        "account.html",
        name=name,
        entry=entry,
        views=views,
        regions=regions,
        sentence=sentence,
        ledger=lines(entry),
        sums=lines(entry["contrast"]),
        part_title=part_title,
        signed=signed,
        largest=largest,
        small=lambda image: image.resize((112, 112), Image.Resampling.LANCZOS),
    )


def part_title(line: Document) -> str:
    """Name a part for people: its number, and the keypoint that it is usually at."""
    known = line.get("keypoint")
    if isinstance(known, Mapping):
        known = known["name"]
    return f"Part {line['part']}" + (f" · {known}" if known else "")


def signed(value: float | Decimal) -> str:
    """Print a number with its sign and two decimals, a minus that is one."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\u2212")


def lines(entry: Document) -> list[tuple[str, Decimal]]:
    """Write a ledger whose printed numbers add up.

    The sum of the parts that are not shown takes what rounding leaves: less than a
    hundredth for each line.

    Returns:
        A title and an amount each: the parts that are shown, the others, the bias, and
        last the total.
    """
    shown = [
        (part_title(line), _cents(line["contribution"])) for line in entry["shown"]
    ]
    bias, total = _cents(entry["bias"]), _cents(entry["total"])
    others = total - bias - sum((amount for _, amount in shown), Decimal(0))
    count = entry["others"]["parts"]
    rest = [(f"the other {count} part{'s' * (count != 1)}", others)] if count else []
    if not count:
        bias += others
    return [*shown, *rest, ("bias", bias), ("total", total)]


def largest(entry: Document) -> float:
    """Find the amount that the longest bar stands for."""
    amounts = [line["contribution"] for line in entry["shown"]]
    return max([abs(amount) for amount in amounts], default=0.0) or 1.0


def _cents(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"))

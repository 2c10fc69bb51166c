"""Why a part network decided so, as a piece of the page: parts, ledger and contrast."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from PIL import Image

from unlir_jax.report import html


def panel(
    name: str,
    entry: Mapping[str, Any],
    views: Mapping[int, Image.Image],
    regions: Mapping[int, Sequence[Image.Image]],
    sentence: str = "",
) -> str:
    """Write which parts decided about a picture, where they are and how much they add.

    Args:
        name: Of the picture.
        entry: See `part_account.account`.
        views: By part, where it is in the picture.
        regions: By part, training regions that look like it.
        sentence: Why there are none, or "".
    """
    title = escape(entry["class"]["name"])
    most = largest(entry)
    rows = "".join(
        _part(name, line, views[line["part"]], regions.get(line["part"], ()), most)
        for line in entry["shown"]
    )
    note = f'<p class="note">{escape(sentence)}</p>' if sentence else ""
    return (
        '<section class="account"><h3>Which parts, where, and how much each adds to '
        f"the logit of {title}</h3>{note}"
        f'<div class="parts">{rows}</div></section>'
        f'<div class="sums">{_ledger(entry)}{_contrast(entry, views)}</div>'
    )


def part_title(line: Mapping[str, Any]) -> str:
    """Name a part for people: its number, and the keypoint that it is usually at."""
    known = line.get("keypoint")
    if isinstance(known, Mapping):
        known = known["name"]
    return f"Part {line['part']}" + (f" · {known}" if known else "")


def signed(value: float | Decimal) -> str:
    """Print a number with its sign and two decimals, a minus that is one."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\u2212")


def lines(entry: Mapping[str, Any]) -> list[tuple[str, Decimal]]:
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


def largest(entry: Mapping[str, Any]) -> float:
    """Find the amount that the longest bar stands for."""
    amounts = [line["contribution"] for line in entry["shown"]]
    return max([abs(amount) for amount in amounts], default=0.0) or 1.0


def bar(value: float, most: float) -> str:
    """Draw a bar to the right of the middle, or to the left for what is negative."""
    width = 50 * min(abs(value) / most, 1.0)
    side = "left:50%" if value >= 0 else f"left:{50 - width:.2f}%"
    kind = "plus" if value >= 0 else "minus"
    return (
        f'<span class="signed"><i class="{kind}" '
        f'style="{side};width:{width:.2f}%"></i></span>'
    )


def _cents(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"))


def _part(
    name: str,
    line: Mapping[str, Any],
    view: Image.Image,
    regions: Sequence[Image.Image],
    most: float,
) -> str:
    title, amount = escape(part_title(line)), line["contribution"]
    unseen = "" if line["seen"] else '<span class="flag">hardly seen here</span>'
    crops = "".join(
        html.image(crop, f"Training region {number} of {title}")
        for number, crop in enumerate(regions, 1)
    )
    shown = html.image(view, f"Where {title} is in {name}")
    return (
        f'<div class="part"><figure>{shown}</figure><div><p class="amount">'
        f"<strong>{title}</strong>{unseen}<span>{signed(amount)}</span></p>"
        f"{bar(amount, most)}"
        + (f'<div class="crops">{crops}</div>' if crops else "")
        + "</div></div>"
    )


def _ledger(entry: Mapping[str, Any]) -> str:
    *_, total = lines(entry)
    body = "".join(
        f'<tr><th scope="row">{escape(title)}</th><td>{signed(amount)}</td></tr>'
        for title, amount in lines(entry)[:-1]
    )
    return (
        '<section class="account"><h3>The sum, to the last part</h3>'
        '<table class="ledger">'
        f'<tbody>{body}</tbody><tfoot><tr><th scope="row">= logit of '
        f"{escape(entry['class']['name'])}</th><td>{signed(total[1])}</td></tr></tfoot>"
        "</table></section>"
    )


def _contrast(entry: Mapping[str, Any], views: Mapping[int, Image.Image]) -> str:
    contrast = entry["contrast"]
    own, rival = (escape(found["class"]["name"]) for found in (entry, contrast))
    most = largest(contrast)
    rows = "".join(
        f"<li>{html.image(_small(views[line['part']]), '')}"
        f"<span>{escape(part_title(line))}</span>{bar(line['contribution'], most)}"
        f"<strong>{signed(line['contribution'])}</strong></li>"
        for line in contrast["shown"]
    )
    *_, others, bias, total = lines(contrast)
    return (
        f'<section class="account"><h3>Why {own} and not {rival}</h3>'
        f'<p class="note">How much more each part adds to {own} (right, blue) than to '
        f"{rival} (left, red), the class with the highest logit besides.</p>"
        f'<ol class="contrast">{rows}</ol>'
        f'<p class="note">Together with {escape(others[0])} ({signed(others[1])}) and '
        f"the difference of the biases ({signed(bias[1])}): a logit that is "
        f"<strong>{signed(total[1])}</strong> "
        f"{'higher' if total[1] >= 0 else 'lower, as it is not the first'} for {own}, "
        f"{signed(entry['total'])} against {signed(contrast['logit'])}.</p></section>"
    )


def _small(image: Image.Image) -> Image.Image:
    return image.resize((112, 112), Image.Resampling.LANCZOS)

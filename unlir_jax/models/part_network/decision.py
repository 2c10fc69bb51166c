"""Common part of all decisions by parts: a name and a spec.

A decision is one file: a subclass of `Decision` under `@register(name)`, which
`part_network` imports. Its fields are its settings, but for `classes`, `channels` and
`others`, the channels of the last and of the finer maps.
"""

from collections.abc import Callable
from typing import ClassVar

from flax import linen as nn


class Decision(nn.Module):
    """Decide by parts, from the `Grid` of an image to logits that add up.

    Each has a number of `parts` and the methods `check(rows, columns)`, `look(grid)`,
    `logits(grid, train)`, `read(grid, train)`, `traits(grid, train)`,
    `evidence(grid, labels)` and `offset()`, as `PartNet` describes them. So whatever
    explains, measures or constrains parts need not know which decision it is. A
    parameter `bias`, `[classes]`, tells how many classes a file of weights has.

    Attributes:
        parts_of_classes: Whether each part is one class's, in order: a start then looks
            for parts class by class.
        solvable: Whether `kernel` and `bias` are a linear classifier of descriptors
            less `mean` over `scale`, which a start can solve for.
    """

    parts_of_classes: ClassVar[bool] = False
    solvable: ClassVar[bool] = False

    @property
    def knows(self) -> tuple[str, ...]:
        """List what of `Traits` this decision has besides what all have."""
        return ()


DECISIONS: dict[str, type[Decision]] = {}
"""How parts decide, by name."""


def register(name: str) -> Callable[[type[Decision]], type[Decision]]:
    """Let a decision be asked for by name.

    Raises:
        ValueError: The name is taken.
    """

    def add(kind: type[Decision]) -> type[Decision]:
        if name in DECISIONS:
            raise ValueError(
                f"`name`={name!r} is a decision already; expected another."
            )
        DECISIONS[name] = kind
        return kind

    return add


def check_parts(parts: int, regions: int) -> None:
    """Refuse more parts than there are regions in an image, or none.

    Raises:
        ValueError: There are more parts than regions, or none.
    """
    if not 1 <= parts <= regions:
        raise ValueError(
            f"`parts`={parts}, but an image has {regions} regions; expected 1 to "
            f"{regions} parts, a larger image or smaller regions."
        )


def check_positive(**settings: int | float) -> None:
    """Refuse settings that have to be above zero.

    Raises:
        ValueError: One is not.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"`{name}`={value}; expected a number above 0.")

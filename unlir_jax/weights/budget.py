"""Budget of memory and time for a file of weights, from its own size."""

from typing import NoReturn

FREE_BYTES = 44 << 20
"""What every file may take, …"""

RATIO = 7
"""… and how many times its own size more."""

FREE_STEPS = 500_000
"""How many steps the pickle of a small file may have, and one more for each byte."""


class Budget:
    """Count down what the reading of one file takes, and refuse what is too much."""

    def __init__(self, file_bytes: int) -> None:
        """Start from the size of the file."""
        self.bytes_left = FREE_BYTES + RATIO * file_bytes
        self.steps_left = FREE_STEPS + file_bytes
        self._file_bytes = file_bytes

    def spend(self, count: int) -> None:
        """Take some bytes of memory.

        Raises:
            ValueError: They are more than are left. The text is a clause for the caller
                to put in a sentence.
        """
        self.bytes_left -= count
        if self.bytes_left < 0:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Say that it is too much."""
        raise ValueError(
            f"its {self._file_bytes:,} bytes stand for more than "
            f"{(FREE_BYTES + RATIO * self._file_bytes) >> 20:,} MB in memory, or more "
            "steps than such a file needs"
        )

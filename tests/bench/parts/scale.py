"""How large a run of the benchmark is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """`rounds` measurements of each contestant; `factor` to every number of messages."""

    rounds: int
    factor: float

    def messages(self, full: int) -> int:
        """How many messages stand for `full` ones."""
        return max(1000, int(full * self.factor))

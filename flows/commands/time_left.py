"""How long a run of known steps will still take, for people who watch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class TimeLeft:
    """The time that the steps to come usually take, stretched as this machine stretched those it has done.

    A step that had nothing to do says nothing about the machine, so it only leaves the list.

    Attributes:
        usual_s: Steps in their order, and the seconds that each takes on two idle cores.
    """

    usual_s: Mapping[str, float]
    _open: dict[str, float] = field(init=False)
    _usual_done: float = 0.0
    _taken: float = 0.0

    def __post_init__(self) -> None:
        self._open = dict(self.usual_s)

    def finish(self, step: str, seconds: float, worked: bool = True) -> None:
        """Note a step that ended; one that is not in the list counts for nothing.

        Args:
            step: Its name.
            seconds: What it took.
            worked: Whether it had anything to do.
        """
        usual = self._open.pop(step, None)
        if usual is not None and worked:
            self._usual_done += usual
            self._taken += seconds

    @property
    def seconds(self) -> float:
        """Estimate for all open steps."""
        pace = self._taken / self._usual_done if self._usual_done else 1.0
        return pace * sum(self._open.values())

    def __str__(self) -> str:
        """In words, no finer than the estimate deserves: ``about 40 s left``, ``about 6 min left``."""
        if self.seconds < 90:
            return f"about {max(10, 10 * round(self.seconds / 10))} s left"
        return f"about {round(self.seconds / 60)} min left"

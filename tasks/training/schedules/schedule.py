"""The shape of a learning-rate schedule: what becomes of the peak rate after the linear warm-up."""

from __future__ import annotations

from typing import Protocol


class LearningRateSchedule(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument."""

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def problems(self, warmup_share: float) -> list[str]:
        """What cannot work with a warm-up of this share of the steps: found, expected, the next step."""
        ...

    def describe(self) -> str:
        """The schedule in words, for a page, the middle of a sentence."""
        ...

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        """Share of the peak rate, 0 to 1.

        Args:
            step: Optimizer steps since the warm-up ended.
            steps: Steps of the run after the warm-up, at least 1; ``step`` stays below it.
            warmup_steps: Steps of the warm-up.
        """
        ...


def share_of_peak(schedule: LearningRateSchedule, warmup_steps: int, steps: int, step: int) -> float:
    """Share of the peak rate at an optimizer step: from 0 to 1 over the warm-up, then as the schedule says.

    Args:
        schedule: The schedule.
        warmup_steps: Steps of the warm-up.
        steps: Steps of the whole run.
        step: Steps done before this one.
    """
    if step < warmup_steps:
        return step / warmup_steps
    return schedule.share(step - warmup_steps, max(1, steps - warmup_steps), warmup_steps)


def describe_floor(minimum_share: float) -> str:
    return f", not below {minimum_share:.0%} of the peak" if minimum_share else ""

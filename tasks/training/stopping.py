"""When a run ends before its last step, and which of its steps is the best: functions of the losses logged so far.

Nothing is counted along the way, so a resumed run decides as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tasks.contracts.params import Section

Losses = Sequence[tuple[int, float]]  # step and loss, in order


class EarlyStopping(Section):
    """End a run whose validation loss no longer falls (Prechelt 1998, "Early stopping - but when?").

    Example: ``early_stopping: {patience: 3, minimum_improvement: 0.01}`` with ``keep: best``.
    """

    patience: int = Field(default=3, ge=1, description="validations in a row without improvement that end the run")
    minimum_improvement: float = Field(
        default=0.0, ge=0, description="smallest fall of the validation loss that counts, nats per token"
    )

    def is_over(self, validated: Losses) -> bool:
        """Whether a run with these validation losses, the one before the first step included, ends now."""
        best, since = math.inf, 0
        for _, loss in validated:
            if loss < best - self.minimum_improvement:
                best, since = loss, 0
            else:
                since += 1
        return since >= self.patience


class Divergence(Section):
    """Stop a run whose loss has left its best value far behind, and stays there.

    With a loss of 5 nats before training, three times the best is more than any model does that has lost all it knew:
    such a one gives each of 8,192 tokens the same probability, ln 8,192 = 9.0 nats. That counts as diverged too.
    """

    MARGIN: ClassVar[float] = 0.5  # nats per token; below it a multiple of a tiny loss is noise
    SMOOTHING: ClassVar[float] = 0.8
    GUESSING: ClassVar[float] = 0.95  # share of the loss of a guess from which on a model knows as good as nothing

    factor: float = Field(default=3.0, gt=1, description="times the best loss above which a loss counts as diverged")
    logs: int = Field(
        default=5, ge=1, description="diverged losses in a row, training or validation, that stop the run"
    )

    def rising_since(self, losses: Losses, guess: float = math.inf) -> tuple[int, float, int] | None:
        """The unbroken row of diverged losses at the end: its first step, the best loss before, and its length.

        A loss is diverged when it is above ``factor`` times the lowest exponential moving average before it, or as bad
        as a guess, and in both cases above that average by `MARGIN`.

        Args:
            losses: All training losses, or all validation losses.
            guess: Loss of a model for which all tokens are alike; infinite where the losses are not comparable with it.
        """
        best, average, weight = math.inf, 0.0, 0.0
        since, count = 0, 0
        for step, loss in losses:
            if loss > max(min(self.factor * best, self.GUESSING * guess), best + self.MARGIN):
                since, count = (step, 1) if not count else (since, count + 1)
                continue
            count = 0
            average = self.SMOOTHING * average + (1 - self.SMOOTHING) * loss
            weight = self.SMOOTHING * weight + (1 - self.SMOOTHING)
            best = min(best, average / weight)
        return (since, best, count) if count else None


def read_losses(history: Iterable[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Step and loss out of a trainer's log; ``name`` is ``loss`` or ``eval_loss``."""
    return [(int(entry["step"]), float(entry[name])) for entry in history if name in entry]


def find_best_step(validated: Losses) -> int | None:
    """The trained step with the lowest validation loss, the earliest of several; None without any."""
    trained = [(loss, step) for step, loss in validated if step > 0]
    return min(trained)[1] if trained else None

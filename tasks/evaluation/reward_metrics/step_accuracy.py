"""Step accuracy: share of the steps of held-out answers that a process reward model takes for what they are.

A step is taken for right when its reward is above 0; one of exactly 0 counts half. Every step of every answer counts
the same.

Example:
    Two answers of two and one steps; rewards 1, -2 and 0.5, marks right, wrong and wrong: (1 + 1 + 0) / 3 = 0.667.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading, require_rewards

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class StepAccuracy(Section):
    """Share of steps judged right; higher is better."""

    name: Literal["step_accuracy"] = "step_accuracy"
    title: ClassVar[str] = "Step accuracy"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "rewards"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(item.steps for item in evidence.items):
            return None
        return "no held-out answer has marked steps (data/prepared/answers.parquet)"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        values, weights = np.zeros(len(evidence.items)), np.zeros(len(evidence.items))
        for number, (item, steps) in enumerate(zip(evidence.items, require_rewards(outcome).steps, strict=True)):
            if len(steps):
                signed = steps * np.where(item.steps, 1.0, -1.0)
                values[number] = ((signed > 0) + 0.5 * (signed == 0)).mean()
                weights[number] = len(steps)
        return Scores(values, weights)

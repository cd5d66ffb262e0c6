"""The learning rate over a run, as transformers' schedulers compute it; for the plan's picture."""

from __future__ import annotations

import math

from tasks.training.plan import Plan


def learning_rate_at(plan: Plan, step: int) -> float:
    """Learning rate of optimizer step ``step``, counted from 0.

    ``linear`` and ``cosine`` fall to zero at the end; ``constant`` stays after the warm-up.
    """
    if step < plan.warmup_steps:
        return plan.learning_rate * step / max(1, plan.warmup_steps)
    done = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    if plan.schedule == "linear":
        return plan.learning_rate * max(0.0, 1.0 - done)
    if plan.schedule == "cosine":
        return plan.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
    return plan.learning_rate

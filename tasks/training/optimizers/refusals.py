"""What an optimizer cannot be used for, from what it says it can."""

from __future__ import annotations

from tasks.training.optimizers import optimizers_where
from tasks.training.optimizers.optimizer import Optimizer, OptimizerUse


def list_problems(optimizer: Optimizer, use: OptimizerUse) -> list[str]:
    """Everything that cannot work: what was found, what was expected, the next step."""
    problems = optimizer.problems(use)
    if use.processes > 1 and not optimizer.can.several_ranks:
        problems.append(
            f"processes: {use.processes}, but optimizer {optimizer.name} trains in one; set processes: 1 or take "
            + ", ".join(optimizers_where(lambda can: can.several_ranks))
        )
    return problems

"""What an optimizer cannot be used for, from what it says it can; how processes share the work is a rule of
`tasks.training.combinations`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from tasks.training.optimizers import optimizers_where
from tasks.training.optimizers.optimizer import Optimizer, OptimizerCan, OptimizerUse


def list_problems(optimizer: Optimizer, use: OptimizerUse) -> list[str]:
    """Everything that cannot work: what was found, what was expected, the next step."""
    can, name, problems = optimizer.can, optimizer.name, optimizer.problems(use)
    if use.accumulation_steps > 1 and not can.accumulates:
        problems.append(
            f"accumulation_steps: {use.accumulation_steps}, but optimizer {name} updates within each backward pass and "
            f"keeps no gradient to add to; set accumulation_steps: 1 or take {_others(lambda can: can.accumulates)}"
        )
    if use.clip_norm and not can.clips:
        why = "never has the whole gradient" if can.needs_backward else "has no gradient"
        problems.append(
            f"clip_norm: {use.clip_norm:g}, but optimizer {name} {why} whose norm could be limited; set clip_norm: 0"
        )
    if can.library and find_spec(can.library) is None:
        problems.append(
            f"optimizer {name} needs the package {can.library}, which is not installed; install it or take "
            + _others(lambda can: not can.library)
        )
    if use.precision == "fp16" and not can.keeps_gradients:
        problems.append(
            f"precision: fp16 scales the gradients of a whole step, which optimizer {name} never has; set precision: "
            "bf16 or fp32"
        )
    return problems


def _others(fact: Callable[[OptimizerCan], bool]) -> str:
    return "optimizer " + ", ".join(optimizers_where(fact))

"""Which peak learning rates are usual: what a method, an objective and an optimizer say of themselves, put together.

A method says the range for supervised learning with AdamW (`Method.usual_rates`), an objective its share of it
(`Objective.rate_share`), an optimizer a share for each end (`OptimizerCan.rate_shares`). All weights of the embedded
base learn at 1.0e-5 to 3.0e-3, with DPO at 1.0e-6 to 3.0e-4, and with GaLore at 1.0e-5 to 3.0e-2.
"""

from __future__ import annotations

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Method, Rates
from tasks.training.objectives import AnyObjective
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.optimizer import Optimizer

ROUNDING = 1e-9


def usual_rates(method: Method, objective: AnyObjective, shape: ModelShape, optimizer: Optimizer) -> Rates | None:
    """Lowest and highest peak learning rate that is usual; None for an optimizer that AdamW's rates say nothing of."""
    if optimizer.can.rate_shares is None:
        return None
    low, high = method.usual_rates(shape)
    lowest, highest = optimizer.can.rate_shares
    return low * objective.rate_share * lowest, high * objective.rate_share * highest


def tell_unusual_rate(
    rate: float, method: Method, objective: AnyObjective, shape: ModelShape, optimizer: Optimizer
) -> list[str]:
    """A sentence where a learning rate is none of the usual ones, with what is; empty where it is."""
    usual = usual_rates(method, objective, shape, optimizer)
    if usual is None or usual[0] * (1 - ROUNDING) <= rate <= usual[1] * (1 + ROUNDING):
        return []
    which = "low" if rate < usual[0] else "high"
    updated = "" if isinstance(optimizer, AdamW) else f" and optimizer {optimizer.name}"
    return [
        f"learning_rate {rate:g} is {which} for objective {objective.name} with method {method.name}{updated} on "
        f"{shape.parameters:,} parameters; {usual[0]:.2g} to {usual[1]:.2g} is usual"
    ]

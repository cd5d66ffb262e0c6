"""Which peak learning rates are usual: what a method and an objective say of themselves, put together.

A method says the range for supervised learning (`Method.usual_rates`), an objective its share of it
(`Objective.rate_share`). All weights of the embedded base learn at 1.0e-5 to 3.0e-3, and with DPO at 1.0e-6 to 3.0e-4.
"""

from __future__ import annotations

from tasks.language_models.shape import ModelShape
from tasks.training.methods.method import Method, Rates
from tasks.training.objectives import AnyObjective

ROUNDING = 1e-9


def usual_rates(method: Method, objective: AnyObjective, shape: ModelShape) -> Rates:
    """Lowest and highest peak learning rate that is usual with AdamW."""
    low, high = method.usual_rates(shape)
    return low * objective.rate_share, high * objective.rate_share


def tell_unusual_rate(rate: float, method: Method, objective: AnyObjective, shape: ModelShape) -> list[str]:
    """A sentence where a learning rate is none of the usual ones, with what is; empty where it is."""
    low, high = usual_rates(method, objective, shape)
    if low * (1 - ROUNDING) <= rate <= high * (1 + ROUNDING):
        return []
    which = "low" if rate < low else "high"
    return [
        f"learning_rate {rate:g} is {which} for objective {objective.name} with method {method.name} on "
        f"{shape.parameters:,} parameters; {low:.2g} to {high:.2g} is usual"
    ]

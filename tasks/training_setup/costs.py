"""What a run takes: hours, money and energy, from tokens and a rate that was stated or measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.training.plan import Plan


@dataclass(frozen=True)
class Costs:
    """What a run takes on one machine, validation and checkpoints apart.

    Attributes:
        tokens: Tokens trained, over all epochs.
        seconds: Time of the training; None where no rate is known.
        price: In the currency of the hourly price; None where that is not stated.
        kilowatt_hours: Energy; None where the power is not stated.
    """

    tokens: int
    seconds: float | None
    price: float | None
    kilowatt_hours: float | None


def foresee_costs(
    plan: Plan, tokens_per_second: float | None, price_per_hour: float | None, watts: float | None
) -> Costs:
    """What a plan takes.

    Args:
        plan: The plan.
        tokens_per_second: Of all processes together.
        price_per_hour: Of the machine, or of all machines.
        watts: That it draws while it trains.

    Example:
        3.6 million tokens at 1,000 a second are an hour; at 2.50 an hour and 400 W, 2.50 and 0.4 kWh.
    """
    tokens = round(plan.tokens * plan.epochs)
    seconds = tokens / tokens_per_second if tokens_per_second else None
    hours = seconds / 3600 if seconds is not None else None
    return Costs(
        tokens=tokens,
        seconds=seconds,
        price=None if hours is None or price_per_hour is None else hours * price_per_hour,
        kilowatt_hours=None if hours is None or watts is None else hours * watts / 1000,
    )


def sum_costs(each: Sequence[Costs]) -> Costs:
    """What several trainings take one after another; what is not known of one is not known of all."""

    def total(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return Costs(
        tokens=sum(one.tokens for one in each),
        seconds=total([one.seconds for one in each]),
        price=total([one.price for one in each]),
        kilowatt_hours=total([one.kilowatt_hours for one in each]),
    )

"""What a training is for, one file per objective; the union is the only registry.

`tasks.training.objectives.objective` says what an objective has to answer, `tasks.training.objectives.plain` answers
what most leave alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.objectives.distillation import Distillation
from tasks.training.objectives.objective import Objective, ObjectiveCan
from tasks.training.objectives.pretraining import Pretraining
from tasks.training.objectives.supervised import Supervised

AnyObjective = Annotated[Supervised | Pretraining | Distillation, Field(discriminator="name")]

OBJECTIVES: tuple[type[Objective], ...] = get_args(get_args(AnyObjective)[0])


def objectives_where(fact: Callable[[ObjectiveCan], bool] = lambda _: True) -> list[str]:
    """Names of the objectives of which a fact holds, as ``params.yaml`` takes them; for refusals."""
    return [objective().name for objective in OBJECTIVES if fact(objective.can)]

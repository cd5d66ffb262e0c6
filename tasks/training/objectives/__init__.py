"""What a training is for, one file per objective; the union is the only registry.

`tasks.training.objectives.objective` says what an objective has to answer, and
`tests/tasks/training/objectives/test_contract.py` holds every member of the union to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.objectives.contrastive import Contrastive
from tasks.training.objectives.objective import Objective, ObjectiveCan
from tasks.training.objectives.preferences.cpo import Cpo
from tasks.training.objectives.preferences.dpo import Dpo
from tasks.training.objectives.preferences.ipo import Ipo
from tasks.training.objectives.preferences.kto import Kto
from tasks.training.objectives.preferences.orpo import Orpo
from tasks.training.objectives.preferences.simpo import Simpo
from tasks.training.objectives.pretraining import Pretraining
from tasks.training.objectives.reinforcement.grpo import Grpo
from tasks.training.objectives.reinforcement.ppo import Ppo
from tasks.training.objectives.reinforcement.rloo import Rloo
from tasks.training.objectives.reward_models.process_reward_model import ProcessRewards
from tasks.training.objectives.reward_models.reward_model import OutcomeRewards
from tasks.training.objectives.supervised import Supervised
from tasks.training.objectives.teaching.distillation import Distillation
from tasks.training.objectives.teaching.gkd import Gkd

AnyObjective = Annotated[
    Supervised
    | Pretraining
    | Distillation
    | Gkd
    | Dpo
    | Ipo
    | Orpo
    | Cpo
    | Simpo
    | Kto
    | OutcomeRewards
    | ProcessRewards
    | Grpo
    | Rloo
    | Ppo
    | Contrastive,
    Field(discriminator="name"),
]

OBJECTIVES: tuple[type[Objective], ...] = get_args(get_args(AnyObjective)[0])


def objectives_where(fact: Callable[[ObjectiveCan], bool] = lambda _: True) -> list[str]:
    """Names of the objectives of which a fact holds, as ``params.yaml`` takes them; for refusals."""
    return [objective().name for objective in OBJECTIVES if fact(objective.can)]

"""How weights are updated, one file per optimizer; the union is the only registry.

`tasks.training.optimizers.optimizer` says what an optimizer has to answer, and
`tests/tasks/training/optimizers/test_contract.py` holds every member of the union to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.optimizers.adadelta import Adadelta
from tasks.training.optimizers.adafactor import Adafactor
from tasks.training.optimizers.adagrad import Adagrad
from tasks.training.optimizers.adalomo import AdaLomo
from tasks.training.optimizers.adam import Adam
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.adamw_8bit import AdamW8bit
from tasks.training.optimizers.apollo import Apollo
from tasks.training.optimizers.galore import GaLore
from tasks.training.optimizers.gradient_descent import GradientDescent
from tasks.training.optimizers.lion import Lion
from tasks.training.optimizers.lomo import Lomo
from tasks.training.optimizers.mezo import MeZO
from tasks.training.optimizers.momentum import Momentum
from tasks.training.optimizers.muon import Muon
from tasks.training.optimizers.optimizer import Optimizer, OptimizerCan
from tasks.training.optimizers.paged_adamw import PagedAdamW
from tasks.training.optimizers.rmsprop import RMSprop
from tasks.training.optimizers.schedule_free import ScheduleFree
from tasks.training.optimizers.sgd import Sgd

AnyOptimizer = Annotated[
    AdamW
    | GradientDescent
    | Sgd
    | Momentum
    | Adagrad
    | RMSprop
    | Adadelta
    | Adam
    | AdamW8bit
    | PagedAdamW
    | Adafactor
    | Lion
    | Muon
    | ScheduleFree
    | GaLore
    | Apollo
    | Lomo
    | AdaLomo
    | MeZO,
    Field(discriminator="name"),
]

OPTIMIZERS: tuple[type[Optimizer], ...] = get_args(get_args(AnyOptimizer)[0])

# How params of earlier versions, where an optimizer was no more than a name, are written now.
EARLIER_NAMES = {
    "adamw_torch": "{name: adamw}",
    "adamw_torch_fused": "{name: adamw, fused: true}",
    "adafactor": "{name: adafactor}",
    "adagrad": "{name: adagrad}",
    "rmsprop": "{name: rmsprop}",
    "sgd": "{name: sgd}",
}


def optimizers_where(fact: Callable[[OptimizerCan], bool] = lambda _: True) -> list[str]:
    """Names of the optimizers of which a fact holds, as ``params.yaml`` takes them; for refusals."""
    return [optimizer().name for optimizer in OPTIMIZERS if fact(optimizer.can)]

"""How the learning rate changes over a run, one file per schedule; the union is the only registry."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from tasks.training.schedules.constant import Constant
from tasks.training.schedules.cosine import Cosine
from tasks.training.schedules.cosine_restarts import CosineRestarts
from tasks.training.schedules.inverse_sqrt import InverseSquareRoot
from tasks.training.schedules.linear import Linear
from tasks.training.schedules.polynomial import Polynomial
from tasks.training.schedules.schedule import LearningRateSchedule
from tasks.training.schedules.wsd import WarmupStableDecay

AnySchedule = Annotated[
    Linear | Cosine | Constant | Polynomial | InverseSquareRoot | WarmupStableDecay | CosineRestarts,
    Field(discriminator="name"),
]

SCHEDULES: tuple[type[LearningRateSchedule], ...] = get_args(get_args(AnySchedule)[0])

"""What training minimises, one file per loss; the union is the only registry.

`tasks.training.losses.loss` says what a loss has to answer, and `tests/tasks/training/losses/test_losses.py` holds
every member of the union to it.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.losses.dft import DynamicFineTuning
from tasks.training.losses.expected_cost import ExpectedCost
from tasks.training.losses.focal import Focal
from tasks.training.losses.label_smoothing import LabelSmoothing
from tasks.training.losses.loss import TrainingLoss

AnyLoss = Annotated[
    CrossEntropy | LabelSmoothing | Focal | DynamicFineTuning | ExpectedCost, Field(discriminator="name")
]

LOSSES: tuple[type[TrainingLoss], ...] = get_args(get_args(AnyLoss)[0])

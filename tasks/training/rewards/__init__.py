"""What an answer is worth, one file per kind of reward; the union is the only registry.

`tasks.training.rewards.reward` says what a reward has to answer, and `tests/tasks/training/rewards/test_contract.py`
holds every member of the union to it.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from tasks.training.rewards.code import CodeTests
from tasks.training.rewards.exact_match import ExactMatchReward
from tasks.training.rewards.format import AnswerFormat
from tasks.training.rewards.function import FunctionReward
from tasks.training.rewards.json_schema import JsonSchema
from tasks.training.rewards.judge import Judge
from tasks.training.rewards.length import LengthReward
from tasks.training.rewards.model import RewardModel
from tasks.training.rewards.number import Number
from tasks.training.rewards.regex import RegexReward
from tasks.training.rewards.reward import Reward

AnyReward = Annotated[
    RewardModel
    | FunctionReward
    | ExactMatchReward
    | Number
    | RegexReward
    | JsonSchema
    | CodeTests
    | LengthReward
    | AnswerFormat
    | Judge,
    Field(discriminator="name"),
]

REWARDS: tuple[type[Reward], ...] = get_args(get_args(AnyReward)[0])

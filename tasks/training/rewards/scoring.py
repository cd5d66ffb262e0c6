"""The rewards of a run together: opened once, held to what they promise, summed with their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.training.rewards.reward import AnswerAttempt, Reward, RowFacts

SLACK = 1e-6  # of a bound, for rewards computed in fp32


@dataclass(frozen=True)
class RewardSum:
    """What answers are worth.

    Attributes:
        total: The weighted sum of each answer.
        each: Title of each reward to its values, without weights.
    """

    total: list[float]
    each: dict[str, list[float]]


class Rewards:
    """Several rewards at work.

    Args:
        rewards: As in params.
        cache: Folder in which they keep what was paid for; None keeps nothing.

    Raises:
        PipelineError: One of them cannot be opened.
    """

    def __init__(self, rewards: Sequence[Reward], cache: Path | None) -> None:
        self.rewards, self.titles = rewards, name_rewards(rewards)
        self._scorers = [reward.open(cache) for reward in rewards]

    def score(self, attempts: Sequence[AnswerAttempt]) -> RewardSum:
        """What the answers are worth.

        Raises:
            PipelineError: A reward failed, or gave what is no reward: another number of values, a value that is not a
                finite number, one outside its bounds, or an answer whose row lacks what it compares with.
        """
        if not attempts:
            return RewardSum([], {title: [] for title in self.titles})
        total, each = [0.0] * len(attempts), {}
        for title, reward, scorer in zip(self.titles, self.rewards, self._scorers, strict=True):
            _check_references(title, reward, attempts)
            each[title] = _check(title, reward, scorer(attempts), attempts)
            total = [sum_ + reward.weight * value for sum_, value in zip(total, each[title], strict=True)]
        return RewardSum(total, each)


def name_rewards(rewards: Sequence[Reward]) -> list[str]:
    """A title for each: its name, with a number where several have the same."""
    names = [reward.name for reward in rewards]
    return [
        name if names.count(name) == 1 else f"{name} {names[:place].count(name) + 1}"
        for place, name in enumerate(names)
    ]


def list_reward_problems(rewards: Sequence[Reward], facts: RowFacts | None) -> list[str]:
    """Everything that cannot work: no reward, all weights 0, rows without what a reward compares with.

    Args:
        rewards: As in params.
        facts: What the rows of the training split have; None where that is not known yet.
    """
    if not rewards:
        return ["objective.rollout.rewards: empty; expected at least one, such as {name: exact_match}"]
    problems = [problem for reward in rewards for problem in reward.problems()]
    if all(reward.weight == 0 for reward in rewards):
        problems.append("objective.rollout.rewards: every weight is 0, so every answer is worth the same; set one to 1")
    for title, reward in zip(name_rewards(rewards), rewards, strict=True):
        for field in reward.needs if facts else ():
            assert facts is not None
            if (lacking := facts.rows - facts.having.get(field, 0)) > 0:
                problems.append(
                    f"objective.rollout.rewards: {title} compares with the {field} of a row, which {lacking:,} of "
                    f"{facts.rows:,} rows lack; give every row one, set reference: "
                    f"{'label' if field == 'answer' else 'answer'}, or take a reward without a reference"
                )
    return problems


def _check_references(title: str, reward: Reward, attempts: Sequence[AnswerAttempt]) -> None:
    for field in reward.needs:
        for attempt in attempts:
            if attempt.known(field) is None:
                raise PipelineError(
                    f"reward {title}: row {attempt.row} has no {field} to compare with; give it one or drop the row"
                )


def _check(title: str, reward: Reward, values: Any, attempts: Sequence[AnswerAttempt]) -> list[float]:
    """The values, all finite numbers within the reward's bounds."""
    if len(values) != len(attempts):
        raise PipelineError(
            f"reward {title}: {len(values)} values for {len(attempts)} answers, the first of row {attempts[0].row}; "
            "expected one per answer; fix it"
        )
    lowest, highest = reward.bounds
    checked = []
    for value, attempt in zip(values, attempts, strict=True):
        where = f"row {attempt.row}, answer {attempt.answer[:60]!r}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PipelineError(f"reward {title}: found {value!r:.40} for {where}; expected a number; fix it")
        if not math.isfinite(value):
            raise PipelineError(f"reward {title}: found {value} for {where}; expected a finite number; fix it")
        if not lowest - SLACK <= value <= highest + SLACK:
            raise PipelineError(
                f"reward {title}: found {value:g} for {where}; expected {lowest:g} to {highest:g}; fix it"
            )
        checked.append(float(value))
    return checked

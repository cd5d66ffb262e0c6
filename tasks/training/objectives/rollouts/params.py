"""How answers are drawn while a model is trained, what they are worth, and when such a training has gone wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.objectives.rollouts.tools import Tools
from tasks.training.rewards import AnyReward
from tasks.training.rewards.exact_match import ExactMatchReward
from tasks.training.rewards.scoring import list_reward_problems


class Drawing(Protocol):
    """How answers are drawn; the fields are described at `Rollout`."""

    @property
    def max_new_tokens(self) -> int: ...

    @property
    def temperature(self) -> float: ...

    @property
    def top_p(self) -> float: ...

    @property
    def batch_size(self) -> int: ...


class Rollout(Section):
    """Answers to a prompt and their rewards."""

    samples: int = Field(default=8, ge=1, description="answers to each prompt")
    max_new_tokens: int = Field(
        default=64, ge=1, description="most tokens of an answer, its end and the results of tools included"
    )
    temperature: float = Field(default=1.0, gt=0, description="divides the logits, in drawing and in the loss")
    top_p: float = Field(default=1.0, gt=0, le=1, description="share of the probability that is drawn from")
    batch_size: int = Field(default=64, ge=1, description="answers drawn at once")
    rewards: tuple[AnyReward, ...] = Field(
        default=(ExactMatchReward(),), description="what an answer is worth; several are summed, each times its weight"
    )
    tools: Tools | None = Field(default=None, description="functions that an answer may call; null: none")
    updates: int = Field(
        default=1, ge=1, description="optimizer steps with the answers of one rollout, each counted as one of the run"
    )

    def trained_tokens(self, tokens: int, items: int) -> int:
        """Most tokens of an epoch: each prompt with each of its answers at their longest."""
        return self.samples * (tokens + items * self.max_new_tokens)

    def files(self) -> list[Path]:
        """Files that decide about rewards and results of tools."""
        tools = [Path(self.tools.path)] if self.tools else []
        return [file for reward in self.rewards for file in reward.files()] + tools


class Guards(Section):
    """Signs of a collapse, each a limit; where one is passed for ``patience`` steps, the run stops and says why."""

    patience: int = Field(default=20, ge=1, description="steps in a row beyond a limit before the run is stopped")
    least_entropy: float | None = Field(
        default=0.001, ge=0, description="nats per token; below, answers no longer vary; null: no limit"
    )
    most_kl: float | None = Field(
        default=50.0, gt=0, description="nats per answer from the model before the first step; null: no limit"
    )
    least_tokens: float | None = Field(default=1.5, ge=0, description="mean tokens of an answer; null: no limit")
    most_unfinished: float | None = Field(
        default=0.98, gt=0, le=1, description="share of answers cut at max_new_tokens; null: no limit"
    )
    most_flat: float | None = Field(
        default=0.99, gt=0, le=1, description="share of prompts all of whose answers are worth the same; null: no limit"
    )


def list_rollout_problems(rollout: Rollout, least_samples: int, context: int | None) -> list[str]:
    """Everything that cannot work, whatever the data are.

    Args:
        rollout: As in params.
        least_samples: Answers to a prompt that the objective needs.
        context: Of the model, tokens; None where it does not say.
    """
    problems = list_reward_problems(rollout.rewards, None)
    if rollout.samples < least_samples:
        problems.append(
            f"objective.rollout.samples: {rollout.samples}, but answers are compared with others to the same prompt; "
            f"set samples: {least_samples} or more"
        )
    if context and rollout.max_new_tokens >= context:
        problems.append(
            f"objective.rollout.max_new_tokens: {rollout.max_new_tokens} leaves no room for a prompt in a context of "
            f"{context}; set max_new_tokens: {context // 2} or less"
        )
    return problems

"""Section ``sampling``: what ``heptune best-of-n`` has a model answer, and which of its answers it keeps.

Best of n and rejection sampling (Nakano et al. 2021, arXiv:2112.09332; Yuan et al. 2023, arXiv:2308.01825): answers are
drawn, rewarded by the rewards that reinforcement learning knows, and the best become rows. Good where an answer is
easier to check than to write, and cheaper than reinforcement learning, which goes on from there.

Example: ``sampling: {model: {name: local, path: models/release/model}, rewards: [{name: number}], keep: pair}``
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.language_models.writers.local import Local
from tasks.language_models.writers.openai import OpenAi
from tasks.synthesis.params import AnySeeds
from tasks.training.rewards import AnyReward
from tasks.training.rewards.exact_match import ExactMatchReward

Kept = Literal["best", "accepted", "pair", "all"]


class LocalSampler(Local):
    """A transformers model folder with a chat template, drawn from in batches."""

    temperature: float = Field(default=1.0, gt=0, description="divides the logits")
    top_p: float = Field(default=1.0, gt=0, le=1, description="share of the probability that is drawn from")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What determines an answer besides the prompt and its number."""
        return {**super().identity, "temperature": self.temperature, "top_p": self.top_p}


class AnswerSampling(Section):
    """Answers to prompts, of which the best become rows."""

    title: str = Field(
        default="sampled", pattern=r"^\w[\w.-]*$", description="the file is data/raw/synthetic/TITLE.jsonl"
    )
    model: Annotated[OpenAi | LocalSampler, Field(discriminator="name")] = Field(description="the model that answers")
    prompts: AnySeeds | Literal["train"] = Field(
        default="train",
        description="whose prompts are answered: the training rows of the last run, or a source, without those that "
        "are like a held-out one",
    )
    limit: int | None = Field(default=None, ge=1, description="most prompts, chosen by their content; null: all")
    samples: int = Field(default=8, ge=1, description="answers to each prompt")
    rewards: tuple[AnyReward, ...] = Field(
        default=(ExactMatchReward(),), description="what an answer is worth; several are summed, each times its weight"
    )
    keep: Kept = Field(
        default="best",
        description="of each prompt: the best answer; all accepted ones; the best and the worst as a preference; or "
        "all, ranked",
    )
    least: float | None = Field(
        default=None, description="reward from which an answer is accepted; null: any, which keep: accepted needs"
    )
    least_gap: float = Field(
        default=0.0, ge=0, description="of pair and all: rewards of best and worst have to be further apart than this"
    )
    chunk: int = Field(default=32, ge=1, description="prompts after which the answers are stored")
    seed: int = Field(default=0, ge=0, description="of the answers")

    @model_validator(mode="after")
    def _fits_together(self) -> AnswerSampling:
        if self.keep == "accepted" and self.least is None:
            raise ValueError("keep: accepted needs least, the reward from which an answer is accepted")
        if self.keep in ("pair", "all") and self.samples < 2:
            raise ValueError(f"keep: {self.keep} compares answers to a prompt; set samples: 2 or more")
        if self.samples > 1 and not (isinstance(self.model, LocalSampler) or self.model.varies):
            raise ValueError("model.temperature: 0 gives the same answer every time; set 0.7")
        return self

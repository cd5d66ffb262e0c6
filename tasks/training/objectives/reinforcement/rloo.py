"""REINFORCE with a leave-one-out baseline: several answers to each prompt, each against the mean of the others
(Ahmadian et al. 2024, arXiv:2402.14740).

Good for the same tasks as GRPO, with nothing to tune but the KL: the whole answer is one action, and the KL from the
model before the first step is a part of its reward. With several ``updates`` of a rollout the ratio of an answer's
probabilities is clipped as PPO does.

Example: of 3 answers worth 1, 0 and 0.5, the first is better than the mean of the others by 1 - 0.25 = 0.75, the second
by -0.75, the third by 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer, StepToMake
from tasks.training.objectives.rollouts import policy_gradients
from tasks.training.objectives.rollouts.experience import (
    FIGURES,
    at_temperature,
    collate_samples,
    describe,
    find_kept,
    gather_experience,
    gather_values,
    keep_batches,
    keep_samples,
    make_figures,
    make_validation,
    number_tokens,
    score_reference,
)
from tasks.training.objectives.rollouts.params import list_rollout_problems
from tasks.training.objectives.rollouts.rollout_objective import RolloutObjective


class Rloo(RolloutObjective):
    """Answers judged against the mean of the others to the same prompt."""

    unit: ClassVar[str] = "answer"
    figures: ClassVar[Mapping[str, str]] = FIGURES

    name: Literal["rloo"] = "rloo"
    kl_weight: float = Field(
        default=0.05, ge=0, description="of the KL from the model before the first step, in the reward; 0: no reference"
    )
    clip: float = Field(default=0.2, gt=0, description="how far an answer's probability may fall in one rollout")
    clip_high: float | None = Field(default=None, gt=0, description="how far it may rise; null: as clip")
    normalise: bool = Field(default=False, description="give the advantages of a step mean 0 and deviation 1")

    def describe(self) -> str:
        kinds = ", ".join(reward.name for reward in self.rollout.rewards)
        return f"RLOO ({self.rollout.samples} answers to a prompt, rewards: {kinds})"

    def problems(self, shape: ModelShape) -> list[str]:
        return list_rollout_problems(self.rollout, 2, shape.context)

    def units(self, inputs: Batch) -> int:
        return len(inputs["rewards"])

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        if step.split == "validation":
            return list(make_validation(self.rollout, batches, step))
        if kept := find_kept(step, self.rollout.updates):
            return kept
        found = gather_experience(self.rollout, batches, step)
        made: list[dict[str, Any]] = []
        totals: list[float] = []
        for samples, own in zip(found.split(found.samples), found.split(found.totals), strict=True):
            batch = collate_samples(samples, step)
            batch |= describe(batch, own, self.rollout.samples)
            batch["kl"] = batch["old"].new_zeros(len(samples))
            if self.kl_weight:
                difference = batch["old"] - score_reference(step.scorer, batch, self.rollout.temperature)
                batch["kl"] = batch["kl"].index_add(0, number_tokens(batch), difference)
            totals += (batch["rewards"] - self.kl_weight * batch["kl"]).tolist()
            made.append(batch)
        advantages = self._judge(totals)
        keep_samples(step, found, advantages)
        for batch, own in zip(made, found.split(advantages), strict=True):
            batch["advantages"] = batch["old"].new_tensor(own)
        return keep_batches(step, made, self.rollout.updates)

    def _judge(self, totals: Sequence[float]) -> list[float]:
        import torch

        found = policy_gradients.leave_one_out_advantages(torch.tensor(list(totals)), self.rollout.samples)
        if self.normalise:
            every = torch.tensor(gather_values(found.tolist()))
            found = (found - every.mean()) / (every.std() + policy_gradients.EPSILON)
        judged: list[float] = found.tolist()
        return judged

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        found = scorer.at_tokens(inputs, at_temperature(self.rollout.temperature))
        differences = (found.values - inputs["old"]).new_zeros(found.count)
        ratios = differences.index_add(0, found.sequences, found.values - inputs["old"]).exp()
        high = self.clip if self.clip_high is None else self.clip_high
        terms = policy_gradients.clipped_terms(ratios, inputs["advantages"], self.clip, high)
        clipped = policy_gradients.clipped_share(ratios.detach(), inputs["advantages"], self.clip, high)
        figures = {"clipped": (clipped.sum(), len(clipped))}
        if self.kl_weight:
            figures["kl"] = (inputs["kl"].sum(), found.count)
        return ObjectiveLoss(terms.sum(), make_figures(inputs, **figures), found.auxiliary)

"""Proximal policy optimisation with a value for every token (Schulman et al. 2017, arXiv:1707.06347; for language
models Ziegler et al. 2019, arXiv:1909.08593, and Ouyang et al. 2022, arXiv:2203.02155).

A head on the model's last states learns what an answer will be worth from each token on; the advantage of a token is
how much better it went than expected. One answer to a prompt is enough, and long answers get credit where it is due;
the price is one more thing to tune. The KL from the model before the first step is a part of each token's reward, with
a weight that keeps it near ``target_kl``.

What is minimised, per token: -min(ratio A, clip(ratio) A) + ``value_weight`` 0.5 max((V - R)^2, (V clipped - R)^2). A
comes from generalised advantage estimation with ``discount`` and ``trace``, over the answers of a step with mean 0 and
deviation 1; R = A + V before that. ``value: detached`` learns the head without changing the model for it; ``value:
own`` has a model of its own for it, a copy of the base whose weights are all trained: values that are hard to tell no
longer pull at the policy, for the memory of a second model under full fine-tuning.

Example: two tokens, values 0.5 and 0.2, a reward of 1 at the end, ``discount`` 1 and ``trace`` 0.95: the advantages are
0.2 - 0.5 + 0.95 x 0.8 = 0.46 and 1 - 0.2 = 0.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
from tasks.training.objectives.rollouts.params import Rollout, list_rollout_problems
from tasks.training.objectives.rollouts.rollout_objective import RolloutObjective
from tasks.training.objectives.rollouts.running import Running
from tasks.training.objectives.rollouts.values import (
    add_value_head,
    add_value_model,
    count_trunk,
    remove_values,
    value_tokens,
)

if TYPE_CHECKING:
    import torch

STATISTICS = "reward_statistics"


class Ppo(RolloutObjective):
    """Answers judged against what was expected of them."""

    unit: ClassVar[str] = "token"
    figures: ClassVar[Mapping[str, str]] = {
        **FIGURES,
        "value_error": "mean square of what the values are wrong by, rewards as they are trained on",
        "kl_weight": "weight of the KL in the reward",
    }

    name: Literal["ppo"] = "ppo"
    rollout: Rollout = Rollout(samples=4, updates=2)
    clip: float = Field(
        default=0.2, gt=0, description="how far a token's probability may fall in one rollout, as a share"
    )
    clip_high: float | None = Field(default=None, gt=0, description="how far it may rise; null: as clip")
    value: Literal["shared", "detached", "own"] = Field(
        default="shared",
        description="a head on the model, whose error trains what is below it too, or not (detached); or a model of "
        "its own, a copy of the base",
    )
    value_weight: float = Field(default=0.1, gt=0, description="of the value's error in the loss")
    value_clip: float | None = Field(
        default=0.2, gt=0, description="how far a value may move in one rollout; null: as far as it likes"
    )
    discount: float = Field(default=1.0, gt=0, le=1, description="of the next token's value (gamma)")
    trace: float = Field(default=0.95, ge=0, le=1, description="lambda: 0 trusts the values, 1 the rewards")
    whiten: bool = Field(default=True, description="give the advantages of a rollout mean 0 and deviation 1")
    normalise_rewards: bool = Field(
        default=True, description="rewards less their mean, by their deviation, both over the run so far"
    )
    kl_weight: float = Field(
        default=0.05, ge=0, description="of the KL from the model before the first step, at first; 0: no reference"
    )
    target_kl: float | None = Field(
        default=6.0, gt=0, description="nats per answer that the weight steers to; null: it stays"
    )
    kl_gain: float = Field(default=0.1, gt=0, lt=1, description="how fast it steers, per rollout")

    def describe(self) -> str:
        kinds = ", ".join(reward.name for reward in self.rollout.rewards)
        return f"PPO ({self.rollout.samples} answers to a prompt, rewards: {kinds})"

    def problems(self, shape: ModelShape) -> list[str]:
        return list_rollout_problems(self.rollout, 1, shape.context)

    def own_weights(self, shape: ModelShape) -> int:
        return shape.hidden + 1 + (count_trunk(shape) if self.value == "own" else 0)

    @property
    def own_passes(self) -> int:
        return int(self.value == "own")

    def extend(self, model: Any, seed: int) -> Any:
        return add_value_model(model) if self.value == "own" else add_value_head(model)

    def save(self, model: Any, folder: Path) -> list[Path]:
        """Nothing: values are of use in training only, and leave the model here."""
        remove_values(model)
        return []

    def units(self, inputs: Batch) -> int:
        return len(inputs["old"]) if "advantages" in inputs else len(inputs["rewards"])

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        if step.split == "validation":
            return list(make_validation(self.rollout, batches, step))
        if kept := find_kept(step, self.rollout.updates):
            return kept
        found = gather_experience(self.rollout, batches, step)
        totals = self._normalise(found.totals, step)
        weight = step.scorer.state.get("kl_weight", self.kl_weight)
        made: list[dict[str, Any]] = []
        advantages: list[torch.Tensor] = []
        for samples, plain, own in zip(
            found.split(found.samples), found.split(found.totals), found.split(totals), strict=True
        ):
            batch = collate_samples(samples, step)
            batch |= describe(batch, plain, self.rollout.samples)
            batch["kl_weight"] = batch["old"].new_full((len(samples),), weight)
            advantages += self._estimate(batch, own, weight, step.scorer)
            made.append(batch)
        advantages = self._whiten(advantages)
        keep_samples(step, found, [float(each.mean()) for each in advantages])
        for batch, each in zip(made, found.split(advantages), strict=True):
            batch["advantages"] = batch["old"].new_tensor([value for own in each for value in own.tolist()])
        return keep_batches(step, made, self.rollout.updates)

    def _normalise(self, totals: Sequence[float], step: StepToMake) -> list[float]:
        """The rewards as they are trained on."""
        if not self.normalise_rewards:
            return list(totals)
        seen = Running(*step.kept.get(STATISTICS, (0, 0.0, 0.0))).add(gather_values(totals))
        step.kept[STATISTICS] = (seen.count, seen.mean, seen.squares)
        return [(total - seen.mean) / (seen.deviation + policy_gradients.EPSILON) for total in totals]

    def _estimate(self, batch: dict[str, Any], totals: Sequence[float], weight: float, scorer: Scorer) -> list[Any]:
        """Advantages of the tokens of each answer; their values and returns become a part of the batch."""
        import torch

        _, values = value_tokens(scorer, batch, at_temperature(self.rollout.temperature), detached=True)
        batch["values"] = values.detach()
        rewards = torch.zeros_like(batch["old"])
        batch["kl"] = rewards.new_zeros(len(totals))
        if self.kl_weight:
            difference = batch["old"] - score_reference(scorer, batch, self.rollout.temperature)
            batch["kl"] = batch["kl"].index_add(0, number_tokens(batch), difference)
            rewards = rewards - weight * difference
        lengths = batch["answer_tokens"].tolist()
        each = [row.cpu() for row in torch.split(rewards, lengths)]
        for row, total in zip(each, totals, strict=True):
            row[-1] += total
        advantages, returns = policy_gradients.generalised_advantages(
            each, [row.cpu() for row in torch.split(batch["values"], lengths)], self.discount, self.trace
        )
        batch["returns"] = torch.cat(returns).to(batch["old"].device)
        return advantages

    def _whiten(self, advantages: list[Any]) -> list[Any]:
        import torch

        if not self.whiten:
            return advantages
        every = torch.tensor(gather_values([value for each in advantages for value in each.tolist()]))
        return [(each - every.mean()) / (every.std() + policy_gradients.EPSILON) for each in advantages]

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        function = at_temperature(self.rollout.temperature)
        found, values = value_tokens(scorer, inputs, function, detached=self.value == "detached")
        ratios = (found.values - inputs["old"]).exp()
        high = self.clip if self.clip_high is None else self.clip_high
        terms = policy_gradients.clipped_terms(ratios, inputs["advantages"], self.clip, high)
        errors = policy_gradients.clipped_value_terms(values, inputs["values"], inputs["returns"], self.value_clip)
        clipped = policy_gradients.clipped_share(ratios.detach(), inputs["advantages"], self.clip, high)
        figures = {
            "clipped": (clipped.sum(), len(clipped)),
            "value_error": ((values.detach() - inputs["returns"]).square().sum(), len(clipped)),
            "kl_weight": (inputs["kl_weight"].sum(), found.count),
        }
        if self.kl_weight:
            figures["kl"] = (inputs["kl"].sum(), found.count)
        total = terms.sum() + self.value_weight * errors.sum()
        return ObjectiveLoss(total, make_figures(inputs, **figures), found.auxiliary)

    def next_state(self, state: Mapping[str, float], figures: Mapping[str, float]) -> Mapping[str, float]:
        following = dict(super().next_state(state, figures))
        if self.kl_weight and self.target_kl is not None:
            weight = state.get("kl_weight", self.kl_weight)
            if following["steps"] % self.rollout.updates == 0 and "kl" in figures:
                weight = policy_gradients.adapt_kl_weight(weight, figures["kl"], self.target_kl, self.kl_gain)
            following["kl_weight"] = weight
        return following

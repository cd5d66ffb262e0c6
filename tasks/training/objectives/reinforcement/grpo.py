"""Group relative policy optimisation: several answers to each prompt, each judged against the others (Shao et al. 2024,
arXiv:2402.03300).

Good where an answer can be checked: a result, a format, tests. There is no value model; the advantage of an answer is
its reward less the mean of its group. ``variant`` says what is minimised:

| ``variant`` | what is minimised | source |
|---|---|---|
| ``grpo`` | the mean over answers of the mean over their tokens | Shao et al. 2024 |
| ``bnpo`` | the mean over the tokens of a batch | TRL |
| ``dr_grpo`` | the sum over tokens by ``max_new_tokens``: long answers weigh as they should | arXiv:2503.20783 |
| ``dapo`` | the mean over all tokens of a step | arXiv:2503.14476 |
| ``gspo`` | as ``grpo``, with one ratio for a whole answer, the geometric mean of its tokens' | arXiv:2507.18071 |
| ``cispo`` | as ``dapo``, ratios clipped but never without gradient | arXiv:2506.13585 |
| ``sapo`` | as ``grpo``, ratios bent by a sigmoid instead of clipped | arXiv:2511.20347 |

All of DAPO: ``{name: grpo, variant: dapo, clip: 0.2, clip_high: 0.28, overlong_margin: 16, resample: 3}``. All of
Dr. GRPO: ``{name: grpo, variant: dr_grpo, scale: none}``.

Example: with 4 answers worth 1, 0, 0, 1 the mean is 0.5 and the deviation 0.577, so that the advantages are 0.866,
-0.866, -0.866 and 0.866.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

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
    score_reference,
    spread,
)
from tasks.training.objectives.rollouts.params import list_rollout_problems
from tasks.training.objectives.rollouts.policy_gradients import Scale
from tasks.training.objectives.rollouts.rollout_objective import RolloutObjective

if TYPE_CHECKING:
    import torch

Variant = Literal["grpo", "bnpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo"]
LARGEST_RATIO = 5.0  # of CISPO
PER_TOKEN = ("dapo", "cispo")  # whose unit is a token; that of the others is an answer


class Grpo(RolloutObjective):
    """Answers judged against others to the same prompt."""

    unit: ClassVar[str] = "answer"
    figures: ClassVar[Mapping[str, str]] = FIGURES

    name: Literal["grpo"] = "grpo"
    variant: Variant = Field(default="dapo", description="what is minimised, see the table")
    clip: float = Field(
        default=0.2, gt=0, description="how far a token's probability may fall in one rollout, as a share"
    )
    clip_high: float | None = Field(
        default=None, gt=0, description="how far it may rise; null: as clip; for cispo the largest ratio; null: 5"
    )
    clip_most: float | None = Field(
        default=None, gt=1, description="largest ratio for answers below the mean too; null: no limit"
    )
    scale: Scale = Field(
        default="group", description="advantages are divided by the deviation of the group, of the batch, or not"
    )
    kl_weight: float = Field(
        default=0.0, ge=0, description="of the KL from the model before the first step, in the loss; 0: no reference"
    )
    overlong_margin: int | None = Field(
        default=None, ge=1, description="tokens before max_new_tokens over which a penalty grows to 1; null: none"
    )
    resample: int = Field(
        default=0, ge=0, description="times that prompts whose answers are all worth the same are replaced by others"
    )

    def describe(self) -> str:
        kinds = ", ".join(reward.name for reward in self.rollout.rewards)
        return f"GRPO ({self.variant}, {self.rollout.samples} answers to a prompt, rewards: {kinds})"

    def problems(self, shape: ModelShape) -> list[str]:
        problems = list_rollout_problems(self.rollout, 2, shape.context)
        if self.overlong_margin is not None and self.overlong_margin >= self.rollout.max_new_tokens:
            problems.append(
                f"objective.overlong_margin: {self.overlong_margin} is all of max_new_tokens "
                f"({self.rollout.max_new_tokens}); set a part of it"
            )
        return problems

    def units(self, inputs: Batch) -> int:
        """Answers, or the tokens that the model wrote in them, or batches."""
        if "advantages" in inputs and self.variant in PER_TOKEN:
            return len(inputs["old"])
        return 1 if "advantages" in inputs and self.variant == "bnpo" else len(inputs["rewards"])

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        if step.split == "validation":
            return list(make_validation(self.rollout, batches, step))
        if kept := find_kept(step, self.rollout.updates):
            return kept
        found = gather_experience(self.rollout, batches, step, self.resample)
        if self.overlong_margin is not None:
            most = self.rollout.max_new_tokens
            for place, sample in enumerate(found.samples):
                length = len(sample.tokens)
                found.totals[place] += policy_gradients.overlong_penalty(length, most, self.overlong_margin)
        advantages = self._judge(found.totals)
        keep_samples(step, found, advantages)
        made = []
        for samples, totals, own in zip(
            found.split(found.samples), found.split(found.totals), found.split(advantages), strict=True
        ):
            batch = collate_samples(samples, step)
            batch |= describe(batch, totals, self.rollout.samples)
            lengths = [sample.own_tokens for sample in samples]
            batch["advantages"] = batch["old"].new_tensor(spread(own, lengths))
            if self.kl_weight:
                batch["reference"] = score_reference(step.scorer, batch, self.rollout.temperature)
            made.append(batch)
        return keep_batches(step, made, self.rollout.updates)

    def _judge(self, totals: Sequence[float]) -> list[float]:
        import torch

        deviation = None
        if self.scale == "batch":
            deviation = float(torch.tensor(gather_values(totals)).std())
        rewards = torch.tensor(list(totals))
        found: list[float] = policy_gradients.group_advantages(
            rewards, self.rollout.samples, self.scale, deviation
        ).tolist()
        return found

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        import torch

        found = scorer.at_tokens(inputs, at_temperature(self.rollout.temperature))
        now, advantages, sequences = found.values, inputs["advantages"], found.sequences
        ratios = self._ratios(now, inputs["old"], sequences, found.count)
        terms = self._terms(now, ratios, advantages)
        figures = {}
        if self.kl_weight:
            kl = policy_gradients.estimate_kl(now, inputs["reference"])
            terms = terms + self.kl_weight * kl
            figures["kl"] = (kl.detach().sum(), found.count)
        with torch.no_grad():
            low, high = self._limits
            clipped = policy_gradients.clipped_share(ratios, advantages, low, high)
        figures["clipped"] = (clipped.sum(), len(clipped))
        total = self._aggregate(terms, sequences, found.count)
        return ObjectiveLoss(total, make_figures(inputs, **figures), found.auxiliary)

    @property
    def _limits(self) -> tuple[float, float]:
        if self.variant == "cispo":  # it names the largest ratio itself
            return float("inf"), (LARGEST_RATIO if self.clip_high is None else self.clip_high) - 1
        return self.clip, self.clip if self.clip_high is None else self.clip_high

    def _ratios(self, now: torch.Tensor, old: torch.Tensor, sequences: torch.Tensor, count: int) -> torch.Tensor:
        logs = now - old
        if self.variant == "gspo":
            logs = policy_gradients.mean_of_sequences(logs, sequences, count)[sequences]
        return logs.exp()

    def _terms(self, now: torch.Tensor, ratios: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
        """What is minimised, of each token."""
        import torch

        low, high = self._limits
        if self.variant == "cispo":
            return -ratios.clamp(max=1 + high).detach() * advantages * now
        if self.variant == "sapo":
            heat = torch.where(advantages > 0, 1.0, 1.05)
            return -torch.sigmoid(heat * (ratios - 1)) * 4 / heat * advantages
        return policy_gradients.clipped_terms(ratios, advantages, low, high, self.clip_most)

    def _aggregate(self, terms: torch.Tensor, sequences: torch.Tensor, count: int) -> torch.Tensor:
        """The sum over the units of `units`."""
        if self.variant == "bnpo":
            return terms.mean()
        if self.variant == "dr_grpo":
            return terms.sum() / self.rollout.max_new_tokens
        if self.variant in PER_TOKEN:
            return terms.sum()
        return policy_gradients.mean_of_sequences(terms, sequences, count).sum()

"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): make the better of two answers more likely,
and the worse one less, than a reference does.

``-ln s(beta (r_w - r_l))``, r being the log-ratio of an answer's probability to that of the reference, which is the
model before the first step. `pair_losses` beside this has the other losses of the family, several of which may be added
up with weights; `f_divergences` other divergences than the usual one.

Good where answers are compared rather than written: tone, helpfulness, safety. It wants a model that already gives
answers of the kind (supervised first), a learning rate a tenth of that, and one to three epochs; the likelihood of both
answers usually falls. ``losses: [sigmoid, sft]`` with
``weights: [1.0, 0.2]`` holds the better one up. The reference's
log-probabilities are measured once and kept beside the checkpoints, so no second model is in memory.

Example: ``objective: {name: dpo, beta: 0.1}``. Where the model gives the better answer e^2 times the reference's
probability and the worse one e^-1 times, the loss is -ln s(0.1 * 3) = 0.554, and the figure ``margin`` is 0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.objective import (
    Batch,
    ObjectiveLoss,
    Reference,
    Scorer,
    TokenValues,
)
from tasks.training.objectives.preferences.f_divergences import Divergence, score_ratio
from tasks.training.objectives.preferences.pair_figures import measure_pairs
from tasks.training.objectives.preferences.pair_losses import PAIR_LOSSES, PairLossName, PairLossSettings, PairScores
from tasks.training.objectives.preferences.pair_objective import PairObjective

if TYPE_CHECKING:
    import torch

REFERENCE = "reference"  # column: log-probability that the reference gives a sequence's answer


class Dpo(PairObjective):
    """Pairs of answers against a reference."""

    name: Literal["dpo"] = "dpo"
    losses: tuple[PairLossName, ...] = Field(
        default=("sigmoid",), min_length=1, description="losses of a pair, added up"
    )
    weights: tuple[float, ...] = Field(default=(), description="weight of each loss; 1 for all by default")
    beta: float = Field(
        default=0.1, gt=0, description="weight of the log-ratios: the larger, the closer to the reference"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round (cDPO, robust, exo, aot)"
    )
    divergence: Divergence = Field(default="reverse_kl", description="from the reference")
    alpha: float = Field(default=0.5, description="of divergence alpha_divergence")
    length_share: float = Field(
        default=1.0, ge=0, le=1, description="what tokens beyond the shorter answer's length count (LD-DPO)"
    )
    reference_free: bool = Field(default=False, description="take a reference to which all answers are as likely")
    weighting: bool = Field(default=False, description="weigh pairs by how likely the model is to write them (WPO)")
    temperature: float = Field(default=0.05, gt=0, description="of loss discopop")

    @property
    def reference(self) -> Reference:
        return "none" if self.reference_free else "precomputed"

    def describe(self) -> str:
        losses = " + ".join(
            name if weight == 1 else f"{weight:g} {name}"
            for name, weight in zip(self.losses, self.each_weight, strict=True)
        )
        against = "without a reference" if self.reference_free else f"beta {self.beta:g}"
        return f"direct preference optimisation: {losses}, {against}"

    @property
    def each_weight(self) -> tuple[float, ...]:
        """Weight of each loss."""
        return self.weights or (1.0,) * len(self.losses)

    def problems(self, shape: ModelShape) -> list[str]:
        problems = []
        if self.weights and len(self.weights) != len(self.losses):
            problems.append(
                f"objective.weights: {len(self.weights)} for {len(self.losses)} losses; expected one each, or none"
            )
        if "exo_pair" in self.losses and self.label_smoothing == 0:
            problems.append("objective.label_smoothing: 0, of which loss exo_pair takes the logarithm; set 1.0e-3")
        return problems

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        return {REFERENCE: self._likelihoods(scorer.log_probabilities(inputs))}

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        found = scorer.at_tokens(inputs, _with_likeness) if self.weighting else scorer.log_probabilities(inputs)
        values = (
            found
            if not self.weighting
            else TokenValues(found.values[:, 0], found.sequences, found.count, found.auxiliary)
        )
        own = self._likelihoods(values)
        given = own.new_zeros(own.shape) if self.reference_free else inputs[REFERENCE]
        scores = self._score(values, own, given)
        settings = PairLossSettings(self.beta, self.label_smoothing, self.temperature)
        each = sum(
            weight * PAIR_LOSSES[name](scores, settings)
            for name, weight in zip(self.losses, self.each_weight, strict=True)
        )
        if self.weighting:
            likeness = (found.values[:, 0] - found.values[:, 1]).detach()
            summed = TokenValues(likeness, found.sequences, found.count).sums() / found.lengths()
            each = each * (summed[0::2] + summed[1::2]).exp()
        figures = measure_pairs(self.beta * scores.chosen, self.beta * scores.rejected)
        return ObjectiveLoss(each.sum(), figures, found.auxiliary)  # type: ignore[union-attr]  # of one loss or more

    def _likelihoods(self, values: TokenValues) -> torch.Tensor:
        """Log-probability of each sequence, (sequences,); tokens beyond the shorter side's length counted less."""
        if self.length_share == 1:
            return values.sums()
        lengths = values.lengths()
        shared = lengths.view(-1, 2).amin(1).repeat_interleave(2)
        inside = values.places() < shared[values.sequences]
        weighed = values.values * inside + self.length_share * (values.values * ~inside)
        return TokenValues(weighed, values.sequences, values.count).sums()

    def _score(self, values: TokenValues, own: torch.Tensor, reference: torch.Tensor) -> PairScores:
        ratios, lengths = own - reference, values.lengths()
        scores = score_ratio(ratios, self.divergence, self.alpha)
        return PairScores(
            chosen=ratios[0::2],
            rejected=ratios[1::2],
            chosen_score=scores[0::2],
            rejected_score=scores[1::2],
            policy_ratio=own[0::2] - own[1::2],
            reference_ratio=reference[0::2] - reference[1::2],
            chosen_likelihood=values.sums()[0::2],
            chosen_tokens=lengths[0::2],
            rejected_tokens=lengths[1::2],
        )


def _with_likeness(logits: torch.Tensor, tokens: torch.Tensor, _: slice) -> torch.Tensor:
    """The log-probability of each token, and that of drawing the same token twice, (positions, 2)."""
    import torch

    logarithms = logits.log_softmax(-1)
    right = logarithms.gather(-1, tokens[:, None])[:, 0]
    return torch.stack([right, (2 * logarithms).logsumexp(-1)], dim=-1)

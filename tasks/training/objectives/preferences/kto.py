"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306): learn from answers marked good or bad,
without pairs.

``w_D (1 - s(beta (r - z)))`` for a good answer, ``w_U (1 - s(beta (z - r)))`` for a bad one, r being the log-ratio
to the reference, and z the divergence from it: the mean log-ratio of answers to other prompts, not below 0, through
which no gradient flows. ``loss_type: apo_zero_unpaired`` leaves z out (arXiv:2408.06266).

Good where answers get thumbs rather than comparisons, and where good and bad are not equally many: the weights should
bring ``w_D * good`` and ``w_U * bad`` within a third of each other. Pairs count as one good and one bad answer. z is
estimated within a batch: with fewer than four answers in one it is little more than noise.

Example: ``objective: {name: kto, beta: 0.1}``. With r = 2 and z = 0.5 a good answer costs 1 - s(0.15) = 0.463, a bad
one 1 - s(-0.15) = 0.537.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.answers import LONG_ROWS, tokenize_judged
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Reference, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.objectives.preferences.dpo import REFERENCE
from tasks.training.rows import TokenizedRows

if TYPE_CHECKING:
    import torch


class Kto(PlainObjective):
    """Answers marked good or bad against a reference; the second sequence of an item is another prompt's answer."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "judged"
    sequences: ClassVar[int] = 2
    long_rows: ClassVar[tuple[LongRows, ...]] = LONG_ROWS
    unit: ClassVar[str] = "answer"
    figures: ClassVar[Mapping[str, str]] = {
        "good_reward": "Mean reward of the answers marked good: beta times the log-ratio to the reference",
        "bad_reward": "Mean reward of the answers marked bad",
        "divergence": "Mean log-ratio of answers to other prompts, an estimate of the divergence, nats",
    }

    rate_share: ClassVar[float] = 0.1

    name: Literal["kto"] = "kto"
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field(default="kto", description="of an answer")
    beta: float = Field(
        default=0.1, gt=0, description="weight of the log-ratios: the larger, the closer to the reference"
    )
    good_weight: float = Field(default=1.0, gt=0, description="of answers marked good")
    bad_weight: float = Field(default=1.0, gt=0, description="of answers marked bad")

    @property
    def loss_in(self) -> str:
        return f"per {self.unit}"

    @property
    def reference(self) -> Reference:
        return "precomputed"

    def describe(self) -> str:
        return f"Kahneman-Tversky optimisation: {self.loss_type}, beta {self.beta:g}"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        return tokenize_judged(tables.answers, how)

    def units(self, inputs: Batch) -> int:
        return len(inputs["items"])

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        return {REFERENCE: scorer.log_probabilities(inputs).sums()}

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        found = scorer.log_probabilities(inputs)
        ratios = found.sums() - inputs[REFERENCE]
        own, others, good = ratios[0::2], ratios[1::2].detach(), inputs["desirable"][0::2]
        divergence = others.mean().clamp(min=0) if self.loss_type == "kto" else others.new_zeros(())
        sign = 2 * good - 1
        weight = good * self.good_weight + (1 - good) * self.bad_weight
        each = weight * (1 - (self.beta * sign * (own - divergence)).sigmoid())
        rewards, count = self.beta * own.detach(), int(good.sum())
        figures = {
            "good_reward": ((rewards * good).sum(), count),
            "bad_reward": ((rewards * (1 - good)).sum(), len(good) - count),
            "divergence": (others.sum(), len(others)),
        }
        return ObjectiveLoss(each.sum(), figures, found.auxiliary)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)

"""A reward model of outcomes: the better of two answers gets the larger number (Bradley and Terry 1952; Ouyang et al.
2022, arXiv:2203.02155).

``-ln s(r_w - r_l - m)``, r being the reward at the last token of an answer, w the better one, and m ``margin`` times
how far the rows' scores of the two are apart (Touvron et al. 2023, arXiv:2307.09288): set it where rows have ratings.
``centre`` times ``(r_w + r_l)^2`` is added, which keeps the mean near 0 and says nothing about which is better
(Eisenstein et al. 2023, arXiv:2312.09244).

What is trained and released is a sequence classifier, not a language model: a reward of ``grpo``, ``rloo`` and ``ppo``
(``rewards: [{name: model, path: models/release/model}]``), or of ``heptune best-of-n``. Start from a base that has been
supervised, with one epoch: a second one learns the pairs by heart.

Example: ``objective: {name: reward_model, centre: 0.01}``. Rewards of 1.5 and 0.5 cost -ln s(1) = 0.313 and
0.01 * 4 = 0.04 more; with scores 5 and 3 and ``margin: 0.5`` it is -ln s(0) = 0.693.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from tasks.training.objectives.answers import Ranking, tokenize_pairs
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.preferences.pair_figures import PAIR_FIGURES, measure_pairs
from tasks.training.objectives.reward_models.reward_objective import RewardObjective, reward_states
from tasks.training.reward_models import padding_of
from tasks.training.rows import TokenizedRows


class OutcomeRewards(RewardObjective):
    """Pairs of answers, each with a reward."""

    rows: ClassVar[RowKind] = "pairs"
    sequences: ClassVar[int] = 2
    unit: ClassVar[str] = "pair"
    figures: ClassVar[Mapping[str, str]] = PAIR_FIGURES

    name: Literal["reward_model"] = "reward_model"
    centre: float = Field(default=0.01, ge=0, description="weight of the squared sum of the rewards of a pair; 0: none")
    margin: float = Field(
        default=0.0, ge=0, description="times the difference of the rows' scores, by which the better has to win"
    )
    ranking: Ranking = Field(
        default="best", description="of more than two answers: the best with each other one, or all pairs"
    )

    def describe(self) -> str:
        margin = f", margin {self.margin:g} x scores" if self.margin else ""
        return f"a reward model of answers, from pairs (centre {self.centre:g}{margin})"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        return tokenize_pairs(tables.answers, how, self.ranking, ends_before=padding_of(how.tokenizer))

    def units(self, inputs: Batch) -> int:
        return len(inputs["items"])

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        from torch.nn.functional import logsigmoid

        rewards = scorer.at_ends(inputs, reward_states(scorer))
        chosen, rejected = rewards[0::2], rewards[1::2]
        ahead = chosen - rejected
        if self.margin:
            ahead = ahead - self.margin * (inputs["score"][0::2] - inputs["score"][1::2])
        each = -logsigmoid(ahead) + self.centre * (chosen + rejected).square()
        return ObjectiveLoss(each.sum(), measure_pairs(chosen, rejected))

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)

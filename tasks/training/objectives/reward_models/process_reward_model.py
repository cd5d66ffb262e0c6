"""A reward model of processes: every step of an answer is right or wrong (Uesato et al. 2022, arXiv:2211.14275;
Lightman et al. 2023, arXiv:2305.20050).

The reward r at the end of a step is the log-odds that it is right: ``-ln s(r)`` for a right one and ``-ln s(-r)`` for a
wrong one, the two-class cross-entropy of TRL's and transformers' token classifiers with r for the difference of their
two logits. The last step is read at the last token of the answer, so that the reward of a whole answer, which is what
a sequence classifier gives, is that of its last step.

It wants rows ``{"prompt": ..., "completions": ["step", ...], "labels": [true, ...]}``; steps are parted by empty lines,
in training as in what is rewarded later. Where a wrong step makes all that follow worthless, mark them wrong too.

Example: ``objective: {name: process_reward_model}``. Two steps, the first right with r = 2 and the second wrong with
r = 1: -ln s(2) = 0.127 and -ln s(-1) = 1.313.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from tasks.language_models.encoding import IGNORED
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.reward_models.reward_objective import RewardObjective, reward_states
from tasks.training.rows import TokenizedRows


class ProcessRewards(RewardObjective):
    """Answers whose steps are right or wrong; ``labels`` are 1 and 0 where a step ends."""

    rows: ClassVar[RowKind] = "steps"
    sequences: ClassVar[int] = 1
    unit: ClassVar[str] = "step"
    figures: ClassVar[Mapping[str, str]] = {
        "right": "Share of steps whose reward has the right sign; one of 0 counts half",
        "good_reward": "Mean reward of the right steps",
        "bad_reward": "Mean reward of the wrong steps",
    }

    name: Literal["process_reward_model"] = "process_reward_model"

    def describe(self) -> str:
        return "a reward model of the steps of answers"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        from tasks.training.objectives.reward_models.steps import tokenize_steps

        return tokenize_steps(tables.answers, how)

    def units(self, inputs: Batch) -> int:
        return int((inputs["labels"] != IGNORED).sum())

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        from torch.nn.functional import softplus

        labels = inputs["labels"].flatten()
        places = (labels != IGNORED).nonzero().squeeze(1)
        good = labels[places].float()
        rewards = scorer.at_states(inputs, places, reward_states(scorer))
        signed = rewards * (2 * good - 1)
        detached, count = rewards.detach(), int(good.sum())
        right = (signed.detach() > 0).float() + 0.5 * (signed.detach() == 0).float()
        figures = {
            "right": (right.sum(), len(right)),
            "good_reward": ((detached * good).sum(), count),
            "bad_reward": ((detached * (1 - good)).sum(), len(good) - count),
        }
        return ObjectiveLoss(softplus(-signed).sum(), figures)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)

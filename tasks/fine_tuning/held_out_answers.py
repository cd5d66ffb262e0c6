"""What a trained model makes of held-out answers, whatever it was trained for, so that objectives can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.fine_tuning.loss.batches import collate, validation_batches
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.training.choices import VALIDATION_TOKENS
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.rows import TokenizedRows


@dataclass(frozen=True)
class HeldOutAnswers:
    """Answers that nothing was trained on.

    Attributes:
        best: Conversations with their answers, as supervised learning has them.
        pairs: A better and a worse answer to the same prompt, two sequences an item; of no items where there are none.
    """

    best: TokenizedRows
    pairs: TokenizedRows


def measure_answer_loss(trainer: FineTuner, rows: TokenizedRows) -> float:
    """Mean negative log-likelihood of the answers, nats per supervised token."""
    trainer.model.eval()
    scorer, loss = trainer.objective.scorer(trainer.model), CrossEntropy()
    total, tokens = 0.0, 0
    for batch in validation_batches(rows.lengths.tolist(), VALIDATION_TOKENS):
        inputs = trainer._prepare_inputs(collate(rows, batch, trainer.pad, packed=False))
        with torch.no_grad(), trainer.compute_loss_context_manager():
            total += scorer.sum(inputs, loss).total.item()
        tokens += int((inputs["labels"] != -100).sum())
    return total / tokens


def measure_preferences(trainer: FineTuner, pairs: TokenizedRows) -> float:
    """Share of the pairs whose better answer has the larger log-probability by token; equal ones count half."""
    trainer.model.eval()
    scorer = trainer.objective.scorer(trainer.model)
    held = 0.0
    for batch in validation_batches(pairs.lengths.tolist(), VALIDATION_TOKENS):
        inputs = trainer._prepare_inputs(collate(pairs, batch, trainer.pad, packed=False))
        with torch.no_grad(), trainer.compute_loss_context_manager():
            found = scorer.log_probabilities(inputs)
        by_token = found.sums().double() / found.lengths()
        better, worse = by_token[0::2], by_token[1::2]
        held += (better > worse).sum().item() + 0.5 * (better == worse).sum().item()
    return held / len(pairs)

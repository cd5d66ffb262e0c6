"""The model at work on batches, as objectives see it (`tasks.training.objectives.objective.Scorer`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from tasks.fine_tuning.loss.batch_loss import BatchLoss
from tasks.training.losses.loss import TrainingLoss
from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer, TokenValues


@dataclass(frozen=True)
class ModelScorer:
    """A scorer of a model.

    Attributes:
        batch_loss: Runs the model.
        model: As wrapped for training.
        token_loss: Of the plan.
        state: Of the objective.
        step: Of the run.
        referring: Opens the reference model.
    """

    batch_loss: BatchLoss
    model: Any
    token_loss: TrainingLoss
    state: Mapping[str, float]
    step: int
    referring: Callable[[ModelScorer], AbstractContextManager[Scorer]]

    def sum(self, inputs: Batch, loss: TrainingLoss) -> ObjectiveLoss:
        found = self.batch_loss.sum(self.model, inputs, loss, self.step)
        return ObjectiveLoss(found.total, {}, found.auxiliary)

    def log_probabilities(self, inputs: Batch) -> TokenValues:
        return self.at_tokens(inputs, _log_probability)

    def at_tokens(
        self, inputs: Batch, function: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor]
    ) -> TokenValues:
        positions, flat = self.batch_loss.find_supervised(inputs, self.step)
        values, auxiliary = self.batch_loss.each(self.model, inputs, positions, flat, function)
        sequences = inputs["sequences"].flatten()[flat]
        return TokenValues(values, sequences, _count_sequences(inputs), auxiliary)

    def at_ends(self, inputs: Batch, head: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        sequences = inputs["sequences"].flatten()
        places = torch.arange(len(sequences), device=sequences.device)
        ends = places.new_zeros(_count_sequences(inputs))
        inside = sequences >= 0
        ends = ends.scatter_reduce(0, sequences[inside], places[inside], "amax", include_self=False)
        return self.at_states(inputs, ends, head)

    def at_states(
        self, inputs: Batch, positions: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        return self.batch_loss.at_states(self.model, inputs, positions, head)

    def reference(self) -> AbstractContextManager[Scorer]:
        return self.referring(self)


def _count_sequences(inputs: Batch) -> int:
    return int(inputs["sequences"].max()) + 1


def _log_probability(logits: torch.Tensor, tokens: torch.Tensor, _: slice) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(logits, tokens, reduction="none")

"""A loss of a batch: the model on its rows, its output layer on their supervised tokens only, and the sum over them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.output_layer import restrict_positions, scale_logits, sum_in_parts
from tasks.language_models.encoding import IGNORED
from tasks.training.losses.loss import MAXIMUM_LOGITS, Supervision, TrainingLoss

logger = logging.getLogger(__name__)

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass(frozen=True)
class LossSum:
    """A loss over the supervised tokens of a batch.

    Attributes:
        total: Its sum, each token times its weight; a scalar with a gradient.
        tokens: Number of the tokens.
        auxiliary: Load-balancing loss of a mixture of experts; None for other models.
    """

    total: torch.Tensor
    tokens: int
    auxiliary: torch.Tensor | None


class BatchLoss:
    """Computes losses of a model.

    Args:
        model: As adapted, not wrapped.
        has_auxiliary: A mixture of experts whose configuration asks for a load-balancing loss.
    """

    def __init__(self, model: Any, has_auxiliary: bool) -> None:
        self.model, self.has_auxiliary = model, has_auxiliary
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self.sums_in_parts = True  # until the model does something to its logits that is not known

    def sum(self, model: Any, inputs: Any, loss: TrainingLoss, step: int) -> LossSum:
        """A loss summed over the supervised tokens of a batch.

        Args:
            model: As wrapped for training.
            inputs: What `collate` made.
            loss: The loss.
            step: Of the run, for the error.

        Raises:
            PipelineError: The batch has no supervised token, so it would count as learned.
        """
        labels = inputs["labels"]
        # The last position predicts nothing, so its column of the mask is False.
        keep = torch.nn.functional.pad(labels[:, 1:].ne(IGNORED), (0, 1))
        positions = keep.flatten().nonzero().squeeze(1)
        if not len(positions):
            raise PipelineError(
                f"step {step}: a batch of {len(labels)} rows has no supervised token; "
                "rows without one are to be dropped before training"
            )
        # Each position predicts the token after it.
        flat = (positions + 1).clamp(max=labels.numel() - 1)
        weights = inputs["weights"].flatten()[flat] if "weights" in inputs else None
        costs = None
        if "costs" in inputs:
            costs = (torch.searchsorted(flat, inputs["cost_places"]), inputs["cost_tokens"], inputs["costs"])
        supervision = Supervision(labels.flatten()[flat], weights, costs)
        model_inputs = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        if self.has_auxiliary:
            model_inputs["output_router_logits"] = True
        size = max(1, MAXIMUM_LOGITS // self.vocabulary)
        if len(positions) > size and self.sums_in_parts:
            found = self._sum_in_parts(model, model_inputs, positions, size, supervision, loss)
            if found is not None:
                return found
        with restrict_positions(self.model.get_output_embeddings(), positions):
            outputs = model(**model_inputs, use_cache=False)
        return LossSum(loss.total(outputs.logits.float(), supervision), len(positions), self._auxiliary(outputs))

    def _sum_in_parts(
        self,
        model: Any,
        model_inputs: dict[str, torch.Tensor],
        positions: torch.Tensor,
        size: int,
        supervision: Supervision,
        loss: TrainingLoss,
    ) -> LossSum | None:
        """The same in parts of ``size`` positions; None for a model that does more to its logits than is known."""

        def sum_part(logits: torch.Tensor, span: slice) -> torch.Tensor:
            return loss.total(scale_logits(logits.float(), self.model.config), supervision.part(span))

        with sum_in_parts(self.model.get_output_embeddings(), positions, size, sum_part) as sums:
            outputs = model(**model_inputs, use_cache=False)
        total = sums[0].sum()
        # The model did to the sum what it does to logits, so it shows whether all of that is known.
        known = scale_logits(total.detach(), self.model.config)
        if not torch.allclose(outputs.logits.detach().sum(), known, rtol=1e-5, equal_nan=True):
            logger.warning(
                "%s changes its logits in a way that is not known, so they are computed in one piece; lower "
                "training_setup.batch_size where memory is short",
                type(self.model).__name__,
            )
            self.sums_in_parts = False
            return None
        # Wrappers that gather weights see a backward pass by the gradient of the model's own result.
        return LossSum(total + 0.0 * outputs.logits.sum(), len(positions), self._auxiliary(outputs))

    def _auxiliary(self, outputs: Any) -> torch.Tensor | None:
        """The load-balancing loss of a mixture of experts whose configuration asks for it."""
        return outputs.aux_loss if self.has_auxiliary else None

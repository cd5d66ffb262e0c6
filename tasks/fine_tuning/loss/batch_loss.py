"""A loss of a batch: the model on its rows, its output layer on their supervised tokens only, and the sum over them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.loss.output_layer import (
    replaced_output,
    restrict_positions,
    sum_in_parts,
    values_in_parts,
)
from tasks.language_models.encoding import IGNORED
from tasks.language_models.logits import scale_logits
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
        positions, flat = self.find_supervised(inputs, step)
        weights = inputs["weights"].flatten()[flat] if "weights" in inputs else None
        costs = None
        if "costs" in inputs:
            costs = (torch.searchsorted(flat, inputs["cost_places"]), inputs["cost_tokens"], inputs["costs"])
        supervision = Supervision(inputs["labels"].flatten()[flat], weights, costs)
        model_inputs = self._model_inputs(inputs)
        size = self._part_size
        if len(positions) > size and self.sums_in_parts:
            found = self._sum_in_parts(model, model_inputs, positions, size, supervision, loss)
            if found is not None:
                return found
        with restrict_positions(self.model.get_output_embeddings(), positions):
            outputs = model(**model_inputs, use_cache=False)
        return LossSum(loss.total(outputs.logits.float(), supervision), len(positions), self._auxiliary(outputs))

    def find_supervised(self, inputs: Any, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The positions whose logits are wanted, and those of the tokens that they predict, both flattened.

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
        return positions, (positions + 1).clamp(max=labels.numel() - 1)

    def each(
        self,
        model: Any,
        inputs: Any,
        positions: torch.Tensor,
        flat: torch.Tensor,
        function: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What a function makes of the logits at some positions, and the load-balancing loss if there is one.

        Args:
            model: As wrapped for training.
            inputs: What `collate` made.
            positions: Of (rows x width), flattened.
            flat: Those of the right tokens.
            function: From logits in fp32, right tokens and place among the positions to numbers of each position.
        """
        tokens, size, model_inputs = inputs["labels"].flatten()[flat], self._part_size, self._model_inputs(inputs)
        if len(positions) > size and self.sums_in_parts:

            def value_part(logits: torch.Tensor, span: slice) -> torch.Tensor:
                return function(scale_logits(logits.float(), self.model.config), tokens[span], span)

            with values_in_parts(self.model.get_output_embeddings(), positions, size, value_part) as found:
                outputs = model(**model_inputs, use_cache=False)
            values = found[0]
            if self._knows(outputs, values):
                return values + 0.0 * outputs.logits.sum(), self._auxiliary(outputs)
        with restrict_positions(self.model.get_output_embeddings(), positions):
            outputs = model(**model_inputs, use_cache=False)
        return function(outputs.logits.float(), tokens, slice(0, len(positions))), self._auxiliary(outputs)

    def at_states(
        self, model: Any, inputs: Any, positions: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """What a head makes of the last hidden states at some positions; the output layer does not run.

        Args:
            model: As wrapped for training.
            inputs: What `collate` made.
            positions: Of (rows x width), flattened.
            head: From (positions, width).
        """
        with replaced_output(self.model.get_output_embeddings(), positions, head) as found:
            outputs = model(**self._model_inputs(inputs), use_cache=False)
        values: torch.Tensor = found[0] + 0.0 * outputs.logits.sum()
        return values

    @property
    def _part_size(self) -> int:
        """Positions whose logits are computed at once."""
        return max(1, MAXIMUM_LOGITS // self.vocabulary)

    def _model_inputs(self, inputs: Any) -> dict[str, Any]:
        model_inputs = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        return {**model_inputs, "output_router_logits": True} if self.has_auxiliary else model_inputs

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
        if not self._knows(outputs, total):
            return None
        # Wrappers that gather weights see a backward pass by the gradient of the model's own result.
        return LossSum(total + 0.0 * outputs.logits.sum(), len(positions), self._auxiliary(outputs))

    def _knows(self, outputs: Any, values: torch.Tensor) -> bool:
        """Whether all that the model does to its logits is known: it did the same to what took their place."""
        known = scale_logits(values.detach(), self.model.config).double().sum()
        if torch.allclose(outputs.logits.detach().double().sum(), known, rtol=1e-5, equal_nan=True):
            return True
        logger.warning(
            "%s changes its logits in a way that is not known, so they are computed in one piece; lower "
            "training_setup.batch_size where memory is short",
            type(self.model).__name__,
        )
        self.sums_in_parts = False
        return False

    def _auxiliary(self, outputs: Any) -> torch.Tensor | None:
        """The load-balancing loss of a mixture of experts whose configuration asks for it."""
        return outputs.aux_loss if self.has_auxiliary else None

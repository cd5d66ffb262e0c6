"""Steps whose loss or gradient is not a number: they stop the run or are skipped, and their batches are saved."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.fine_tuning.curve import SKIPPED
from tasks.fine_tuning.loss.batches import Bins
from tasks.fine_tuning.trainer.watch import ADVICE
from tasks.language_models.encoding import IGNORED
from tasks.training.rows import TokenizedRows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass of a step: its rows of conversations, their tokens as the model got them, and the loss."""

    batch: Bins
    tokens: torch.Tensor
    loss: float


class StepGuard:
    """Looks at every loss and every gradient before it changes a weight.

    Args:
        trainer: The `FineTuner` whose steps they are; its plan says what happens to one that is not a number.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.passes: list[ForwardPass] = []  # of this step so far
        self.losses_before = torch.zeros(())

    def check_loss(self, loss: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss of a forward pass; of a step that is to be skipped, one with a gradient that is not a number.

        Args:
            loss: The loss of a batch, or of its part of a step.
            inputs: The batch; optimizers without a backward pass see one several times.

        Raises:
            PipelineError: It is not a number, and the plan says stop.
        """
        trainer = self.trainer
        if not self.passes:
            self.losses_before = trainer._tr_loss.clone()
        if self.passes and self.passes[-1].tokens is inputs["input_ids"]:
            self.passes.pop()
        number = trainer.state.global_step * trainer.plan.accumulation_steps + len(self.passes)
        self.passes.append(ForwardPass(trainer.own_batches[number], inputs["input_ids"], loss.item()))
        if math.isfinite(self.passes[-1].loss):
            return loss
        if trainer.plan.on_nan == "stop":
            raise self._describe(f"the training loss is {self.passes[-1].loss}")
        # An infinite loss may have a finite gradient. This one has none on any process, once gradients are averaged.
        return loss * math.nan

    def check_norm(self, norm: Any) -> Any:
        """The norm of a step's gradient; None for a step that is skipped.

        Raises:
            PipelineError: It is not a number, and the plan says stop or has skipped enough.
        """
        if not math.isfinite(float(norm)):
            # With fp16, a loss scaled too far gives infinite gradients by design; that step is left out by the scaler.
            if self.trainer.accelerator.scaler is None:
                if self.trainer.plan.on_nan == "stop":
                    raise self._describe(f"the norm of the gradient is {float(norm)}")
                self._skip()
            norm = None
        self.passes.clear()
        return norm

    def _skip(self) -> None:
        """Leave weights and optimizer as they are: optimizers pass over weights without a gradient."""
        trainer = self.trainer
        skipped = 1 + sum(SKIPPED in entry for entry in trainer.state.log_history)
        if skipped > trainer.plan.nan_limit:
            raise self._describe(f"{skipped} steps had a loss or gradient that is not a number")
        step, file = trainer.state.global_step + 1, self._save()
        logger.warning("step %s is skipped: its loss or gradient is not a number; its batch is in %s", step, file)
        for weights in trainer.model.parameters():
            weights.grad = None
        trainer._tr_loss.copy_(self.losses_before)
        trainer.log({SKIPPED: float(skipped)})

    def leave_out_skipped(self, logs: dict[str, float], steps: int) -> None:
        """Make a logged loss the mean of the steps that were not skipped; without any there is none.

        Args:
            logs: With the sum of the losses over ``steps`` as ``loss``; changed in place.
            steps: Steps since the previous log.
        """
        state = self.trainer.state
        first = state.global_step - steps
        skipped = sum(SKIPPED in entry and entry["step"] >= first for entry in state.log_history)
        if skipped == steps:
            del logs["loss"]
        elif skipped:
            logs["loss"] *= steps / (steps - skipped)

    def _describe(self, what: str) -> PipelineError:
        skip = "" if self.trainer.plan.on_nan == "skip" else ", or set on_nan: skip where a batch is at fault"
        step = self.trainer.state.global_step + 1
        return PipelineError(f"step {step}: {what}; {ADVICE}{skip}; its batch is in {self._save()}")

    def _save(self) -> Path:
        trainer, step = self.trainer, self.trainer.state.global_step + 1
        process = f"-process-{trainer.args.process_index}" if trainer.plan.world_size > 1 else ""
        file = trainer.checkpoints.folder / f"not-finite-step-{step:06d}{process}.json"
        facts = {"step": step, "learning_rate": trainer.plan.learning_rate_at(step - 1)}
        return save_batches(self.passes, trainer.splits.train, trainer.processing_class, file, facts)


def save_batches(
    passes: Sequence[ForwardPass], rows: TokenizedRows, tokenizer: Any, file: Path, facts: dict[str, Any]
) -> Path:
    """Write every conversation of a step with its id, tokens and text; the file's path.

    Args:
        passes: The forward passes of the step so far.
        rows: The training split.
        tokenizer: The base's.
        file: JSON to write; its folder is made.
        facts: What else is known of the step.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    described = [
        {
            "loss": str(one.loss),  # JSON has no NaN
            "conversations": [_describe(rows, index, tokenizer) for row in one.batch for index in row],
        }
        for one in passes
    ]
    write_json(file, {**facts, "batches": described})
    return file


def _describe(rows: TokenizedRows, index: int, tokenizer: Any) -> dict[str, Any]:
    tokens, labels = rows.item(index)
    return {
        "id": rows.ids[index] if rows.ids is not None else None,
        "row": index,
        "weight": 1.0 if rows.weights is None else float(rows.weights[index]),
        "supervised_tokens": int((labels != IGNORED).sum()),
        "tokens": tokens.tolist(),
        "text": tokenizer.decode(tokens.tolist()),
    }

"""The validation loss row by row, so that two trainings can be compared on the same rows."""

from __future__ import annotations

import numpy as np
import torch

from tasks.fine_tuning.batches import collate
from tasks.fine_tuning.trainer import FineTuner
from tasks.training.losses.cross_entropy import CrossEntropy


def measure_row_losses(trainer: FineTuner) -> np.ndarray:
    """Cross-entropy of each validation row, (rows, 2): sum over its supervised tokens, nats, and their number.

    Args:
        trainer: After training; each row is a batch of its own.
    """
    validation = trainer.splits.validation
    trainer.model.eval()
    found = []
    for index in range(len(validation)):
        inputs = trainer._prepare_inputs(collate(validation, [[index]], trainer.pad, packed=False))
        with torch.no_grad(), trainer.compute_loss_context_manager():
            row = trainer.sum_losses(trainer.model_wrapped, inputs, CrossEntropy())
        found.append((row.total.item(), row.tokens))
    return np.array(found, dtype=np.float64).reshape(-1, 2)

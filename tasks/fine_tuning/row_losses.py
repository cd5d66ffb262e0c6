"""The validation loss row by row, so that two trainings can be compared on the same rows."""

from __future__ import annotations

import numpy as np
import torch

from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.trainer.fine_tuner import FineTuner


def measure_row_losses(trainer: FineTuner) -> np.ndarray:
    """The validation loss of each item, (items, 2): its sum over the units, nats for tokens, and their number.

    Args:
        trainer: After training; each item is a batch of its own.
    """
    validation = trainer.splits.validation
    objective = trainer.plan.objective
    trainer.model.eval()
    found = []
    for index in range(len(validation)):
        inputs = trainer._prepare_inputs(collate(validation, [[index]], trainer.pad, packed=False))
        (inputs,) = trainer.objective.make([inputs], "validation")
        with torch.no_grad(), trainer.compute_loss_context_manager():
            row = objective.validation_loss(trainer.objective.scorer(trainer.model_wrapped), inputs)
        found.append((row.total.item(), objective.units(inputs)))
    return np.array(found, dtype=np.float64).reshape(-1, 2)

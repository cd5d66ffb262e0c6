"""Batch and accumulation with which one optimizer step sees every row of the training split exactly once."""

from __future__ import annotations

import math

from tasks.training_setup.params import TrainingSetup


def fit_full_batch(settings: TrainingSetup, largest: int, rows: int) -> tuple[int, int, list[str]]:
    """Batch size, accumulation steps, and why the numbers given do not go together.

    The batches of an epoch, the last of which may be smaller, are dealt out to the processes; each takes as many.

    Args:
        settings: Params of training setup.
        largest: Rows of a forward pass that fit; the number given where one is.
        rows: Rows of an epoch, after packing.
    """
    name, processes = settings.optimizer.name, settings.distribution.ranks(settings.processes)
    candidates = range(largest, 0, -1) if settings.batch_size == "auto" else (largest,)
    batch = next((size for size in candidates if math.ceil(rows / size) % processes == 0), largest)
    batches = math.ceil(max(rows, 1) / batch)
    accumulation = max(1, batches // processes)
    problems = []
    if batches % processes:
        problems.append(
            f"batch_size: {batch} makes {batches} batches of {rows} rows, which {processes} processes cannot share "
            f"evenly for a step of {name} over all of them; set batch_size: auto, or processes: 1"
        )
    if settings.accumulation_steps not in ("auto", accumulation):
        problems.append(
            f"accumulation_steps: {settings.accumulation_steps}, but a step of {name} takes all {rows} rows, which are "
            f"{accumulation} batches; set accumulation_steps: auto or take optimizer: {{name: sgd}}"
        )
    if settings.global_batch_size not in (None, rows):
        problems.append(
            f"global_batch_size: {settings.global_batch_size}, but a step of {name} takes all {rows} rows; set "
            "global_batch_size: null or take optimizer: {name: sgd}"
        )
    return batch, accumulation, problems

"""Rows of a forward pass and passes of a step: as given, or what is useful on the device and fits its memory."""

from __future__ import annotations

from collections.abc import Callable

from tasks.contracts.machine import Machine
from tasks.training_setup.counts import Counts
from tasks.training_setup.full_batch import fit_full_batch
from tasks.training_setup.params import ResolvableSetup

# Beyond about a thousand tokens a forward pass is no faster on a CPU, and packed rows are slower.
CPU_TOKENS = 1024
LARGEST_AUTO_BATCH = 64
# Of the memory limit, for an automatic batch; the rest is left for fragmentation.
USABLE_MEMORY_SHARE = 0.8


def choose_batch(
    settings: ResolvableSetup,
    counts: Counts,
    machine: Machine,
    rows: int,
    needs: Callable[[int], int],
    limit: int,
) -> tuple[int, int, list[str]]:
    """Batch size, accumulation steps, and why the numbers given do not go together.

    Args:
        settings: Params of training setup.
        counts: Tokens of the splits.
        machine: Where it will run.
        rows: Rows of an epoch, after packing.
        needs: Rows of a forward pass to the bytes of one process.
        limit: What one process may take, bytes.
    """
    if settings.optimizer.can.full_batch:
        if isinstance(settings.batch_size, int):
            return fit_full_batch(settings, settings.batch_size, rows)
        return fit_full_batch(settings, _auto_batch(settings, counts, machine, rows, needs, limit), rows)
    processes, global_batch = settings.distribution.ranks(settings.processes), settings.global_batch_size
    if global_batch is not None and global_batch % processes:
        return (
            1,
            1,
            [f"global_batch_size: {global_batch} does not divide by processes ({processes}); expected a multiple"],
        )
    rows_per_process = global_batch // processes if global_batch is not None else None
    if isinstance(settings.batch_size, int):
        batch = settings.batch_size
    else:
        batch = _auto_batch(settings, counts, machine, rows, needs, limit)
        if rows_per_process is not None and isinstance(settings.accumulation_steps, int):
            batch = max(1, rows_per_process // max(settings.accumulation_steps, 1))
        elif rows_per_process is not None:
            batch = max(n for n in range(1, batch + 1) if rows_per_process % n == 0)
    if isinstance(settings.accumulation_steps, int):
        accumulation = settings.accumulation_steps
    else:
        accumulation = max(1, rows_per_process // max(batch, 1)) if rows_per_process is not None else 1
    if global_batch is not None and batch * accumulation * processes != global_batch:
        return (
            batch,
            accumulation,
            [
                f"global_batch_size: {global_batch}, but batch_size {batch} x accumulation_steps {accumulation} x "
                f"processes {processes} = {batch * accumulation * processes}; make them agree or set one of them "
                "to auto"
            ],
        )
    return batch, accumulation, []


def _auto_batch(
    settings: ResolvableSetup,
    counts: Counts,
    machine: Machine,
    rows: int,
    needs: Callable[[int], int],
    limit: int,
) -> int:
    """The largest power of two that is useful on the device and fits its memory."""
    largest = LARGEST_AUTO_BATCH
    if machine.device == "cpu":
        mean = counts.tokens / max(counts.examples, 1)
        row = settings.max_tokens * settings.objective.sequences
        typical = row if settings.packing == "bfd" else max(mean, 1.0)
        largest = min(largest, max(1, int(CPU_TOKENS / typical)))
    size = 1
    while size * 2 <= min(largest, max(rows, 1)):
        if needs(size * 2) > USABLE_MEMORY_SHARE * limit:
            break
        size *= 2
    return size

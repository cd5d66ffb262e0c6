"""Memory that runs out while training: what would help, and one retry with half the batch where it was automatic.

Half the batch with twice the accumulation is the same number of rows a step. It is another plan, so its checkpoints lie
apart and ``models/tuned`` says what ran. A run that is repeated tries the whole batch first again.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from tasks.contracts.errors import PipelineError
from tasks.training.plan import Plan
from tasks.training.remedies import describe_remedies

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# PyTorch has a class of its own for GPUs alone; a rank's reason comes as text.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def survive_shortage(
    train: Callable[Concatenate[Plan, Arguments], Result],
) -> Callable[Concatenate[Plan, Arguments], Result]:
    """Run a training; where memory runs out, once more with half the batch if the plan chose it, or say what helps.

    Raises:
        PipelineError: Memory ran out, with the params that save most.
    """

    @functools.wraps(train)
    def run(plan: Plan, /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        smaller = halve_batch(plan)
        if smaller is None:
            return _told(plan, train, *arguments, **options)
        try:
            return train(plan, *arguments, **options)
        except Exception as error:
            if not is_shortage(error):
                raise
            reason = _first_line(error)
        # The failed run's tensors are gone only after the error that holds its frames.
        _release()
        logger.warning(
            "out of memory (%s): trying once more with %s rows a forward pass instead of %s, and %s accumulated",
            reason,
            smaller.batch_size,
            plan.batch_size,
            smaller.accumulation_steps,
        )
        return _told(smaller, train, *arguments, **options)

    return run


def halve_batch(plan: Plan) -> Plan | None:
    """The same rows a step in half the batch; None where the batch was given, or a step cannot be had in halves."""
    if not plan.auto_batch or plan.batch_size % 2 or not plan.optimizer.can.accumulates:
        return None
    accumulation = plan.accumulation_steps * 2
    if plan.optimizer.can.full_batch:  # a step ends where the rows do, and their last batch may be smaller
        batches = math.ceil(plan.rows / (plan.batch_size // 2))
        accumulation = batches // plan.world_size
        if batches % plan.world_size:
            return None
    return plan.model_copy(
        update={
            "batch_size": plan.batch_size // 2,
            "accumulation_steps": accumulation,
            "auto_batch": False,
            "batch_halved": True,
        }
    )


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU, on a CPU or in a rank."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, (RuntimeError, PipelineError)) and any(sign in str(error) for sign in SIGNS)


def _told(
    plan: Plan,
    train: Callable[Concatenate[Plan, Arguments], Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    try:
        return train(plan, *arguments, **options)
    except Exception as error:
        if not is_shortage(error):
            raise
        foreseen = f"{plan.predicted_memory_bytes / 2**30:.2f} of {plan.made_for.training_memory_bytes / 2**30:.2f} GiB"
        raise PipelineError(
            f"out of memory on {plan.device} ({_first_line(error)}), where the plan foresaw {foreseen}; "
            + describe_remedies(plan.remedies)
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()[:200].rstrip(". ")


def _release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

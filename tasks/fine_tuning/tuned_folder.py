"""``models/tuned``: what was trained, as its method saves it, and what it was trained from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tasks.contracts.errors import PipelineError, write_advice
from tasks.contracts.manifest import seal
from tasks.fine_tuning.checkpoints import RunOrigin, refusal
from tasks.fine_tuning.curve import find_last_loss, read_curve
from tasks.training.plan import Plan


@dataclass(frozen=True)
class TrainedModel:
    """What a trainer, or the ranks, leave behind.

    Attributes:
        model: Adapted, with the weights of the step that is kept.
        history: The trainer's log.
        steps: Optimizer steps done.
        kept_step: The step whose weights are kept.
        resumed_at: Step of the checkpoint that the run resumed from; 0 without one.
    """

    model: Any
    history: list[dict[str, Any]]
    steps: int
    kept_step: int
    resumed_at: int


def write_tuned(trained: TrainedModel, plan: Plan, origin: RunOrigin, initial: Path, tuned: Path) -> int:
    """Write what was trained, as the method saves it, and then the manifest.

    Returns:
        Size in bytes.

    Raises:
        PipelineError: The disk refused it; the checkpoints are untouched.
    """
    curve = [point for point in read_curve(trained.history) if point.step <= trained.kept_step]
    facts = {
        "method": plan.method.model_dump(),
        "objective": plan.objective.model_dump(),
        "quantization": plan.quantization.model_dump(),
        "base": origin.model,
        "data": origin.data,
        "plan": origin.plan,
        "batch_size": plan.batch_size,
        "accumulation_steps": plan.accumulation_steps,
        "libraries": origin.libraries,
        "steps": trained.steps,
        "kept_step": trained.kept_step,
        "seed": plan.seed,
        "final_loss": find_last_loss(curve),
        "final_validation_loss": next((p.eval_loss for p in reversed(curve) if p.eval_loss is not None), None),
    }
    try:
        shutil.rmtree(tuned, ignore_errors=True)
        tuned.mkdir(parents=True)
        files = [*plan.objective.save(trained.model, tuned), *plan.method.save(trained.model, tuned)]
        seal(tuned, files, facts)
    except (OSError, RuntimeError, SafetensorError, PipelineError) as error:
        reason = refusal(error)
        if reason is None:
            raise
        shutil.rmtree(tuned, ignore_errors=True)
        raise PipelineError(
            f"{tuned}: cannot write ({reason}); {write_advice(reason)} and run again, the last checkpoint is kept"
        ) from error
    return sum(path.stat().st_size for path in files)
